package hosttest

import (
	"slices"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// namespaceTests are about what pods share, and how they resolve names.
var namespaceTests = map[string]func(*bench){
	"a pod in the machine's network has no addresses of its own": func(b *bench) {
		s := b.sandbox()
		s.Network, s.Hostname = host.Machine, ""
		pod := b.create(s)
		ips, err := b.PodAddresses(b.Context(), pod)
		b.must(err)
		id := b.busy(pod, "app", "sleep")
		if p := b.pod(); len(ips) != 0 || len(p.IPs) != 0 || p.Infra != fleet.Running {
			b.Fatalf("addresses are %v, seen as %+v", ips, p)
		}
		b.must(b.StopContainer(b.Context(), id, 30*time.Second))
	},
	"shared process IDs": func(b *bench) {
		s := b.sandbox()
		s.PID = host.Shared
		pod := b.create(s)
		var ids []string
		for _, name := range []string{"one", "two"} {
			c := b.container(pod, name, "seq", "print up", "sleep")
			c.PID = host.Shared
			ids = append(ids, b.start(c))
			b.must(b.hand().Said(ids[len(ids)-1]))
		}
		b.must(b.StopContainer(b.Context(), ids[0], 30*time.Second))
		if c := b.seen(ids[0]); c.State != fleet.Exited || c.ExitCode != 0 {
			b.Fatalf("the first is %+v", c)
		}
		if c := b.seen(ids[1]); c.State != fleet.Running {
			b.Fatalf("the second is %+v", c)
		}
	},
	"the machine's process IDs and IPC": func(b *bench) {
		s := b.sandbox()
		s.PID, s.IPC = host.Machine, host.Machine
		c := b.container(b.create(s), "app", "seq", "print up", "sleep")
		c.PID, c.IPC = host.Machine, host.Machine
		id := b.start(c)
		b.must(b.hand().Said(id))
		b.must(b.StopContainer(b.Context(), id, 30*time.Second))
		if c := b.seen(id); c.State != fleet.Exited || c.ExitCode != 0 {
			b.Fatalf("it is %+v", c)
		}
	},
	"sysctls": func(b *bench) {
		s := b.sandbox()
		s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"}
		id := b.start(b.container(b.create(s), "app", "sleep"))
		for file, want := range map[string]string{
			"/proc/sys/net/ipv4/ip_unprivileged_port_start": "77\n", "/proc/sys/kernel/shm_rmid_forced": "1\n",
		} {
			if got := b.exec(id, "cat", file); got != want {
				b.Errorf("%s is %q", file, got)
			}
		}
	},
	"names are resolved as said and not otherwise": func(b *bench) {
		s := b.sandbox()
		s.DNS = host.DNS{
			Alone: true, Nameservers: []string{"192.0.2.7", "192.0.2.8"}, Searches: []string{"shop.example", "example"}, Options: []string{"ndots:2", "edns0"},
		}
		id := b.start(b.container(b.create(s), "app", "sleep"))
		servers, searches, options := b.resolver(id)
		if !slices.Equal(servers, s.DNS.Nameservers) || !slices.Equal(searches, s.DNS.Searches) || !slices.Equal(options, s.DNS.Options) {
			b.Errorf("nameservers %v, searches %v, options %v", servers, searches, options)
		}
	},
	"names are resolved as the machine does, and as said": func(b *bench) {
		plain, _, _ := b.resolver(b.start(b.container(b.create(host.Sandbox{Name: "plain-" + b.id}), "plain", "sleep")))
		s := b.sandbox()
		s.DNS = host.DNS{Nameservers: []string{"192.0.2.7"}, Searches: []string{"shop.example"}, Options: []string{"ndots:3"}}
		id := b.start(b.container(b.create(s), "app", "sleep"))
		servers, searches, options := b.resolver(id)
		if !slices.Contains(servers, "192.0.2.7") || !slices.Contains(searches, "shop.example") || !slices.Contains(options, "ndots:3") {
			b.Errorf("nameservers %v, searches %v, options %v", servers, searches, options)
		}
		for _, server := range plain {
			if !slices.Contains(servers, server) {
				b.Errorf("the machine's nameserver %s is not among %v", server, servers)
			}
		}
	},
}

// resolver is what a container is told about how to resolve names.
func (b *bench) resolver(container string) (servers, searches, options []string) {
	b.Helper()
	for line := range strings.Lines(b.exec(container, "cat", "/etc/resolv.conf")) {
		switch words := strings.Fields(line); {
		case len(words) == 0:
		case words[0] == "nameserver":
			servers = append(servers, words[1:]...)
		case words[0] == "search":
			searches = append(searches, words[1:]...)
		case words[0] == "options":
			options = append(options, words[1:]...)
		}
	}
	return servers, searches, options
}
