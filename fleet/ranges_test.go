package fleet

import (
	"net/netip"
	"testing"
)

func TestRangeOf(t *testing.T) {
	network := netip.MustParsePrefix("10.42.0.0/16")
	p := netip.MustParsePrefix
	for _, test := range []struct {
		name  string
		nodes []Node
		want  string // of node b; empty: none
	}{
		{"the first of all", []Node{{Name: "b"}}, "10.42.0.0/24"},
		{"others have theirs", []Node{{Name: "a", Pods: p("10.42.0.0/24")}, {Name: "b"}, {Name: "c", Pods: p("10.42.1.0/24")}}, "10.42.2.0/24"},
		{"a gap is filled", []Node{{Name: "a", Pods: p("10.42.1.0/24")}, {Name: "b"}}, "10.42.0.0/24"},
		{"it keeps its own", []Node{{Name: "a"}, {Name: "b", Pods: p("10.42.7.0/24")}}, "10.42.7.0/24"},
		{"two took one: the first by name keeps it", []Node{{Name: "b", Pods: p("10.42.0.0/24")}, {Name: "c", Pods: p("10.42.0.0/24")}}, "10.42.0.0/24"},
		{"and the other takes another", []Node{{Name: "a", Pods: p("10.42.0.0/24")}, {Name: "b", Pods: p("10.42.0.0/24")}}, "10.42.1.0/24"},
		{"the network is another now", []Node{{Name: "b", Pods: p("10.9.0.0/24")}}, "10.42.0.0/24"},
		{"not a node", []Node{{Name: "a"}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := RangeOf(test.nodes, "b", network, 24)
			if ok != (test.want != "") || ok && got.String() != test.want {
				t.Errorf("%s, %t", got, ok)
			}
		})
	}
	full := []Node{{Name: "b"}}
	small := p("10.0.255.0/30")
	for i, name := range []NodeName{"w", "x", "y", "z"} {
		full = append(full, Node{Name: name, Pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 255, byte(i)}), 32)})
	}
	if got, ok := RangeOf(full, "b", small, 32); ok {
		t.Errorf("no range is left, and yet: %s", got)
	}
	if got, ok := RangeOf(full[:4], "b", small, 32); !ok || got != p("10.0.255.3/32") {
		t.Errorf("the last one: %s, %t", got, ok)
	}
	if a := after(p("10.42.255.0/24")); a != netip.MustParseAddr("10.43.0.0") {
		t.Errorf("after a carry: %s", a)
	}
	if a := after(p("255.255.255.0/24")); a.IsValid() {
		t.Errorf("after the end: %s", a)
	}
}
