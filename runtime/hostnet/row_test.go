package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

// A row is the lab as three machines with two pods each, h1, h2 and h3, on two networks with a router in between:
//
//	h1 192.168.78.11 ─┐                 ┌─ bridge skerry0 10.42.1.1 ── h1p1 10.42.1.11, h1p2 .12
//	h2 192.168.78.12 ─┴─ router ─ h3 192.168.79.13
//
// Each masquerades what its pods send elsewhere, as Podman does.
type row struct {
	t    testing.TB
	nets map[int]*Net
	ends map[int]*WireGuard // of tunnels, where they are WireGuard's
	log  *journal
}

// journal is what was logged, by whoever and whenever.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

const rowSize = 3

func rowHost(n int) string       { return fmt.Sprintf("h%d", n) }
func rowPod(n, pod int) string   { return fmt.Sprintf("h%dp%d", n, pod) }
func rowPods(n int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.42.%d.0/24", n)) }

func rowPodAddr(n, pod int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 42, byte(n), byte(10 + pod)})
}

// rowAddr is a machine's address, and rowRouter its router's.
func rowAddr(n int) netip.Addr {
	if n == 3 {
		return netip.MustParseAddr("192.168.79.13")
	}
	return netip.AddrFrom4([4]byte{192, 168, 78, byte(10 + n)})
}

func rowRouter(n int) netip.Addr {
	a := rowAddr(n).As4()
	a[3] = 1
	return netip.AddrFrom4(a)
}

func newRow(t testing.TB) *row {
	t.Helper()
	lab.Need(t)
	r := &row{t: t, nets: map[int]*Net{}, ends: map[int]*WireGuard{}, log: &journal{}}
	ctx := context.WithoutCancel(t.Context())
	clean := func() {
		for _, w := range r.ends {
			w.Close()
		}
		for n := 1; n <= rowSize; n++ {
			for _, ns := range []string{rowHost(n), rowPod(n, 1), rowPod(n, 2)} {
				_ = exec.CommandContext(ctx, "ip", "netns", "del", ns).Run()
			}
			_ = exec.CommandContext(ctx, "ip", "link", "del", "u"+rowHost(n)).Run()
		}
		for _, l := range []string{"sklan1", "sklan3"} {
			_ = exec.CommandContext(ctx, "ip", "link", "del", l).Run()
		}
	}
	clean()
	t.Cleanup(clean)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	_ = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("0"), 0)
	for lan, addr := range map[string]netip.Addr{"sklan1": rowRouter(1), "sklan3": rowRouter(3)} {
		r.ip("link add " + lan + " type bridge")
		r.ip("addr add " + addr.String() + "/24 dev " + lan)
		r.ip("link set " + lan + " up")
	}
	for n := 1; n <= rowSize; n++ {
		r.machine(n)
		var err error
		r.ends[n], err = NewWireGuard(rowSeed(n), slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		must(t, err)
	}
	return r
}

// machine makes one of them, without anything of ours.
func (r *row) machine(n int) {
	h, lan := rowHost(n), "sklan1"
	if n == 3 {
		lan = "sklan3"
	}
	for _, line := range []string{
		"netns add " + h, "netns exec " + h + " sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1", "-n " + h + " link set lo up",
		"link add u" + h + " type veth peer name eth0 netns " + h, "link set u" + h + " master " + lan + " up",
		fmt.Sprintf("-n %s addr add %s/24 dev eth0", h, rowAddr(n)), "-n " + h + " link set eth0 up",
		fmt.Sprintf("-n %s route add default via %s", h, rowRouter(n)),
		"-n " + h + " link add skerry0 type bridge", fmt.Sprintf("-n %s addr add 10.42.%d.1/24 dev skerry0", h, n), "-n " + h + " link set skerry0 up",
	} {
		r.ip(line)
	}
	for pod := 1; pod <= 2; pod++ {
		p, port := rowPod(n, pod), fmt.Sprintf("v%d", pod)
		for _, line := range []string{
			"netns add " + p, "-n " + p + " link set lo up",
			"-n " + h + " link add " + port + " type veth peer name eth0 netns " + p, "-n " + h + " link set " + port + " master skerry0 up",
			fmt.Sprintf("-n %s addr add %s/24 dev eth0", p, rowPodAddr(n, pod)), "-n " + p + " link set eth0 up",
			fmt.Sprintf("-n %s route add default via 10.42.%d.1", p, n),
		} {
			r.ip(line)
		}
		answer(r.t, p, "tcp", 8080)
		answer(r.t, p, "udp", 8080)
	}
	r.in(n, func() error {
		rules := fmt.Sprintf("add table ip podman; add chain ip podman out { type nat hook postrouting priority srcnat; }; add rule ip podman out ip saddr %[1]s ip daddr != %[1]s masquerade", rowPods(n))
		out, err := exec.CommandContext(r.t.Context(), "nft", rules).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return errors.Join(err, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0), os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0))
	})
}

func (r *row) ip(line string) string {
	r.t.Helper()
	return run(r.t, "ip "+line)
}

// in does something on a machine.
func (r *row) in(n int, do func() error) {
	r.t.Helper()
	var err error
	in(rowHost(n), func() { err = do() })
	must(r.t, err)
}

