package vip

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/lab"
)

// A yard is a switch with two hosts that may hold addresses, and a client.
//
//	h1 10.77.0.1 ──┐
//	h2 10.77.0.2 ──┼─ switch
//	cl 10.77.0.9 ──┘
//
// The same in IPv6, with fd77::. On both hosts somebody answers UDP and TCP at the addresses in question, whether they are there or not.
// Holders are processes of their own, in the hosts' namespaces.
var (
	vip4 = netip.MustParseAddr("10.77.0.50")
	vip6 = netip.MustParseAddr("fd77::50")
	both = []netip.Addr{vip4, vip6}
)

const port = 7777

func newYard(t testing.TB) {
	t.Helper()
	lab.Need(t)
	ctx := context.WithoutCancel(t.Context())
	clean := func() {
		for _, ns := range []string{"h1", "h2", "cl"} {
			_ = exec.CommandContext(ctx, "ip", "netns", "del", ns).Run()
			_ = exec.CommandContext(ctx, "ip", "link", "del", "v"+ns).Run()
		}
		_ = exec.CommandContext(ctx, "ip", "link", "del", "switch").Run()
	}
	clean()
	t.Cleanup(clean)
	for _, name := range []string{"iptables", "ip6tables"} {
		_ = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("0"), 0)
	}
	run(t, "ip link add switch type bridge")
	run(t, "ip link set switch up")
	for ns, n := range map[string]int{"h1": 1, "h2": 2, "cl": 9} {
		run(t, "ip netns add "+ns)
		in(ns, func() {
			must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0))
			must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/dad_transmits", []byte("0"), 0))
		})
		for _, line := range []string{
			"link add v" + ns + " type veth peer name eth0 netns " + ns, "link set v" + ns + " master switch up",
			"-n " + ns + " link set lo up", fmt.Sprintf("-n %s addr add 10.77.0.%d/24 dev eth0", ns, n), fmt.Sprintf("-n %s addr add fd77::%d/64 dev eth0 nodad", ns, n),
			"-n " + ns + " link set eth0 up",
		} {
			run(t, "ip "+line)
		}
		if ns != "cl" {
			answer(t, ns)
		}
	}
}

func run(t testing.TB, words string) string {
	t.Helper()
	w := strings.Split(words, " ")
	for i := range w {
		w[i] = strings.ReplaceAll(w[i], "\u00a0", " ") // one that does not part words
	}
	out, err := exec.CommandContext(t.Context(), w[0], w[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", words, err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in does something in a network namespace.
func in(ns string, do func()) {
	err := lab.InSpace(filepath.Join("/run/netns", ns), func() error {
		do()
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// macOf is the address of a host's link.
func macOf(t testing.TB, ns string) (mac net.HardwareAddr) {
	t.Helper()
	in(ns, func() {
		l, err := net.InterfaceByName("eth0")
		must(t, err)
		mac = l.HardwareAddr
	})
	return mac
}

// freebind lets a socket have an address that is not there.
var freebind = net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if strings.HasSuffix(network, "6") {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); e != nil {
		return e
	}
	return err
}}

// accept hands each connection to a listener to a function of its own, until the test ends.
func accept(t testing.TB, l net.Listener, serve func(net.Conn)) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go serve(c)
		}
	}()
}

// answer has a host answer each datagram with what is in it and the host's name, and write to who connects, all the time.
func answer(t testing.TB, ns string) {
	t.Helper()
	for _, a := range both {
		family := "4"
		if a.Is6() {
			family = "6"
		}
		in(ns, func() {
			c, err := freebind.ListenPacket(t.Context(), "udp"+family, netip.AddrPortFrom(a, port).String())
			must(t, err)
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 100)
				for {
					n, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo(append(b[:n:n], ns...), from)
				}
			}()
			l, err := freebind.Listen(t.Context(), "tcp"+family, netip.AddrPortFrom(a, port).String())
			must(t, err)
			accept(t, l, func(c net.Conn) {
				for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
					if _, err := c.Write([]byte(ns)); err != nil {
						return
					}
				}
			})
		})
	}
}

