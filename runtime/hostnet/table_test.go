package hostnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// paper is a Net without a kernel. forgot is what was asked of connection tracking.
func paper() (n *Net, nft *knftables.Fake, forgot *[]stale) {
	nft, forgot = knftables.NewFake("", ""), new([]stale)
	n = with(slog.New(slog.DiscardHandler), nft, kernel{
		forget:     func(s stale) error { *forgot = append(*forgot, s); return nil },
		generation: func() (uint32, error) { return 0, nil },
		hold:       func([]netip.Addr) error { return nil },
		lay:        func([]fleet.Route, fleet.Tunnel) error { return nil },
		count: func(_ context.Context, family knftables.Family) (map[string]int, error) {
			var text strings.Builder
			for line := range strings.Lines(nft.Dump()) {
				if strings.Fields(line)[2] == string(family) {
					text.WriteString(line)
				}
			}
			return tally(text.String()), nil
		},
	})
	return n, nft, forgot
}

// crowd is a HostNet of n fronts with m ends each.
func crowd(n, m int) fleet.HostNet {
	want := fleet.HostNet{Pods: pods}
	for i := range n {
		f := aFront(tcp, netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(i % 250)}), 80, nil)
		for j := range m {
			f.Ends = append(f.Ends, fleet.End{Addr: netip.AddrFrom4([4]byte{10, byte(88 + j), byte(i / 250), byte(i % 250)}), Port: 8080})
		}
		want.Fronts = append(want.Fronts, f)
	}
	return want
}

