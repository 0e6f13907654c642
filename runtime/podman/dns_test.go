package podman

import (
	"net"
	"slices"
	"testing"

	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/runtime/host"
)

func TestParseResolver(t *testing.T) {
	for text, want := range map[string]host.DNS{
		"":                                {},
		"# nameserver 192.0.2.1\n; x y\n": {},
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 127.0.0.53\nnameserver ::1\nnameserver nonsense\nnameserver\n": {Nameservers: []string{"192.0.2.1", "2001:db8::1"}},
		"search a.example b.example\nsearch c.example":  {Searches: []string{"c.example"}}, // the last counts
		"options ndots:2\noptions\tedns0 timeout:1 # x": {Options: []string{"ndots:2", "edns0", "timeout:1", "#", "x"}},
		"sortlist 192.0.2.0\nlookup file bind\n":        {},
	} {
		got := parseResolver(text)
		got.Options = slices.DeleteFunc(got.Options, func(o string) bool { return o == "#" || o == "x" }) // harmless
		want.Options = slices.DeleteFunc(want.Options, func(o string) bool { return o == "#" || o == "x" })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestMergeResolvers(t *testing.T) {
	machine := host.DNS{Nameservers: []string{"192.0.2.1", "192.0.2.2"}, Searches: []string{"a.example"}, Options: []string{"ndots:1", "edns0", "timeout:5"}}
	for _, c := range []struct {
		name             string
		have, more, want host.DNS
	}{
		{"nothing", machine, host.DNS{}, machine},
		{"to nothing", host.DNS{}, machine, machine},
		{"the same", machine, machine, host.DNS{Nameservers: machine.Nameservers, Searches: machine.Searches, Options: machine.Options}},
		{"more comes behind", machine, host.DNS{Nameservers: []string{"192.0.2.3", "192.0.2.1"}, Searches: []string{"b.example", "a.example"}},
			host.DNS{Nameservers: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, Searches: []string{"a.example", "b.example"}, Options: machine.Options}},
		{"an option replaces its like", machine, host.DNS{Options: []string{"ndots:5", "rotate", "timeout:1"}},
			host.DNS{Nameservers: machine.Nameservers, Searches: machine.Searches, Options: []string{"edns0", "ndots:5", "rotate", "timeout:1"}}},
		{"the last of its like", host.DNS{}, host.DNS{Options: []string{"ndots:1", "ndots:2"}}, host.DNS{Options: []string{"ndots:2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := host.DNS{Nameservers: slices.Clone(c.have.Nameservers), Searches: slices.Clone(c.have.Searches), Options: slices.Clone(c.have.Options)}
			if diff := cmp.Diff(c.want, merge(have, c.more), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResolver(t *testing.T) {
	var p specgen.PodSpecGenerator
	if err := resolver(&p, host.DNS{}); err != nil || len(p.DNSServer)+len(p.DNSSearch)+len(p.DNSOption) > 0 {
		t.Errorf("who asks for nothing has %v %v %v, %v", p.DNSServer, p.DNSSearch, p.DNSOption, err)
	}
	alone := host.DNS{Alone: true, Nameservers: []string{"192.0.2.53", "2001:db8::53"}, Searches: []string{"a.example"}, Options: []string{"ndots:2"}}
	if err := resolver(&p, alone); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]net.IP{net.ParseIP("192.0.2.53"), net.ParseIP("2001:db8::53")}, p.DNSServer); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(p.DNSSearch, alone.Searches) || !slices.Equal(p.DNSOption, alone.Options) {
		t.Errorf("searches %v, options %v", p.DNSSearch, p.DNSOption)
	}
	if err := resolver(&p, host.DNS{Alone: true, Nameservers: []string{"dns.example"}}); err == nil {
		t.Error("a name is taken for a name server's address")
	}
}