// A process is a Holder on a host, in a process of its own, that does what it is told.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      io.Writer
	answers chan string
	events  chan string // conflicts, and changes

	mu    sync.Mutex
	until map[string]time.Duration // the last that it wanted to hold an address until
}

// start starts a Holder on a host.
func start(t testing.TB, ns, fence string) *process {
	t.Helper()
	p := begin(t, ns)
	p.do("open %s", fence)
	return p
}

func begin(t testing.TB, ns string) *process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	p := &process{t: t, until: map[string]time.Duration{}, answers: make(chan string), events: make(chan string, 10000)}
	p.cmd = exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, self)
	p.cmd.Env = append(os.Environ(), "SKERRY_VIP_HOLDER=1")
	p.cmd.Stderr = t.Output()
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	t.Cleanup(p.kill)
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			if w := strings.Fields(line); len(w) == 3 && w[0] == "!until" {
				n, _ := strconv.ParseInt(w[2], 10, 64)
				p.mu.Lock()
				p.until[w[1]] = time.Duration(n)
				p.mu.Unlock()
			} else if event, ok := strings.CutPrefix(line, "!"); ok {
				p.events <- event
			} else {
				p.answers <- line
			}
		}
	}()
	return p
}

// try has it do something, and is what it says.
func (p *process) try(words string, args ...any) (string, error) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, words+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	said, ok := <-p.answers
	if !ok {
		p.t.Fatalf("%s: the process ended", words)
	}
	if wrong, bad := strings.CutPrefix(said, "error "); bad {
		return "", fmt.Errorf("%s", wrong)
	}
	return said, nil
}

func (p *process) do(words string, args ...any) string {
	p.t.Helper()
	said, err := p.try(words, args...)
	if err != nil {
		p.t.Fatalf("%s: %v", fmt.Sprintf(words, args...), err)
	}
	return said
}

// event waits for one that begins so.
func (p *process) event(prefix string) string {
	p.t.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case e := <-p.events:
			if strings.HasPrefix(e, prefix) {
				return e
			}
		case <-limit:
			p.t.Fatalf("no event %q", prefix)
		}
	}
}

// last is the last deadline that it wanted for an address.
func (p *process) last(a netip.Addr) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until[a.String()]
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func TestMain(m *testing.M) {
	if os.Getenv("SKERRY_VIP_HOLDER") != "" {
		obey()
		return
	}
	os.Exit(m.Run())
}

// obey is what a process of a Holder does.
func obey() {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	var h *Holder
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		w := append(strings.Fields(lines.Text()), "", "", "", "")
		addr, _ := netip.ParseAddr(w[1])
		number, _ := strconv.ParseInt(w[2], 10, 64)
		var err error
		said := "ok"
		switch w[0] {
		case "open":
			h, err = Open(slog.New(slog.NewTextHandler(os.Stderr, nil)), Options{
				Fence:    w[1],
				Conflict: func(a netip.Addr, mac net.HardwareAddr) { say("!conflict %s %s", a, mac) },
				Changed:  func() { say("!changed") },
			})
		case "expect":
			h.Expect()
		case "hold":
			former, _ := netip.ParseAddr(w[3])
			err = h.Hold(addr, time.Duration(number), former)
		case "late": // what a process does that slept after it had looked at the clock
			err = h.fence.open(addr, time.Duration(number))
		case "keep": // for TTL, every so often
			every, _ := time.ParseDuration(w[3])
			ttl, _ := time.ParseDuration(w[2])
			renew := func() error {
				until := bootTime() + ttl
				say("!until %s %d", addr, until)
				return h.Hold(addr, until, netip.Addr{})
			}
			if err = renew(); err == nil {
				go func() {
					for range time.Tick(every) {
						_ = renew()
					}
				}()
			}
		case "drop":
			err = h.Drop(addr, w[2] == "lingers")
			said = strconv.FormatInt(int64(bootTime()), 10)
		case "state":
			said = fmt.Sprintf("%+v", h.State())
		case "eligible":
			said = "." + h.Eligible(addr)
		case "close":
			err = h.Close()
		}
		if err != nil {
			said = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		say("%s", said)
	}
}