func TestChangeOfEndsIsElements(t *testing.T) {
	n, nft, _ := paper()
	want := crowd(1000, 5)
	must(t, n.Serve(t.Context(), want))
	first := nft.LastTransaction
	must(t, n.Serve(t.Context(), want))
	if nft.LastTransaction != first {
		t.Errorf("nothing changed, and this is written:\n%s", nft.LastTransaction)
	}
	change := func(ends []fleet.End) {
		want.Fronts = slices.Clone(want.Fronts)
		want.Fronts[500].Ends = ends
		must(t, n.Serve(t.Context(), want))
	}
	was := want.Fronts[500].Ends
	other := fleet.End{Addr: netip.MustParseAddr("10.99.0.1"), Port: 8080}
	for _, c := range []struct {
		name string
		ends []fleet.End
		want string
	}{
		{"one goes", was[1:], `
delete element ip skerry sk-fronts { 10.96.2.0 . tcp . 80 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 0 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 4 }
add element ip skerry sk-fronts { 10.96.2.0 . tcp . 80 : goto sk-share-4 }
add element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 0 : 10.92.2.0 . 8080 }
`},
		{"it comes back", was, `
delete element ip skerry sk-fronts { 10.96.2.0 . tcp . 80 }
add element ip skerry sk-fronts { 10.96.2.0 . tcp . 80 : goto sk-share-5 }
add element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 4 : 10.88.2.0 . 8080 }
`},
		{"one for another", append(slices.Clone(was[:4]), other), `
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 0 }
add element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 0 : 10.99.0.1 . 8080 }
add element ip skerry sk-self { 10.99.0.1 . 10.99.0.1 }
`},
		{"all go", nil, `
delete element ip skerry sk-fronts { 10.96.2.0 . tcp . 80 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 0 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 1 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 2 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 3 }
delete element ip skerry sk-ends { 10.96.2.0 . tcp . 80 . 4 }
delete element ip skerry sk-self { 10.92.2.0 . 10.92.2.0 }
add element ip skerry sk-refused { 10.96.2.0 . tcp . 80 : goto sk-reject }
`},
	} {
		change(c.ends)
		if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), nft.LastTransaction.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestNewFrontIsElements(t *testing.T) {
	n, nft, _ := paper()
	must(t, n.Serve(t.Context(), hostNet(aFront(tcp, vip, 80, ends(1)))))
	dropped := aFront(sctp, netip.Addr{}, 30001, nil)
	dropped.Verdict = fleet.Drop
	masq := aFront(udp, netip.Addr{}, 30000, append(ends(1, 2), ends6(3)...))
	masq.Masquerade = true
	must(t, n.Serve(t.Context(), hostNet(aFront(tcp, vip, 80, ends(1)), dropped, masq)))
	want := `
add element ip skerry sk-node-refused { sctp . 30001 : drop }
add element ip skerry sk-node-fronts { udp . 30000 : goto sk-node-share-2 }
add element ip skerry sk-node-ends { udp . 30000 . 0 : 10.88.0.11 . 8080 }
add element ip skerry sk-node-ends { udp . 30000 . 1 : 10.88.0.12 . 8080 }
add element ip skerry sk-node-masq { udp . 30000 }
add element ip skerry sk-self { 10.88.0.12 . 10.88.0.12 }
add element ip6 skerry sk-node-refused { sctp . 30001 : drop }
add element ip6 skerry sk-node-fronts { udp . 30000 : goto sk-node-share-1 }
add element ip6 skerry sk-node-ends { udp . 30000 . 0 : fd88::13 . 8080 }
add element ip6 skerry sk-node-masq { udp . 30000 }
add element ip6 skerry sk-self { fd88::13 . fd88::13 }
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), nft.LastTransaction.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestManyEndsAddARuleOnce(t *testing.T) {
	n, nft, _ := paper()
	must(t, n.Serve(t.Context(), crowd(1, 16)))
	for i, c := range []struct{ ends, rules int }{{17, 2}, {3, 0}, {17, 0}, {18, 2}} {
		before := strings.Count(nft.Dump(), "add rule")
		must(t, n.Serve(t.Context(), crowd(1, c.ends)))
		if got := strings.Count(nft.Dump(), "add rule") - before; got != c.rules {
			t.Errorf("%d: %d rules for %d ends, want %d", i, got, c.ends, c.rules)
		}
	}
}

func TestNothingWantedWritesAsLittle(t *testing.T) {
	n, nft, _ := paper()
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	want := "add table ip skerry\ndelete table ip skerry\nadd table ip6 skerry\ndelete table ip6 skerry\n"
	if got := nft.LastTransaction.String(); got != want {
		t.Errorf("the first time:\n%s", got)
	}
	last := nft.LastTransaction
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	if nft.LastTransaction != last {
		t.Errorf("then:\n%s", nft.LastTransaction)
	}
	must(t, n.Serve(t.Context(), crowd(1, 1)))
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	if len(nft.Tables[knftables.IPv4Family])+len(nft.Tables[knftables.IPv6Family]) != 0 {
		t.Errorf("left:\n%s", nft.Dump())
	}
}

func TestPlaceKeepsWhatCanStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfNDistinct(rapid.IntRange(1, 30), 0, 20, rapid.ID)
		have, want := ends(some.Draw(t, "have")...), ends(some.Draw(t, "want")...)
		slices.SortFunc(want, fleet.End.Compare)
		got := place(have, want)
		sorted := slices.SortedFunc(slices.Values(got), fleet.End.Compare)
		if !slices.Equal(sorted, want) {
			t.Fatalf("place(%v, %v) = %v", have, want, got)
		}
		for i, e := range have {
			if i < len(want) && slices.Contains(want, e) && got[i] != e {
				t.Fatalf("%v moved: place(%v, %v) = %v", e, have, want, got)
			}
		}
	})
}

// Whatever came before, the tables are in the end as if they had been written at once; the fake sees that nothing is removed
// that is not there or somebody needs.
func TestHistoriesEndTheSame(t *testing.T) {
	front := rapid.Custom(func(t *rapid.T) fleet.Front {
		f := fleet.Front{
			Protocol: rapid.SampledFrom([]corev1.Protocol{tcp, udp, sctp}).Draw(t, "protocol"),
			Addr:     rapid.SampledFrom([]netip.Addr{{}, vip, vip6, netip.MustParseAddr("10.96.0.11")}).Draw(t, "addr"),
			Number:   rapid.SampledFrom([]uint16{80, 81}).Draw(t, "number"),
			Sticky:   rapid.SampledFrom([]time.Duration{0, 0, time.Minute, time.Hour}).Draw(t, "sticky"),
			Verdict:  rapid.SampledFrom([]fleet.Verdict{fleet.Serve, fleet.Reject, fleet.Drop}).Draw(t, "verdict"),
		}
		f.Masquerade = rapid.Bool().Draw(t, "masquerade")
		all := append(ends(1, 2, 3, 4), ends6(1, 2, 3)...)
		f.Ends = rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 5, rapid.ID).Draw(t, "ends")
		slices.SortFunc(f.Ends, fleet.End.Compare)
		f.From = rapid.SampledFrom([][]netip.Prefix{nil, nil, {}, pods, pods[:1]}).Draw(t, "from")
		return f
	})
	gate := rapid.Custom(func(t *rapid.T) (g fleet.Gate) {
		if g.Closed = rapid.Bool().Draw(t, "closed"); g.Closed {
			g.Passes = rapid.SampledFrom([][]fleet.Pass{nil, {{Last: 65535}}, {{Peers: pods[:1], Protocol: tcp, First: 80, Last: 90}}}).Draw(t, "passes")
		}
		return g
	})
	fence := rapid.Custom(func(t *rapid.T) fleet.Fence {
		return fleet.Fence{Pod: rapid.SampledFrom([]netip.Addr{podAddr(1), podAddr(2)}).Draw(t, "pod"), Ingress: gate.Draw(t, "ingress"), Egress: gate.Draw(t, "egress")}
	})
	spots := func(f fleet.Front) string { return fmt.Sprint(f.Addr, f.Protocol, f.Number) }
	net := rapid.Custom(func(t *rapid.T) fleet.HostNet {
		n := fleet.HostNet{Fronts: rapid.SliceOfNDistinct(front, 0, 5, spots).Draw(t, "fronts")}
		slices.SortFunc(n.Fronts, fleet.FrontOrder)
		n.Tunnel.Port = rapid.SampledFrom([]uint16{0, 0, 4789, 8472}).Draw(t, "tunnel")
		n.Fences = rapid.SliceOfNDistinct(fence, 0, 2, func(f fleet.Fence) netip.Addr { return f.Pod }).Draw(t, "fences")
		n.Pods = rapid.SliceOfNDistinct(rapid.SampledFrom(pods), 0, 2, rapid.ID).Draw(t, "pods")
		return n
	})
	rapid.Check(t, func(t *rapid.T) {
		n, nft, _ := paper()
		for _, want := range rapid.SliceOfN(net, 1, 6).Draw(t, "history") {
			if rapid.Bool().Draw(t, "another process") {
				n.known, n.have = false, nil
			}
			if err := n.write(context.Background(), want, false); err != nil { //nolint:usetesting // rapid's t has none
				t.Fatal(err)
			}
			m, fresh, _ := paper()
			if err := m.write(context.Background(), want, false); err != nil { //nolint:usetesting // rapid's t has none
				t.Fatal(err)
			}
			if missing := selfOnly(selves(fresh), selves(nft)); len(missing) > 0 {
				t.Fatalf("after its history these are not there: %v", missing)
			}
			if diff := cmp.Diff(normal(fresh), normal(nft)); diff != "" {
				t.Fatalf("(-written at once +after its history):\n%s", diff)
			}
		}
		// Ends that went are known for one change more, and not for ever.
		var lately []string
		for i := 1; i <= 3; i++ {
			want := hostNet(aFront(tcp, vip, 90, ends(20+i)), aFront(tcp, vip6, 90, ends6(20+i)))
			m, fresh, _ := paper()
			if err := errors.Join(n.write(context.Background(), want, false), m.write(context.Background(), want, true)); err != nil { //nolint:usetesting // rapid's t has none
				t.Fatal(err)
			}
			if i > 1 {
				lately = append(lately, selves(fresh)...)
			}
		}
		if extra := selfOnly(selves(nft), lately); len(extra) > 0 {
			t.Fatalf("these never go: %v", extra)
		}
	})
}

// selves are the elements of sk-self.
func selves(nft *knftables.Fake) []string {
	var all []string
	for line := range strings.Lines(nft.Dump()) {
		if strings.Contains(line, "element") && strings.Contains(line, setSelf+" ") {
			all = append(all, line)
		}
	}
	return all
}

// selfOnly are those of a that are not in b.
func selfOnly(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}

// normal is what is in a fake, with slots, the order of ends and what is kept for a while left out.
func normal(nft *knftables.Fake) []string {
	var all []string
	for line := range strings.Lines(nft.Dump()) {
		if w := strings.Fields(line); strings.HasSuffix(w[4], "-ends") && w[1] == "element" {
			i := slices.Index(w, ":")
			line = strings.Join(slices.Delete(w, i-1, i), " ")
		}
		if strings.Contains(line, "element") && strings.Contains(line, "sk-self") {
			continue // one change later
		}
		if strings.Contains(line, "sk-sticky") && strings.HasPrefix(line, "add rule") {
			continue
		}
		all = append(all, strings.TrimSpace(line))
	}
	slices.Sort(all)
	return all
}

type brokenNFT struct {
	knftables.Interface
	fail int
}

func (b *brokenNFT) Run(ctx context.Context, tx *knftables.Transaction) error {
	if b.fail > 0 {
		b.fail--
		return errors.New("broken")
	}
	return b.Interface.Run(ctx, tx)
}

func TestFailedWriteIsRepeatedInFull(t *testing.T) {
	n, nft, _ := paper()
	b := &brokenNFT{Interface: nft}
	n.nft = b
	must(t, n.Serve(t.Context(), crowd(2, 2)))
	b.fail = 1
	must(t, n.Serve(t.Context(), crowd(2, 3)))
	if !strings.HasPrefix(nft.LastTransaction.String(), "add table ip skerry\ndelete table ip skerry\n") {
		t.Errorf("after a change failed:\n%s", nft.LastTransaction)
	}
	b.fail = 2
	if err := n.Serve(t.Context(), crowd(2, 4)); err == nil {
		t.Error("no error")
	}
	must(t, n.Serve(t.Context(), crowd(2, 4)))
	if !strings.HasPrefix(nft.LastTransaction.String(), "flush map ip skerry sk-ends\n") {
		t.Errorf("after both failed:\n%s", nft.LastTransaction)
	}
}

func TestForgettingIsRepeated(t *testing.T) {
	n, _, forgot := paper()
	fail := true
	forget := n.forget
	n.forget = func(s stale) error {
		_ = forget(s)
		if fail {
			return errors.New("broken")
		}
		return nil
	}
	want := hostNet(aFront(udp, vip, 80, ends(1)), aFront(tcp, vip, 80, ends(1)))
	if err := n.Serve(t.Context(), want); err == nil {
		t.Error("no error")
	}
	fail = false
	for range 4 {
		must(t, n.Serve(t.Context(), want))
	}
	if len(*forgot) != 1+sweeps {
		t.Errorf("asked for %v", *forgot)
	}
}

// TestAddressThatCannotBeHad keeps no flow from being forgotten, is asked for again, and does no harm to a pod that got the
// address of one that went meanwhile.
func TestAddressThatCannotBeHad(t *testing.T) {
	n, _, forgot := paper()
	held, fault := 0, errors.New("it is on no network of this machine")
	n.hold = func([]netip.Addr) error { held++; return fault }
	want := hostNet(aFront(tcp, vip, 80, ends(1)))
	want.Addrs = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	serve := func(here ...int) error {
		want.Here = nil
		for _, i := range here {
			want.Here = append(want.Here, podAddr(i))
		}
		return n.Serve(t.Context(), want)
	}
	for _, here := range [][]int{{1, 2}, {1}} {
		if _, partly := errors.AsType[host.Partly](serve(here...)); !partly {
			t.Error("rules are as they should be, and it is not said")
		}
	}
	if len(*forgot) == 0 {
		t.Error("flows to a pod that went are not forgotten")
	}
	cut := errors.New("interrupted")
	n.forget = func(stale) error { return cut }
	if err := serve(); !errors.Is(err, cut) || !errors.Is(err, fault) {
		t.Error(err)
	} else if _, partly := errors.AsType[host.Partly](err); partly {
		t.Error("flows go where they should not, and it is not said")
	}
	n.forget = func(s stale) error {
		if s.gone[podAddr(1)] {
			t.Error("flows of a pod that is here are forgotten")
		}
		return nil
	}
	fault = nil
	must(t, serve(1))
	before := held
	must(t, serve(1))
	if held == before {
		t.Error("an address that somebody took away is not taken again")
	}
}

// TestRulesOfOneChainComeBack: also those of a chain that not every table has.
func TestRulesOfOneChainComeBack(t *testing.T) {
	f, sticky := aFront(tcp, vip, 80, ends(1, 2)), aFront(tcp, vip, 81, ends(1, 2))
	f.From, sticky.Sticky = pods[:1], time.Minute
	want := hostNet(f, sticky)
	want.Tunnel.Port = 4789
	for _, prefix := range []string{tunnelHooks[0].prefix, sharePrefix + "2", nodeSharePrefix + "2", gatePrefix, stickyPrefix, endPrefix, chainForward} {
		n, nft, _ := paper()
		must(t, n.Serve(t.Context(), want))
		before := nft.Dump()
		at := strings.Index(before, "add rule ip skerry "+prefix)
		if at < 0 {
			t.Fatalf("no rule of %s", prefix)
		}
		chain := strings.Fields(before[at:])[4]
		tx := nft.NewTransaction()
		tx.Flush(&knftables.Chain{Family: knftables.IPv4Family, Table: tableName, Name: chain})
		must(t, nft.Run(t.Context(), tx))
		n.sure = false
		if lost, err := n.Check(t.Context()); !lost || err != nil {
			t.Errorf("%s: %v %v", chain, lost, err)
		}
		must(t, n.Serve(t.Context(), want))
		if diff := cmp.Diff(before, nft.Dump()); diff != "" {
			t.Errorf("%s: %s", chain, diff)
		}
	}
}

// TestPortsOfGates: a range of one port is no range to nft 1.0.1 and 1.0.2, and all that is in the transaction with it would fail.
func TestPortsOfGates(t *testing.T) {
	for want, p := range map[string]fleet.Pass{
		"return":                                 {Last: 65535},
		"meta l4proto tcp return":                {Protocol: tcp, Last: 65535},
		"meta l4proto tcp th dport 80 return":    {Protocol: tcp, First: 80, Last: 80},
		"meta l4proto tcp th dport 0-80 return":  {Protocol: tcp, Last: 80},
		"meta l4proto udp th dport 80-90 return": {Protocol: udp, First: 80, Last: 90},
	} {
		n, nft, _ := paper()
		net := hostNet()
		net.Fences = []fleet.Fence{{Pod: podAddr(1), Ingress: fleet.Gate{Closed: true, Passes: []fleet.Pass{p}}}}
		must(t, n.Serve(t.Context(), net))
		if all := nft.Dump(); !strings.Contains(all, gateOf(net.Fences[0].Ingress, into).name+" "+want+"\n") {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
}

func TestStaleFlows(t *testing.T) {
	have := map[knftables.Family]*table{}
	for _, f := range families {
		have[f], _ = wanted(f, hostNet(aFront(udp, vip, 80, ends(1, 2)), aFront(udp, vip, 81, ends(1)), aFront(udp, vip6, 80, ends6(1)),
			aFront(udp, netip.Addr{}, 30080, ends(1)), aFront(udp, machine, 30081, ends(2))), nil)
	}
	s := stale{have: have, local: map[netip.Addr]bool{machine: true}, due: map[key]int{
		{vip, "udp", 80}: 1, {vip6, "udp", 80}: 1, {proto: "udp", number: 30080}: 1, {proto: "udp", number: 30081}: 1,
		{netip.MustParseAddr("10.96.0.99"), "udp", 80}: 1,
	}, gone: map[netip.Addr]bool{podAddr(9): true}}
	for _, c := range []struct {
		name string
		to   string
		from string // whose answers are expected
		want bool
	}{
		{"to an end that is", "10.96.0.10:80", "10.88.0.11:8080", false},
		{"to an end that was", "10.96.0.10:80", "10.88.0.13:8080", true},
		{"to another port of an end", "10.96.0.10:80", "10.88.0.11:8081", true},
		{"from before the front", "10.96.0.10:80", "10.96.0.10:80", true},
		{"to a front that is gone", "10.96.0.99:80", "10.88.0.11:8080", true},
		{"to a front that did not change", "10.96.0.10:81", "10.88.0.13:8080", false},
		{"not through a front", "10.88.0.13:80", "10.88.0.13:80", false},
		{"IPv6 to an end that is", "[fd96::10]:80", "[fd88::11]:8080", false},
		{"IPv6 to an end that was", "[fd96::10]:80", "[fd88::12]:8080", true},
		{"node port", "192.168.77.1:30080", "10.88.0.11:8080", false},
		{"node port to an end that was", "192.168.77.1:30080", "10.88.0.12:8080", true},
		{"that port of another machine", "192.168.77.2:30080", "192.168.77.2:30080", false},
		{"to a pod that is no more", "10.96.0.10:81", "10.88.0.19:8080", true},
		{"front before node port", "192.168.77.1:30081", "10.88.0.12:8080", false},
	} {
		to, from := netip.MustParseAddrPort(c.to), netip.MustParseAddrPort(c.from)
		if got := s.has(flow{unix.IPPROTO_UDP, to, from}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		// A connection lives on, whoever is the front's end now; but not with a pod that is no more.
		if got := s.has(flow{unix.IPPROTO_TCP, to, from}); got != s.gone[from.Addr()] {
			t.Errorf("%s, TCP: %v", c.name, got)
		}
	}
}

// TestTunnelRules: those of tunnels are there with a tunnel only, and for its port.
func TestTunnelRules(t *testing.T) {
	n, nft, _ := paper()
	want := hostNet(aFront(tcp, vip, 80, ends(1)))
	for _, port := range []uint16{0, 4789, 8472, 8472, 0} {
		want.Tunnel.Port = port
		must(t, n.Serve(t.Context(), want))
		dump := nft.Dump()
		rules := 0
		if port > 0 {
			rules = 2
		}
		if got := strings.Count(dump, "notrack"); got != rules || got > 0 && strings.Count(dump, fmt.Sprintf("udp dport %d fib ", port)) != got {
			t.Errorf("with port %d:\n%s", port, dump)
		}
		if port == 0 && strings.Contains(dump, "tunnel") {
			t.Errorf("without a tunnel:\n%s", dump)
		}
	}
}
