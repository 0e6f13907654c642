package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestWhatPodsShare: namespaces, with the machine and among containers, and names.
func TestWhatPodsShare(t *testing.T) {
	w := newWorld(t)
	// Two containers each, so that it shows what they share. Both live: the number of a namespace that is gone is given again.
	two := func(name, settings string) string {
		return podOf(name, settings+"  containers:\n"+one("a", w.image, "sleep", "")+one("b", w.image, "sleep", ""))
	}
	w.write("namespaces.yaml", strings.Join([]string{
		two("apart", ""), two("net", "  hostNetwork: true\n"), two("pid", "  hostPID: true\n"), two("ipc", "  hostIPC: true\n"), two("shared", "  shareProcessNamespace: true\n"),
	}, "---\n"))
	w.write("neighbours.yaml", podOf("neighbours", "  shareProcessNamespace: true\n  containers:\n"+
		one("a", w.image, "sleep, 1h", "")+one("b", w.image, "sleep, 2h", ""))+"---\n"+
		podOf("onlooker", "  hostPID: true\n  containers:\n"+one("main", w.image, "sleep, 3h", "")))
	w.write("machine.yaml", podOf("machine", fmt.Sprintf(`
  hostNetwork: true
  hostAliases: [{ip: 192.0.2.9, hostnames: [elsewhere, far.example]}]
  containers:
  - name: main
    image: %s
    args: [serve]
    ports: [{containerPort: 8080, hostPort: 8080}]
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
`, w.image)))
	w.write("names.yaml", strings.Join([]string{
		podOf("full", "  hostname: web-0\n  subdomain: db\n  setHostnameAsFQDN: true\n  hostAliases: [{ip: 192.0.2.9, hostnames: [elsewhere, far.example]}]\n  containers:\n"+one("main", w.image, "sleep", "")),
		podOf("short", "  hostname: web-1\n  subdomain: db\n  containers:\n"+one("main", w.image, "sleep", "")),
		podOf("plain", "  hostAliases: [{ip: 192.0.2.9, hostnames: [elsewhere, far.example]}]\n  containers:\n"+one("main", w.image, "sleep", "")),
		podOf("resolves", "  dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.53, 192.0.2.54], searches: [shop.example, example], options: [{name: ndots, value: \"2\"}, {name: edns0}]}\n"+
			"  containers:\n"+one("main", w.image, "sleep", "")),
		podOf("machines", "  dnsPolicy: Default\n  dnsConfig: {nameservers: [192.0.2.53], searches: [more.example], options: [{name: timeout, value: \"3\"}]}\n"+
			"  containers:\n"+one("main", w.image, "sleep", "")),
		podOf("tuned", "  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: \"77\"}, {name: kernel/shm_rmid_forced, value: \"1\"}]}\n"+
			"  containers:\n"+one("main", w.image, "sleep", "")),
	}, "---\n"))
	w.commit("namespaces")
	w.start()
	w.sync()

	t.Run("namespaces are the container's, the pod's or the machine's", func(t *testing.T) {
		const machine, pods, own = "the machine's", "the pod's", "its own"
		for _, c := range []struct{ pod, net, pid, ipc, uts string }{
			{"apart", pods, own, pods, pods},
			{"net", machine, own, pods, ""}, // its name matters, and not whose the namespace is
			{"pid", pods, machine, pods, pods},
			{"ipc", pods, own, machine, pods},
			{"shared", pods, pods, pods, pods},
		} {
			links := []string{"stat", "/proc/self/ns/net", "/proc/self/ns/pid", "/proc/self/ns/ipc", "/proc/self/ns/uts"}
			a, b := w.sees(c.pod, "a", links...), w.sees(c.pod, "b", links...)
			for name, want := range map[string]string{"net": c.net, "pid": c.pid, "ipc": c.ipc, "uts": c.uts} {
				ours, err := os.Readlink("/proc/self/ns/" + name)
				if err != nil {
					t.Fatal(err)
				}
				got := own
				switch at, other := namespace(a, name), namespace(b, name); {
				case at == ours:
					got = machine
				case at == other:
					got = pods
				}
				if got != want && want != "" {
					t.Errorf("of %s the %s namespace is %s, want %s:\n%s%s", c.pod, name, got, want, a, b)
				}
			}
		}
	})
	t.Run("who shares processes sees them", func(t *testing.T) {
		for _, c := range []struct {
			pod, container string
			sees, misses   []string
		}{
			{"neighbours", "a", []string{"sleep 1h", "sleep 2h"}, []string{"sleep 3h"}},
			{"plain", "main", []string{"sleep"}, []string{"sleep 1h", "sleep 2h"}},
		} {
			got := w.sees(c.pod, c.container, "ps")
			for _, want := range c.sees {
				if !strings.Contains(got, want) {
					t.Errorf("%s does not see %q:\n%s", c.pod, want, got)
				}
			}
			for _, not := range c.misses {
				if strings.Contains(got, not) {
					t.Errorf("%s sees %q:\n%s", c.pod, not, got)
				}
			}
		}
		// Of the machine there are too many; the first will do.
		if got, want := w.sees("onlooker", "main", "cat", "/proc/1/cmdline"), read(t, "/proc/1/cmdline"); got != want {
			t.Errorf("the machine's first process is %q, and it sees %q", want, got)
		}
	})
	t.Run("a pod in the machine's network has the machine's address, ports and name", func(t *testing.T) {
		p, _ := w.shown("machine")
		if p.Status.PodIP != "127.0.0.1" || p.Status.HostIP != "127.0.0.1" {
			t.Errorf("its address is %s, on %s", p.Status.PodIP, p.Status.HostIP)
		}
		w.untilServes("machine")
		if got := get(t, "127.0.0.1", "/env?name=IP"); got != "127.0.0.1\n" {
			t.Errorf("it believes to be at %q", got)
		}
		ours, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(w.sees("machine", "main", "hostname")); got != ours {
			t.Errorf("it is called %s, the machine %s", got, ours)
		}
	})
	t.Run("names are those asked for", func(t *testing.T) {
		for pod, want := range map[string]string{"full": "web-0.db.default.svc.cluster.local", "short": "web-1", "plain": "plain"} {
			if got := strings.TrimSpace(w.sees(pod, "main", "hostname")); got != want {
				t.Errorf("%s is called %s, want %s", pod, got, want)
			}
		}
		for pod, want := range map[string][]string{
			"full":  {w.address("full") + " web-0.db.default.svc.cluster.local web-0", "192.0.2.9 elsewhere", "192.0.2.9 far.example", "127.0.0.1 localhost"},
			"short": {w.address("short") + " web-1.db.default.svc.cluster.local web-1", "127.0.0.1 localhost"},
			"plain": {w.address("plain") + " plain", "192.0.2.9 elsewhere", "192.0.2.9 far.example", "127.0.0.1 localhost"},
			// The machine's own is kept, and what is asked for added.
			"machine": {"192.0.2.9 elsewhere", "192.0.2.9 far.example", "127.0.0.1 localhost"},
		} {
			text := w.sees(pod, "main", "cat", "/etc/hosts")
			for _, line := range want {
				if !knows(text, line) {
					t.Errorf("%s does not know %q:\n%s", pod, line, text)
				}
			}
		}
	})
	t.Run("and looked up where asked for", func(t *testing.T) {
		const alone = "nameserver 192.0.2.53\nnameserver 192.0.2.54\noptions edns0 ndots:2\nsearch shop.example example\n"
		if got := resolver(w.sees("resolves", "main", "cat", "/etc/resolv.conf")); got != alone {
			t.Errorf("it has:\n%swant:\n%s", got, alone)
		}
		// The lab's name server is 192.0.2.1 (scripts/lab).
		const both = "nameserver 192.0.2.1\nnameserver 192.0.2.53\noptions timeout:3\nsearch more.example\n"
		if got := resolver(w.sees("machines", "main", "cat", "/etc/resolv.conf")); got != both {
			t.Errorf("it has:\n%swant:\n%s", got, both)
		}
	})
	t.Run("the kernel's settings are the pod's alone", func(t *testing.T) {
		got := w.sees("tuned", "main", "sysctl", "net.ipv4.ip_unprivileged_port_start", "kernel.shm_rmid_forced")
		if got != "77\n1\n" {
			t.Errorf("they are %q", got)
		}
		if got := w.sees("plain", "main", "sysctl", "kernel.shm_rmid_forced"); got != "0\n" {
			t.Errorf("another pod's is %q", got)
		}
	})
}

// namespace is one of the links that stat wrote.
func namespace(text, name string) string {
	for line := range strings.Lines(text) {
		if file, to, ok := strings.Cut(strings.TrimSpace(line), " -> "); ok && strings.HasSuffix(file, "/ns/"+name) {
			return to
		}
	}
	return ""
}

// knows reports whether a hosts file has an address with all these names, in whatever order and on whatever lines.
func knows(hosts, line string) bool {
	want := strings.Fields(line)
	return !slices.ContainsFunc(want[1:], func(name string) bool {
		for have := range strings.Lines(hosts) {
			if f := strings.Fields(have); len(f) > 1 && f[0] == want[0] && slices.Contains(f[1:], name) {
				return false
			}
		}
		return true
	})
}

// resolver is a resolv.conf without what has no effect: sorted lines, and sorted options.
func resolver(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] == "options" {
			slices.Sort(words[1:])
		}
		lines = append(lines, strings.Join(words, " ")+"\n")
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
	return strings.Join(lines, "")
}
