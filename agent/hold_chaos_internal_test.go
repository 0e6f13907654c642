package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
	"github.com/skerry-dev/skerry/internal/lab/hosts"
	"github.com/skerry-dev/skerry/runtime/vip"
)

// What is tested here is all that keeps an address to one machine, put together as an agent has it, but for Podman and the store: leases by
// datagrams, hold.go and the fence in the kernel, in a process on each of three hosts. A fourth one is a client on their network.

var (
	chaosFaults = flag.Int("chaos.faults", 100, "how many faults TestAddressChaos has")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "what its faults follow from; 0: another one each time")
)

// member is what a process of a host is told.
type member struct {
	Name   string
	Fence  string
	Fast   bool
	Addr   netip.Addr
	Voters map[string]netip.Addr
}

const memberEnv = "SKERRY_CHAOS_MEMBER"

func TestMain(m *testing.M) {
	if text := os.Getenv(memberEnv); text != "" {
		var one member
		err := json.Unmarshal([]byte(text), &one)
		if err == nil {
			err = one.run()
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// run takes part until the process ends. It leaves the address to others from SIGUSR1 until SIGUSR2.
func (m member) run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	changed := make(chan struct{}, 1)
	machine, err := vip.Open(log, vip.Options{Fence: m.Fence, Changed: func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp", ":7443") //nolint:noctx // at once
	if err != nil {
		return err
	}
	node := lease.NewNode(lease.Config{Self: fleet.NodeName(m.Name), Conn: conn, Log: log})
	e := fleet.Electorate{Epoch: 1, Fast: m.Fast}
	var peers []lease.Peer
	for name, a := range m.Voters {
		e.Voters = append(e.Voters, fleet.NodeName(name))
		peers = append(peers, lease.Peer{Name: fleet.NodeName(name), Addr: netip.AddrPortFrom(a, 7443), Secret: []byte("of nobody else")})
	}
	slices.Sort(e.Voters)
	node.SetPeers(peers)
	node.Elect(e)
	failed := make(chan error, 1)
	go func() { failed <- node.Run(context.Background()) }()

	at := slices.Index(e.Voters, fleet.NodeName(m.Name))
	candidacies := []fleet.Candidacy{{Addr: m.Addr, Rank: at, Heir: e.Voters[(at+1)%len(e.Voters)]}}
	bell := newBell()
	h, leaving := NewHolder(node, log), false
	h.Use(machine, nil)
	h.tellTo(bell.ring)
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	for {
		if leaving {
			h.want(nil)
		} else {
			h.want(candidacies)
		}
		select {
		case err := <-failed:
			return err
		case s := <-signals:
			leaving = s == syscall.SIGUSR1
		case <-bell:
		case <-changed:
		}
	}
}

// ring is three hosts that may have an address, and a client.
type ring struct {
	t      testing.TB
	site   *hosts.Site
	nodes  []*hosts.Host
	client *hosts.Host
	addr   netip.Addr
	who    *lab.Who
	begin  func(h *hosts.Host) // starts the process of a host
}

const memberProcess = "member"

func newRing(t testing.TB, fast bool) *ring {
	t.Helper()
	site := hosts.NewBare(t, 4)
	r := &ring{t: t, site: site, nodes: site.Hosts[:3], client: site.Hosts[3], addr: netip.MustParseAddr("10.66.0.200")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	voters := map[string]netip.Addr{}
	for _, h := range r.nodes {
		voters[h.Name] = h.Address
	}
	r.begin = func(h *hosts.Host) {
		fence := map[string]string{"a": vip.FenceBPF, "b": vip.FenceNFT}[h.Name]
		raw, err := json.Marshal(member{Name: h.Name, Fence: fence, Fast: fast, Addr: r.addr, Voters: voters})
		if err != nil {
			t.Fatal(err)
		}
		h.Start(memberProcess, "env", memberEnv+"="+string(raw), self)
	}
	r.watch()
	return r
}

// watch begins to ask who has the address.
func (r *ring) watch() {
	r.t.Helper()
	err := r.client.In(func() (err error) {
		r.who, err = lab.AskWho("eth0", r.addr)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.who.Stop)
}

// start starts the processes of all hosts, and waits until one has the address.
func (r *ring) start() {
	r.t.Helper()
	for _, h := range r.nodes {
		r.begin(h)
	}
	r.holder(time.Now())
}

// holder waits until somebody answers who was asked after a moment.
func (r *ring) holder(since time.Time, not ...*hosts.Host) *hosts.Host {
	r.t.Helper()
	for begun := time.Now(); time.Since(begun) < 30*time.Second; <-time.After(2 * time.Millisecond) {
		mac := r.who.Last(since)
		if i := slices.IndexFunc(r.nodes, func(h *hosts.Host) bool { return h.MAC() == mac }); i >= 0 && !slices.Contains(not, r.nodes[i]) {
			return r.nodes[i]
		}
	}
	r.t.Fatalf("nobody has the address who should")
	return nil
}

// had is who had the address after a moment, in order.
func (r *ring) had(since time.Time) (names []string) {
	for _, one := range lab.Tenures(r.who.Answers()) {
		for _, h := range r.nodes {
			if h.MAC() == one.By && one.Until.After(since) && (len(names) == 0 || names[len(names)-1] != h.Name) {
				names = append(names, h.Name)
			}
		}
	}
	return names
}

func (r *ring) overlaps() []lab.Overlap { return lab.Overlaps(lab.Tenures(r.who.Answers())) }

// TestAddressPartitions: every line between three hosts cut, and each host cut off from both others, in either direction and in both; while the
// client sees all of them, and while it does not see who is cut off.
func TestAddressPartitions(t *testing.T) {
	r := newRing(t, true)
	r.start()
	const quiet = 450 * time.Millisecond // longer than a lease and a campaign
	names := []string{"the holder", "the standby", "the third"}
	for _, cut := range [][2][]int{{{0}, {1}}, {{0}, {2}}, {{1}, {2}}, {{0}, {1, 2}}, {{1}, {0, 2}}, {{2}, {0, 1}}} {
		for _, way := range []string{"both ways", "out", "in"} {
			for _, seen := range []bool{true, false} {
				from := names[cut[0][0]]
				to := names[cut[1][0]]
				if len(cut[1]) > 1 {
					to = "both others"
				}
				t.Run(fmt.Sprintf("%s and %s, %s, client sees all %v", from, to, way, seen), func(t *testing.T) {
					r.t = t
					before := r.holder(time.Now())
					order := append([]*hosts.Host{before}, slices.DeleteFunc(slices.Clone(r.nodes), func(h *hosts.Host) bool { return h == before })...)
					one := order[cut[0][0]]
					since := time.Now()
					if !seen {
						r.site.Cut(one, r.client)
					}
					for _, i := range cut[1] {
						switch way {
						case "out":
							r.site.OneWay(one, order[i])
						case "in":
							r.site.OneWay(order[i], one)
						default:
							r.site.Cut(one, order[i])
						}
					}
					moves := one == before && len(cut[1]) > 1
					if moves {
						next := r.holder(since, before)
						t.Logf("%s has it after %v", next.Name, time.Since(since).Round(time.Millisecond))
						<-time.After(quiet)
						if got := r.had(time.Now().Add(-quiet / 2)); slices.Contains(got, before.Name) {
							t.Errorf("%v have it", got)
						}
					} else {
						<-time.After(quiet)
						want := []string{before.Name}
						if !seen && one == before {
							want = nil
						}
						if got := r.had(since.Add(20 * time.Millisecond)); !slices.Equal(got, want) {
							t.Errorf("%v had it, want %v", got, want)
						}
					}
					healed := time.Now()
					r.site.HealAll()
					<-time.After(quiet / 2)
					r.holder(healed)
					if got := r.had(healed.Add(30 * time.Millisecond)); len(got) > 1 {
						t.Errorf("healed, it went from one to another: %v", got)
					}
				})
			}
		}
	}
	r.t = t
	for _, o := range r.overlaps() {
		t.Error(o)
	}
}

// TestAddressChaos: two never have an address, whatever befalls three hosts at random; and whenever all is well, one has it.
func TestAddressChaos(t *testing.T) {
	r := newRing(t, false)
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	r.start()
	begun := time.Now()
	c := &chaos{ring: r, dice: rand.New(rand.NewPCG(seed, 0)), undo: map[string]func(){}, log: map[string]int{}}
	for i := range *chaosFaults {
		c.fault()
		if i%20 == 19 {
			c.heal()
			healed := time.Now()
			r.holder(healed)
			c.healed = append(c.healed, time.Since(healed).Round(time.Millisecond))
		}
	}
	c.heal()
	r.holder(time.Now())
	took := time.Since(begun)
	r.who.Stop()
	tenures := lab.Tenures(r.who.Answers())
	var held time.Duration
	moves, last := 0, ""
	for _, one := range tenures {
		held += one.Until.Sub(one.From)
		if one.By != last {
			moves++
		}
		last = one.By
	}
	t.Logf("%d faults %v in %v: it changed hands %d times, somebody had it for %.0f %% of the time, and %v after all was well again",
		*chaosFaults, c.log, took.Round(time.Second), moves, 100*held.Seconds()/took.Seconds(), c.healed)
	if overlaps := r.overlaps(); len(overlaps) > 0 {
		t.Errorf("with seed %d there are %d times in which two had it: %v", seed, len(overlaps), overlaps[:min(len(overlaps), 10)])
	}
}

// chaos is what befalls hosts, and how to undo it.
type chaos struct {
	*ring
	dice   *rand.Rand
	undo   map[string]func() // what is not as it should be
	log    map[string]int
	healed []time.Duration // how long it took until one had the address again
}

// fault does one thing to a host or a line, or undoes it, and waits a little.
func (c *chaos) fault() {
	h := c.nodes[c.dice.IntN(3)]
	if c.dice.IntN(3) == 0 { // whoever has it is the one to whom most can happen
		mac := c.who.Last(time.Now().Add(-20 * time.Millisecond))
		if i := slices.IndexFunc(c.nodes, func(h *hosts.Host) bool { return h.MAC() == mac }); i >= 0 {
			h = c.nodes[i]
		}
	}
	other := c.nodes[c.dice.IntN(3)]
	for other == h {
		other = c.nodes[c.dice.IntN(3)]
	}
	kind := []string{"cut", "one way", "one way", "frozen", "frozen", "killed", "killed", "carrier", "alone", "planned"}[c.dice.IntN(10)]
	key := kind + " " + h.Name
	if undo := c.undo[key]; undo != nil {
		undo()
		delete(c.undo, key)
	} else {
		c.log[kind]++
		c.undo[key] = c.do(kind, h, other)
	}
	for len(c.undo) > 2 {
		list := slices.Sorted(func(yield func(string) bool) {
			for k := range c.undo {
				if !yield(k) {
					return
				}
			}
		})
		key := list[c.dice.IntN(len(list))]
		c.undo[key]()
		delete(c.undo, key)
	}
	<-time.After(time.Duration(c.dice.IntN(500)) * time.Millisecond)
}

func (c *chaos) do(kind string, h, other *hosts.Host) (undo func()) {
	send := func(s syscall.Signal) func() { return func() { h.Signal(memberProcess, s) } }
	running := func() bool {
		select {
		case <-h.Ended(memberProcess):
			return false
		default:
			return true
		}
	}
	switch kind {
	case "cut":
		c.site.Cut(h, other)
		return func() { c.site.Heal(h, other) }
	case "one way":
		c.site.OneWay(h, other)
		return func() { c.site.Heal(h, other) }
	case "alone":
		for _, n := range c.nodes {
			if n != h {
				c.site.Cut(h, n)
			}
		}
		return func() {
			for _, n := range c.nodes {
				if n != h {
					c.site.Heal(h, n)
				}
			}
		}
	case "frozen":
		send(syscall.SIGSTOP)()
		return send(syscall.SIGCONT)
	case "planned":
		send(syscall.SIGUSR1)()
		return send(syscall.SIGUSR2)
	case "carrier":
		h.PullPlug()
		return h.PutPlug
	default:
		if running() {
			h.Kill9(memberProcess)
		}
		return func() {
			if !running() {
				c.begin(h)
			}
		}
	}
}

// heal undoes all.
func (c *chaos) heal() {
	for _, undo := range c.undo {
		undo()
	}
	clear(c.undo)
}

// keepalived has hosts run that in place of ours.
func (r *ring) keepalived(every string) {
	r.t.Helper()
	if _, err := exec.LookPath("keepalived"); err != nil {
		r.t.Skip("keepalived is not installed (scripts/install-deps does)")
	}
	dir := r.t.TempDir()
	r.begin = func(h *hosts.Host) {
		path := filepath.Join(dir, h.Name+".conf")
		conf := fmt.Sprintf(`global_defs {
	router_id %s
	vrrp_version 3
}
vrrp_instance address {
	state BACKUP
	nopreempt
	interface eth0
	virtual_router_id 51
	priority %d
	advert_int %s
	virtual_ipaddress { %s/32 }
}
`, h.Name, 100+int(h.Name[0]-'a'), every, r.addr)
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			r.t.Fatal(err)
		}
		h.Exec("sh", "-c", "rm -f /run/keepalived*.pid /run/vrrp*.pid; ip addr del "+r.addr.String()+"/32 dev eth0 2>/dev/null; true")
		h.Start(memberProcess, "keepalived", "--dont-fork", "--vrrp", "--log-console", "--use-file", path)
	}
}

// TestKeepalivedIsCaught: the checker sees that two have an address where that is so.
func TestKeepalivedIsCaught(t *testing.T) {
	r := newRing(t, false)
	r.keepalived("0.1")
	r.start()
	r.site.Partition(r.nodes[:1], r.nodes[1:2], r.nodes[2:])
	<-time.After(time.Second)
	r.site.HealAll()
	overlaps := r.overlaps()
	if len(overlaps) == 0 {
		t.Fatal("two have the address, and nobody notices")
	}
	t.Log(overlaps)
}

// pings are questions to the address each millisecond, as clients have them: to whom they believe it to be.
type pings struct {
	conn net.Conn
	ends sync.WaitGroup
	done chan struct{}

	mu    sync.Mutex
	asked []time.Time
	came  []bool
}

func (r *ring) ping() *pings {
	r.t.Helper()
	p := &pings{done: make(chan struct{})}
	err := r.client.In(func() (err error) {
		p.conn, err = net.Dial("ip4:icmp", r.addr.String()) //nolint:noctx // at once
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	p.ends.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			p.mu.Lock()
			number := uint32(len(p.asked))
			p.asked, p.came = append(p.asked, time.Now()), append(p.came, false)
			p.mu.Unlock()
			b := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0, 0x5e, 0x11, 0, 0}, number)
			var sum uint32
			for i := 0; i < len(b); i += 2 {
				sum += uint32(binary.BigEndian.Uint16(b[i:]))
			}
			binary.BigEndian.PutUint16(b[2:], ^uint16(sum>>16+sum&0xffff))
			_, _ = p.conn.Write(b)
			select {
			case <-p.done:
				return
			case <-tick.C:
			}
		}
	})
	p.ends.Go(func() {
		b := make([]byte, 200)
		for {
			n, err := p.conn.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			head := 4 * int(b[0]&0xf) // of IP
			if err != nil || n < head+12 || b[head] != 0 {
				continue
			}
			p.mu.Lock()
			if number := binary.BigEndian.Uint32(b[head+8:]); int(number) < len(p.came) {
				p.came[number] = true
			}
			p.mu.Unlock()
		}
	})
	r.t.Cleanup(p.stop)
	return p
}

func (p *pings) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	close(p.done)
	_ = p.conn.Close()
	p.ends.Wait()
}

// gap is the longest time without an answer that began after a moment, and whether it is over.
func (p *pings) gap(since time.Time) (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := time.Time{}
	for i := range p.asked {
		if !p.came[i] {
			continue
		}
		if !last.IsZero() && p.asked[i].After(since) {
			longest = max(longest, p.asked[i].Sub(last))
		}
		last = p.asked[i]
	}
	return longest
}

// BenchmarkAddressGap: for how long a client is not answered at an address, beside keepalived.
func BenchmarkAddressGap(b *testing.B) {
	const crashes = 20
	medians := map[string]time.Duration{}
	for _, c := range []struct{ name, every string }{{"skerry", ""}, {"skerry fast", ""}, {"keepalived 1 s", "1"}, {"keepalived 0.1 s", "0.1"}} {
		b.Run("power cut, "+c.name, func(b *testing.B) {
			r := newRing(b, c.name == "skerry fast")
			if c.every != "" {
				r.keepalived(c.every)
			}
			r.start()
			p := r.ping()
			for b.Loop() {
				medians[c.name] = r.gaps(b, crashes, p, func(h *hosts.Host) { h.PowerCut() }, func(h *hosts.Host) {
					h.PowerOn()
					r.begin(h)
				})
			}
		})
	}
	b.Logf("keepalived's gap is %.1f times ours, and with 0.1 s %.2f times ours in its fast mode",
		medians["keepalived 1 s"].Seconds()/medians["skerry"].Seconds(), medians["keepalived 0.1 s"].Seconds()/medians["skerry fast"].Seconds())
	for name, c := range map[string]struct{ do, undo func(r *ring, h *hosts.Host) }{
		"planned":      {func(_ *ring, h *hosts.Host) { h.Signal(memberProcess, syscall.SIGUSR1) }, func(_ *ring, h *hosts.Host) { h.Signal(memberProcess, syscall.SIGUSR2) }},
		"agent killed": {func(_ *ring, h *hosts.Host) { h.Kill9(memberProcess) }, func(r *ring, h *hosts.Host) { r.begin(h) }},
		"agent frozen": {func(_ *ring, h *hosts.Host) { h.Signal(memberProcess, syscall.SIGSTOP) }, func(_ *ring, h *hosts.Host) { h.Signal(memberProcess, syscall.SIGCONT) }},
	} {
		b.Run(name, func(b *testing.B) {
			r := newRing(b, false)
			r.start()
			p := r.ping()
			for b.Loop() {
				r.gaps(b, crashes, p, func(h *hosts.Host) { c.do(r, h) }, func(h *hosts.Host) { c.undo(r, h) })
			}
		})
	}
}

// gaps is the median of gaps that follow from what is done to the holder, again and again.
func (r *ring) gaps(b *testing.B, times int, p *pings, do, undo func(h *hosts.Host)) time.Duration {
	b.Helper()
	var all []time.Duration
	for range times {
		at := r.holder(time.Now())
		<-time.After(700 * time.Millisecond) // those who were away vote again
		since := time.Now()
		do(at)
		r.holder(since, at)
		<-time.After(300 * time.Millisecond)
		gap := p.gap(since)
		if gap == 0 {
			b.Error("the client was never answered again")
		}
		all = append(all, gap.Round(100*time.Microsecond))
		undo(at)
	}
	if overlaps := r.overlaps(); len(overlaps) > 0 {
		b.Error(overlaps)
	}
	slices.Sort(all)
	b.Log(all)
	b.ReportMetric(all[len(all)/2].Seconds()*1000, "ms/median")
	b.ReportMetric(all[len(all)-1].Seconds()*1000, "ms/longest")
	b.ReportMetric(0, "ns/op")
	return all[len(all)/2]
}

// BenchmarkAddressStays: on a machine whose cores are all busy no lease is lost.
func BenchmarkAddressStays(b *testing.B) {
	r := newRing(b, false)
	r.start()
	for i := range 2 {
		r.client.Start(fmt.Sprint("busy", i), "sh", "-c", "while :; do :; done")
	}
	for b.Loop() {
		since := time.Now()
		<-time.After(2 * time.Minute)
		if got := r.had(since); len(got) != 1 {
			b.Errorf("%v had it", got)
		}
		lost := 0
		for _, h := range r.nodes {
			lost += strings.Count(h.Output(memberProcess), "VIPLost")
		}
		b.ReportMetric(float64(lost), "lost")
		b.ReportMetric(float64(lab.Longest(r.who.Answers(), since).Milliseconds()), "ms/longest-silence")
	}
	b.ReportMetric(0, "ns/op")
}