// sh runs a command on a machine.
func (r *row) sh(n int, words string) string {
	r.t.Helper()
	return run(r.t, "ip netns exec "+rowHost(n)+" "+words)
}

// routes are those of a machine to all others, wherever they are.
func rowRoutes(n int, tunnel func(to int) bool) fleet.HostNet {
	want := fleet.HostNet{Pods: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}}
	for to := 1; to <= rowSize; to++ {
		if to == n {
			continue
		}
		r := fleet.Route{Node: fleet.NodeName(rowHost(to)), Pods: rowPods(to), Via: rowAddr(to), Tunnel: tunnel(to)}
		if r.Tunnel {
			want.Tunnel = fleet.Tunnel{Pods: rowPods(n), MTU: 1450, Port: 4789}
		}
		want.Routes = append(want.Routes, r)
	}
	return want
}

// byLink is a tunnel to and from h3 alone, which is on another network; always is one everywhere.
func byLink(n int) func(int) bool { return func(to int) bool { return n == 3 || to == 3 } }
func always(int) func(int) bool   { return func(int) bool { return true } }

// serve makes all machines' networks.
func (r *row) serve(tunnel func(n int) func(to int) bool) {
	r.t.Helper()
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, rowRoutes(n, tunnel(n)))
	}
}

func (r *row) serveOn(n int, want fleet.HostNet) {
	r.t.Helper()
	must(r.t, r.tryOn(n, want))
}

// tryOn is an agent's Serve on a machine.
func (r *row) tryOn(n int, want fleet.HostNet) (err error) {
	r.t.Helper()
	r.in(n, func() error {
		if r.nets[n] == nil {
			if r.nets[n], err = New(slog.New(slog.NewTextHandler(r.t.Output(), nil)), r.ends[n]); err != nil {
				return err
			}
		}
		err = r.nets[n].Serve(r.t.Context(), want)
		return nil
	})
	return err
}

// rowSeed is what a machine's key is made of.
func rowSeed(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 32) }

// encrypted is rowRoutes through WireGuard.
func (r *row) encrypted(n int) fleet.HostNet {
	want := rowRoutes(n, always(n))
	want.Tunnel = fleet.Tunnel{Pods: rowPods(n), MTU: 1420, Port: 51820, WireGuard: true}
	for i := range want.Routes {
		for to, end := range r.ends {
			if rowPods(to) == want.Routes[i].Pods {
				want.Routes[i].Key = end.Key()
			}
		}
	}
	return want
}

// encrypt makes all machines' networks so.
func (r *row) encrypt() {
	r.t.Helper()
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, r.encrypted(n))
	}
	r.meet(1, 2)
	r.meet(1, 3)
	r.meet(2, 3)
}

// meet waits until two machines have agreed on keys: where both ask at once, WireGuard has them ask again after five seconds.
func (r *row) meet(from, to int) {
	r.t.Helper()
	for begun := time.Now(); ; {
		_, _, err := ask(rowPod(from, 1), "udp", at(rowPodAddr(to, 1), 8080))
		if err == nil {
			return
		}
		if time.Since(begun) > 20*time.Second {
			r.t.Fatalf("h%d and h%d do not meet: %v", from, to, err)
		}
	}
}

// all has every pod ask every other one, and itself, by its own address. Each has to be seen as who it is.
func (r *row) all() {
	r.t.Helper()
	for from := range rowSize * 2 {
		for to := range rowSize * 2 {
			r.reaches(from/2+1, from%2+1, to/2+1, to%2+1)
		}
	}
}

func (r *row) reaches(from, fromPod, to, toPod int) {
	r.t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		who, seen, err := ask(rowPod(from, fromPod), proto, at(rowPodAddr(to, toPod), 8080))
		if err != nil || who != rowPod(to, toPod) || seen != rowPodAddr(from, fromPod).String() {
			r.t.Errorf("%s asks %s by %s: %q says that it is asked by %q: %v", rowPod(from, fromPod), rowPod(to, toPod), proto, who, seen, err)
		}
	}
}

// apart fails where a pod reaches one of another machine.
func (r *row) apart(from, to int) {
	r.t.Helper()
	if who, _, err := ask(rowPod(from, 1), "tcp", at(rowPodAddr(to, 1), 8080)); err == nil {
		r.t.Errorf("h%d's pod reaches %s", from, who)
	}
}

// state is all of a machine's network that others could have made, and we must leave as it is.
func (r *row) state(n int) string {
	r.t.Helper()
	var all strings.Builder
	for _, words := range []string{"ip link", "ip addr", "ip route show table all", "ip neigh show nud permanent", "bridge fdb", "nft list ruleset", "sysctl -a --pattern net.ipv[46].*conf"} {
		all.WriteString(r.sh(n, words))
	}
	return all.String()
}

// send is one datagram from a pod to another, with or without leave to cut it on its way. It is answered.
func (r *row) send(from, to, size, discover int) error {
	r.t.Helper()
	c, err := dial(rowPod(from, 1), "udp", at(rowPodAddr(to, 1), 8080))
	if err != nil {
		return err
	}
	defer c.Close()
	return exchangeOf(c, size, discover)
}
