package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/internal/lab"
)

// servicesOn is what these tests add to the agent's configuration.
const servicesOn = "network: {services: \"on\"}\n"

// spoken is a process that says line by line what happens, and when each line came.
type spoken struct {
	t     testing.TB
	name  string
	lines chan spokenLine
}

type spokenLine struct {
	text string
	at   time.Time
}

// speak starts a process that speaks until the test ends.
func speak(t testing.TB, name string, args ...string) *spoken {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &spoken{t, name, make(chan spokenLine, 100_000)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case s.lines <- spokenLine{lines.Text(), time.Now()}:
			default: // nobody listens any more
			}
		}
	}()
	return s
}

// until waits for a line with all these words, and says when it came.
func (s *spoken) until(limit time.Duration, words ...string) spokenLine {
	s.t.Helper()
	late := time.After(limit)
	for {
		select {
		case line := <-s.lines:
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line.text, word) }) {
				return line
			}
		case <-late:
			s.t.Fatalf("%s does not say %q within %s", s.name, words, limit)
		}
	}
}

// hush forgets what was said so far.
func (s *spoken) hush() {
	for {
		select {
		case <-s.lines:
		default:
			return
		}
	}
}

// monitorRules hears of all that changes in nftables from here on.
func (w *world) monitorRules() *spoken {
	w.t.Helper()
	s := speak(w.t, "nft", "monitor")
	// It does not say when it begins to listen, so we change something until it does say that.
	for {
		w.command("nft", "add table ip bell; delete table ip bell")
		select {
		case <-s.lines:
			return s
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// askOf asks an address for a path, on a connection of its own, from the network namespace of a process; 0: the machine's.
func askOf(process int, address, path string) (string, error) {
	return askWithin(process, address, path, callTimeout)
}

func askWithin(process int, address, path string, limit time.Duration) (string, error) {
	return askBy(caller{process: process}.dial, address, path, limit)
}

func askBy(dial func(ctx context.Context, network, address string) (net.Conn, error), address, path string, limit time.Duration) (string, error) {
	client := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	response, err := client.Get("http://" + address + path) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", response.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

// hostOf is who answers at an address.
func hostOf(t testing.TB, process int, address string) string {
	t.Helper()
	body, err := askOf(process, address, "/")
	if err != nil {
		t.Errorf("ask %s: %v", address, err)
	}
	_, host, _ := strings.Cut(body, "host=")
	return host
}

// fromOf is the address that whoever answers there is asked from.
func fromOf(t testing.TB, process int, address string) string {
	t.Helper()
	body, err := askOf(process, address, "/from")
	if err != nil {
		t.Errorf("ask %s: %v", address, err)
		return ""
	}
	host, _, err := net.SplitHostPort(body)
	if err != nil {
		t.Errorf("ask %s: %v", address, err)
	}
	return host
}

// podPid is the first process of the only container of a pod.
func (w *world) podPid(pod string) int {
	w.t.Helper()
	return w.pid("default_" + pod + "_main")
}

// sh runs a command line of the machine's, which has to work, and returns what it says.
func (w *world) sh(line string) string {
	w.t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(w.t.Context()), "sh", "-c", line).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// afterwards runs a command line when the test has ended.
func (w *world) afterwards(line string) {
	w.t.Cleanup(func() { _ = exec.Command("sh", "-c", line).Run() }) //nolint:noctx // the test's context has ended
}

// setting sets a sysctl for the length of the test.
func (w *world) setting(name, value string) {
	w.t.Helper()
	path := filepath.Join("/proc/sys/net", name)
	before, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.WriteFile(path, before, 0) })
}

// ourSubnet is where our pods are.
var ourSubnet = netip.MustParsePrefix("10.42.0.0/24")

// TestUsersThingsStay: who has containers, networks, firewall rules, routes and settings on the machine finds all of them as they
// were, while Services are served and afterwards.
func TestUsersThingsStay(t *testing.T) {
	w := newWorld(t)
	w.config(servicesOn)
	w.theirs()
	before := w.snapshot()
	same := func(t *testing.T) {
		t.Helper()
		after := w.snapshot()
		for _, what := range slices.Sorted(maps.Keys(before)) {
			if d := difference(before[what], after[what]); d != "" {
				t.Errorf("%s is not what it was:\n%s", what, d)
			}
		}
		if got := hostOf(t, 0, "198.51.100.1:8088"); got != "theirs" {
			t.Errorf("at their container's port answers %q", got)
		}
	}
	w.scene("the snapshot is the same when nothing happens, and sees what does", func(t *testing.T) {
		same(t)
		for what, change := range map[string][2]string{
			"nft":       {"nft add element inet theirs friends '{ 203.0.113.77 }'", "nft delete element inet theirs friends '{ 203.0.113.77 }'"},
			"iptables":  {"iptables -A FORWARD -s 203.0.113.77 -j DROP", "iptables -D FORWARD -s 203.0.113.77 -j DROP"},
			"routes":    {"ip route add 203.0.113.77 dev theirs0", "ip route del 203.0.113.77 dev theirs0"},
			"rules":     {"ip rule add from 203.0.113.77 lookup 77", "ip rule del from 203.0.113.77 lookup 77"},
			"addresses": {"ip addr add 203.0.113.77/32 dev theirs0", "ip addr del 203.0.113.77/32 dev theirs0"},
			"settings":  {"echo 2 >/proc/sys/net/ipv4/conf/theirs0/rp_filter", "echo 1 >/proc/sys/net/ipv4/conf/theirs0/rp_filter"},
		} {
			w.sh(change[0])
			if after := w.snapshot(); after[what] == before[what] {
				t.Errorf("%s is the same after %s", what, change[0])
			}
			w.sh(change[1])
		}
		same(t)
	})
	w.scene("while Services are served", func(t *testing.T) {
		w.write("web.yaml", service(w.image, "one", 2))
		w.commit("web")
		w.start()
		w.must("sync", "--wait", "60s")
		for _, address := range []string{"10.43.7.7:80", "198.51.100.1:30080"} {
			if got := hostOf(t, 0, address); !strings.HasPrefix(got, "web-") {
				t.Errorf("at %s answers %q", address, got)
			}
		}
		same(t)
	})
	w.scene("when all is removed again", func(t *testing.T) {
		w.remove("web.yaml")
		w.write("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\ndata: {}\n")
		w.commit("no Services")
		w.must("sync", "--wait", "60s")
		same(t)
	})
	w.scene("when the agent has ended", func(t *testing.T) {
		w.stop()
		same(t)
		if tables := w.sh("nft list tables"); strings.Contains(tables, "skerry") {
			t.Errorf("tables of ours are left:\n%s", tables)
		}
		t.Logf("what is left of ours:\nnetworks: %s\nlinks: %s\nroutes:\n%s\niptables:\n%s",
			strings.ReplaceAll(w.podman.CLI(t, "network", "ls", "--format={{.Name}}"), "\n", " "),
			w.sh("ip -br addr show skerry0 2>&1 || true"), w.sh("ip route | grep skerry0 || true"), w.sh("iptables-save | grep 10.42.0.0 || true"))
	})
}

// theirs makes what a user may have on a machine: a container with a published port on a network of its own, firewall rules, with
// one chain of the very priority that ours have, a link with addresses, routes, a rule for routes, and settings.
func (w *world) theirs() {
	w.t.Helper()
	w.setting("ipv6/conf/default/accept_dad", "0") // else addresses change by themselves in the first seconds
	for _, line := range []string{
		"ip link add theirs0 type veth peer name theirs1", "ip addr add 198.51.100.1/24 dev theirs0",
		"ip link set theirs0 up", "ip link set theirs1 up", "ip route add 203.0.113.0/24 via 198.51.100.2 metric 50",
		"ip rule add from 198.51.100.9 lookup 77", "ip route add 192.0.2.128/25 dev theirs0 table 77",
		"iptables -N THEIRS", "iptables -A THEIRS -p tcp --dport 9998 -j DROP", "iptables -A INPUT -i theirs0 -j THEIRS",
	} {
		w.sh(line)
	}
	w.afterwards(`ip link del theirs0; ip rule del from 198.51.100.9 lookup 77; nft delete table inet theirs; nft delete table ip theirs-nat
		iptables -D INPUT -i theirs0 -j THEIRS; iptables -F THEIRS; iptables -X THEIRS; podman rm --force --time 0 theirs; podman network rm theirs`)
	w.setting("ipv4/conf/theirs0/rp_filter", "1")
	w.setting("ipv4/conf/all/log_martians", "1")
	rules := filepath.Join(w.dir, "theirs.nft")
	if err := os.WriteFile(rules, []byte(`
table inet theirs {
	comment "not Skerry's"
	set friends { type ipv4_addr; flags interval; elements = { 203.0.113.0/28, 198.51.100.7 }; }
	map ports { type inet_service : verdict; elements = { 9997 : drop, 9996 : accept }; }
	chain in { type filter hook input priority filter; policy accept; ip saddr @friends accept; tcp dport vmap @ports; tcp dport 9999 reject; }
}
table ip theirs-nat {
	chain pre { type nat hook prerouting priority -105; policy accept; ip daddr 198.51.100.200 tcp dport 81 dnat to 198.51.100.2:80; }
	chain post { type nat hook postrouting priority 95; policy accept; ip daddr 203.0.113.0/24 masquerade; }
}
`), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.command("nft", "-f", rules)
	w.podman.CLI(w.t, "network", "create", "--subnet=10.99.5.0/24", "theirs")
	w.podman.CLI(w.t, "run", "--detach", "--name=theirs", "--hostname=theirs", "--network=theirs", "--publish=8088:8080", "--label=whose=theirs", w.image, "serve")
	w.hears("theirs", func(line string) bool { return strings.HasPrefix(line, "serving") })
}

// snapshot is all that is the user's, as the tools of the machine show it. What is ours is left out, each part in its own way.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	ours := ourLinks(w.t)
	// Whatever names a link of ours is ours, and so is what names addresses of our pods and Services.
	mine := func(line string) bool {
		return strings.Contains(line, "10.42.0.") || strings.Contains(line, "10.43.0.") || slices.ContainsFunc(strings.Fields(line), func(word string) bool {
			name, _, _ := strings.Cut(strings.TrimSuffix(word, ":"), "@")
			return ours[name]
		})
	}
	all := map[string]string{
		"nft":               w.sh("nft list table inet theirs; nft list table ip theirs-nat"),
		"nft tables":        without(w.sh("nft list tables"), func(line string) bool { return line == "table ip skerry" || line == "table ip6 skerry" }),
		"iptables":          theirIptables(w.sh("iptables-save")),
		"ip6tables":         theirIptables(w.sh("ip6tables-save")),
		"Podman's networks": without(w.podman.CLI(w.t, "network", "ls", "--format={{.Name}} {{.ID}} {{.Driver}}"), func(line string) bool { return strings.HasPrefix(line, "skerry ") }),
		"their network":     w.podman.CLI(w.t, "network", "inspect", "theirs"),
		"their container":   w.podman.CLI(w.t, "inspect", "theirs"),
		"links":             linkState.ReplaceAllString(without(w.sh("ip -o link"), mine), ""),
		"addresses":         without(w.sh("ip -o addr"), mine),
		"routes":            without(w.sh("ip route show table all; ip -6 route show table all"), mine),
		"rules":             w.sh("ip rule; ip -6 rule"),
		"names":             w.sh("cat /etc/resolv.conf /etc/hosts"),
	}
	var settings []string
	for _, dir := range []string{"core", "ipv4", "ipv6", "bridge", "netfilter"} {
		err := filepath.WalkDir("/proc/sys/net/"+dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil // the kernel is without, or the link is gone by now
				}
				return err
			}
			if d.IsDir() && ours[d.Name()] {
				return fs.SkipDir
			}
			if d.Name() == "nf_conntrack_count" {
				return nil // no setting
			}
			if raw, err := os.ReadFile(path); err == nil { // some can only be written to
				settings = append(settings, path+" = "+strings.TrimSpace(string(raw)))
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	all["settings"] = strings.Join(settings, "\n")
	return all
}

// ourLinks are our bridge and its ports.
func ourLinks(t testing.TB) map[string]bool {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{"skerry0": true}
	for _, l := range links {
		if i := slices.IndexFunc(links, func(m netlink.Link) bool { return m.Attrs().Index == l.Attrs().MasterIndex }); i >= 0 && links[i].Attrs().Name == "skerry0" {
			names[l.Attrs().Name] = true
		}
	}
	return names
}

var (
	// linkState is found out by the kernel up to a second after a link was made.
	linkState      = regexp.MustCompile(` state \w+`)
	iptablesCounts = regexp.MustCompile(`\[\d+:\d+\]`)
	ourChain       = regexp.MustCompile(`-s ` + regexp.QuoteMeta(ourSubnet.String()) + ` .*-j (NETAVARK-\w+)`)
)

// theirIptables is what iptables-save says but for what Podman writes there for the containers of our network, as for those of any
// network: rules with its subnet, and a chain of its own, whose name is a hash of the network's and is found by the rule that leads
// into it. Comments with the time and counters change by themselves.
func theirIptables(all string) string {
	var ours []string
	for _, m := range ourChain.FindAllStringSubmatch(all, -1) {
		ours = append(ours, m[1])
	}
	return without(iptablesCounts.ReplaceAllString(all, ""), func(line string) bool {
		return strings.HasPrefix(line, "#") || strings.Contains(line, ourSubnet.String()) ||
			slices.ContainsFunc(ours, func(chain string) bool { return strings.Contains(line, chain) })
	})
}

// without is a text without some of its lines.
func without(text string, drop func(line string) bool) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), drop), "\n")
}

// difference shows the lines that only one of both texts has, or that they have them in another order.
func difference(before, after string) string {
	if before == after {
		return ""
	}
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	var b strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	if b.Len() == 0 {
		return "the same lines in another order, or more or less often:\n" + after
	}
	return b.String()
}

// TestReadinessFlip: from the probe that found out until the kernel sends no connection to a pod any more, and until it does so
// again, it takes less than flipLimit.
func TestReadinessFlip(t *testing.T) {
	const flips, flipLimit = 5, 200 * time.Millisecond
	w := newWorld(t)
	w.config(servicesOn)
	w.write("web.yaml", strings.ReplaceAll(service(w.image, "one", 2), "httpGet: {path: /, port: http}, periodSeconds: 1", "httpGet: {path: /readyz, port: http}, periodSeconds: 1, failureThreshold: 1"))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	pod := w.webs()[0]
	rules := w.monitorRules()
	// The pod says on stdout that it is asked before it answers, and conmon notes when that was.
	asked := speak(t, "tail", "--lines=0", "--follow", w.podman.CLI(t, "inspect", "--format={{.HostConfig.LogConfig.Path}}", "default_"+pod.Name+"_main"))
	end := " : " + pod.Status.PodIP + " . 8080"

	took := map[string][]time.Duration{}
	asked.until(long, "GET /readyz") // from here on the last one has just been, and none is under way in the moment of a change
	for range flips {
		for _, turn := range []struct{ path, change string }{{"/unready", "delete element ip skerry sk-ends"}, {"/ready", "add element ip skerry sk-ends"}} {
			rules.hush()
			get(t, pod.Status.PodIP, turn.path)
			asked.until(long, "GET "+turn.path)
			probe := asked.until(long, "GET /readyz")
			changed := rules.until(long, turn.change, end)
			stamp, _, _ := strings.Cut(probe.text, " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err != nil {
				t.Fatal(err)
			}
			took[turn.path] = append(took[turn.path], changed.at.Sub(at))
		}
	}
	for path, all := range took {
		t.Logf("%s: %v", path, all)
		slices.Sort(all)
		if median := all[len(all)/2]; median > flipLimit || all[0] <= 0 {
			t.Errorf("after %s the rules changed %s after the probe, in the median", path, median)
		}
	}
}

// TestServiceAddresses: who sees whose address through which way into a Service, who reaches what from where, and what names there are.
func TestServiceAddresses(t *testing.T) {
	w := newWorld(t)
	w.config(servicesOn)
	w.write("web.yaml", service(w.image, "one", 2)+fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.43.7.9, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {clusterIP: 10.43.7.10, sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {clusterIP: 10.43.7.11, selector: {crowd: a}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: crowd}
spec: {clusterIP: None, selector: {app: crowd}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: crowd, crowd: a}}
spec: {hostname: first, subdomain: crowd, terminationGracePeriodSeconds: 5, containers: [{name: main, image: '%[1]s', args: [serve], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: crowd, crowd: b}}
spec: {hostname: second, subdomain: crowd, terminationGracePeriodSeconds: 5, containers: [{name: main, image: '%[1]s', args: [serve], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}]}
`, w.image))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	w.pod("client", `
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, THIS, args: [serve], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}`)
	w.commit("client")
	w.must("sync", "--wait", "60s")
	out := w.outside()
	client, clientIP := w.podPid("client"), w.address("client")

	w.scene("a pod is seen with its own address", func(t *testing.T) {
		for _, address := range []string{"10.43.7.7:80", "10.43.7.11:80"} {
			for range 8 { // both pods behind it are asked
				if from := fromOf(t, client, address); from != clientIP {
					t.Errorf("at %s from %s, not %s", address, from, clientIP)
				}
			}
		}
		said, err := askUDP(caller{process: client}, "10.43.7.7:80")
		if err != nil || !strings.Contains(said, "from="+clientIP+":") {
			t.Errorf("UDP: %q, %v", said, err)
		}
	})
	w.scene("externalTrafficPolicy Cluster hides clients from outside, and Local shows them", func(t *testing.T) {
		for range 8 {
			if from := fromOf(t, out, "192.168.77.1:30080"); from != "10.42.0.1" {
				t.Errorf("Cluster: from %s", from)
			}
			if from := fromOf(t, out, "192.168.77.1:30081"); from != "192.168.77.2" {
				t.Errorf("Local: from %s", from)
			}
		}
		if said, err := askUDP(caller{process: out}, "192.168.77.1:30080"); err != nil || !strings.Contains(said, "from=10.42.0.1:") {
			t.Errorf("UDP: %q, %v", said, err)
		}
	})
	w.scene("sessionAffinity ClientIP", func(t *testing.T) {
		got := map[string]map[string]int{}
		for _, address := range []string{"10.43.7.7:80", "10.43.7.10:80"} {
			got[address] = map[string]int{}
			for range 20 {
				got[address][hostOf(t, client, address)]++
			}
		}
		if len(got["10.43.7.10:80"]) != 1 || len(got["10.43.7.7:80"]) != 2 {
			t.Errorf("with it and without: %v", got)
		}
	})
	w.scene("a pod reaches itself and its neighbours", func(t *testing.T) {
		w.reachEachOther(t)
	})
	w.scene("a machine without a default route reaches Services", func(t *testing.T) {
		_ = exec.CommandContext(t.Context(), "ip", "route", "del", "default").Run() // there may be none
		if routes := w.sh("ip route show default"); routes != "" {
			t.Fatalf("there is one: %s", routes)
		}
		if got := hostOf(t, 0, "10.43.7.11:80"); got != "first" {
			t.Errorf("%q answers", got)
		}
	})
	w.scene("names", func(t *testing.T) {
		ask := func(kind uint16, name string) []string {
			t.Helper()
			reply, err := dns.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, kind), "10.43.0.10:53")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return nil
			}
			var all []string
			for _, rr := range reply.Answer {
				all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			slices.Sort(all)
			return all
		}
		a, b := w.address("a"), w.address("b")
		both := slices.Sorted(slices.Values([]string{a, b}))
		reverse := func(addr string) string {
			name, err := dns.ReverseAddr(addr)
			if err != nil {
				t.Fatal(err)
			}
			return name
		}
		for _, q := range []struct {
			kind uint16
			name string
			want []string
		}{
			{dns.TypeA, "web.default.svc.cluster.local.", []string{"10.43.7.7"}},
			{dns.TypeA, "crowd.default.svc.cluster.local.", both},
			{dns.TypeA, "first.crowd.default.svc.cluster.local.", []string{a}},
			{dns.TypeA, "second.crowd.default.svc.cluster.local.", []string{b}},
			{dns.TypeA, "third.crowd.default.svc.cluster.local.", nil},
			{dns.TypeCNAME, "far.default.svc.cluster.local.", []string{"example.com."}},
			{dns.TypeA, "near.default.svc.cluster.local.", []string{"10.43.7.7", "web.default.svc.cluster.local."}},
			{dns.TypeSRV, "_http._tcp.web.default.svc.cluster.local.", []string{"0 100 80 web.default.svc.cluster.local."}},
			{dns.TypeSRV, "_udp._udp.web.default.svc.cluster.local.", []string{"0 100 80 web.default.svc.cluster.local."}},
			{dns.TypeSRV, "_http._tcp.crowd.default.svc.cluster.local.", []string{"0 50 8080 first.crowd.default.svc.cluster.local.", "0 50 8080 second.crowd.default.svc.cluster.local."}},
			{dns.TypePTR, reverse("10.43.7.7"), []string{"web.default.svc.cluster.local."}},
			{dns.TypePTR, reverse(a), []string{"first.crowd.default.svc.cluster.local."}},
		} {
			if got := ask(q.kind, q.name); !slices.Equal(got, q.want) {
				t.Errorf("%s %s: %q, not %q", dns.TypeToString[q.kind], q.name, got, q.want)
			}
		}
	})
	w.scene("names within a pod", func(t *testing.T) {
		for name, want := range map[string]string{
			"web": "10.43.7.7", "web.default": "10.43.7.7", "web.default.svc.cluster.local.": "10.43.7.7", "first.crowd": w.address("a"), "near": "10.43.7.7",
		} {
			body, err := askOf(0, clientIP+":8080", "/resolve?name="+name)
			if err != nil || body != want {
				t.Errorf("%s: %q, %v", name, body, err)
			}
		}
		body, err := askOf(0, clientIP+":8080", "/resolve?name=crowd")
		if got := slices.Sorted(slices.Values(strings.Fields(body))); err != nil || !slices.Equal(got, slices.Sorted(slices.Values([]string{w.address("a"), w.address("b")}))) {
			t.Errorf("crowd: %q, %v", got, err)
		}
	})
	w.scene("variables", func(t *testing.T) {
		for name, want := range map[string]string{
			"WEB_SERVICE_HOST": "10.43.7.7", "WEB_SERVICE_PORT": "80", "WEB_SERVICE_PORT_HTTP": "80", "WEB_PORT_80_TCP_ADDR": "10.43.7.7",
			"ONE_SERVICE_HOST": "10.43.7.11", "CROWD_SERVICE_HOST": "",
		} {
			body, err := askOf(0, clientIP+":8080", "/env?name="+name)
			if got := strings.TrimPrefix(body, name+"="); err != nil || got != want {
				t.Errorf("%s: %q, %v", name, body, err)
			}
		}
	})
}

// outside is a client that is not on the machine, in a network that it has a link to. What is returned is a process there.
//
//	192.168.77.2 ── 192.168.77.1 machine
func (w *world) outside() (process int) {
	w.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(w.t.Context()), "sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = exec.Command("ip", "link", "del", "vout").Run() //nolint:noctx // the test's context has ended; its other end has taken it along mostly
	})
	pid := strconv.Itoa(cmd.Process.Pid)
	w.sh("ip link add vout type veth peer name eth0 netns " + pid + " && ip addr add 192.168.77.1/24 dev vout && ip link set vout up")
	w.sh("nsenter --net --target " + pid + " sh -ec 'ip link set lo up; ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.77.1'")
	return cmd.Process.Pid
}

// neighbours is what pods think where the others are.
func (w *world) neighbours() string {
	var b strings.Builder
	for name, p := range w.pods() {
		fmt.Fprintf(&b, "%s, %s:\n%s", name, p.Status.PodIP, w.sh(fmt.Sprintf("nsenter --net --target %d ip neigh", w.podPid(name))))
	}
	return b.String()
}

// askUDP sends one datagram after the other until one is answered.
func askUDP(c caller, address string) (string, error) {
	conn, err := c.dial(context.Background(), "udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	b := make([]byte, 1500)
	for range 3 {
		if _, err = conn.Write([]byte("?")); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, err = conn.Read(b); err == nil {
			return string(b[:n]), nil
		}
	}
	return "", err
}

// reachEachOther: each of the pods that web is has itself and the other for an answer when it asks web.
func (w *world) reachEachOther(t *testing.T) {
	t.Helper()
	for _, p := range w.webs() {
		process, got := w.podPid(p.Name), map[string]int{}
		for range 16 {
			host := hostOf(t, process, "10.43.7.7:80")
			if host == "" {
				return // it is told why; each takes its time to fail
			}
			got[host]++
		}
		if len(got) != 2 || got[p.Name] == 0 {
			t.Errorf("%s was answered by %v", p.Name, got)
		}
	}
}

// TestFlushedRules: Services come back by themselves when somebody has removed all rules of the machine, and when Podman has made
// the links of its containers anew. The switch bridge-nf-call-iptables is off, so that it depends on ports' being isolated that pods
// reach one another; in the other tests it is on.
func TestFlushedRules(t *testing.T) {
	// The second one leaves room for what pods remember of where the others are, and is less than the agent needs to find out by chance.
	const limit, reloadLimit = 20 * time.Second, 5 * time.Second
	w := newWorld(t)
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		w.setting("bridge/bridge-nf-call-iptables", "0")
	}
	w.config(servicesOn)
	w.write("web.yaml", service(w.image, "one", 2))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	w.scene("as made", func(t *testing.T) {
		w.reachEachOther(t)
	})
	w.scene("nft flush ruleset", func(t *testing.T) {
		rules := w.monitorRules()
		began := time.Now()
		w.command("nft", "flush", "ruleset")
		back := rules.until(limit, "add element ip skerry sk-fronts", "10.43.7.7 . tcp . 80")
		t.Logf("rules were back after %s", back.at.Sub(began))
		if got := hostOf(t, 0, "10.43.7.7:80"); !strings.HasPrefix(got, "web-") {
			t.Errorf("%q answers", got)
		}
		w.reachEachOther(t)
	})
	w.scene("podman network reload", func(t *testing.T) {
		w.stop()
		w.start() // all is as it should be, and was looked at just now, whatever the scene before was like
		w.untilReach(t, reloadLimit)
		began := time.Now()
		w.podman.CLI(t, "network", "reload", "--all")
		t.Logf("it took %s", time.Since(began))
		began = time.Now()
		w.untilReach(t, reloadLimit)
		t.Logf("pods reached each other %s after it", time.Since(began))
		w.reachEachOther(t)
	})
}

// untilReach waits until each of the pods that web is reaches itself and the other. Nobody tells of that, so it asks.
func (w *world) untilReach(t *testing.T, limit time.Duration) {
	t.Helper()
	for began := time.Now(); ; {
		var missing []string
		for _, p := range w.webs() {
			process, got := w.podPid(p.Name), map[string]bool{}
			for range 16 {
				host, err := askWithin(process, "10.43.7.7:80", "/", 300*time.Millisecond)
				if err != nil {
					missing = append(missing, p.Name+": "+err.Error())
					break
				}
				got[host] = true
			}
			if len(got) != 2 {
				missing = append(missing, fmt.Sprintf("%s reaches %v", p.Name, slices.Collect(maps.Keys(got))))
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("after %s pods do not reach each other: %s\n%s", limit, strings.Join(missing, "; "), w.sh("bridge -d link; ip neigh; ip route")+w.neighbours())
		}
	}
}

// TestPodsTalkAtOnce: a pod that talks to another as soon as its process runs is not cut off from it later, when its port on the
// bridge is made ready for Services. The switch bridge-nf-call-iptables is off, as on machines without Docker and the like.
func TestPodsTalkAtOnce(t *testing.T) {
	w := newWorld(t)
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		w.setting("bridge/bridge-nf-call-iptables", "0")
	}
	w.config(servicesOn)
	w.write("web.yaml", service(w.image, "one", 2))
	w.commit("web")
	w.start()
	w.must("sync", "--wait", "60s")
	peer := w.webs()[0].Status.PodIP + ":8080"
	for name, to := range map[string]string{"direct": peer, "service": "10.43.7.7:80"} {
		w.scene(name, func(t *testing.T) {
			made, begun := w.nextNetns(), w.fifo(name)
			w.pod(name, `
  terminationGracePeriodSeconds: 5
  containers:
  - {name: main, THIS, args: [seq, append /host/`+name+` begun, serve], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}`)
			w.commit(name)
			w.must("sync")
			dial := dialIn(made())
			begun.line()        // its process runs, and might do what we do now
			var first time.Time // when it was answered first
			asked := 0
			pace := time.NewTicker(callEvery)
			defer pace.Stop()
			for began := time.Now(); first.IsZero() || time.Since(first) < 3*time.Second; <-pace.C {
				_, err := askBy(dial, to, "/", 500*time.Millisecond)
				switch {
				case err == nil:
					asked++
					if first.IsZero() {
						first = time.Now()
						t.Logf("answered for the first time %s after it was made", first.Sub(began))
					}
				case first.IsZero() && time.Since(began) < long: // it has no address yet
				case first.IsZero():
					t.Fatal(err)
				default:
					t.Fatalf("cut off from %s %s after it was answered for the first time, and for the %dth time last: %v\n%s", to, time.Since(first), asked, err,
						w.sh("bridge -d link; ip neigh")+w.neighbours())
				}
			}
			t.Logf("%d asked", asked)
		})
	}
}

// nextNetns returns a function that waits for the next network namespace that Podman makes, and says where it is.
func (w *world) nextNetns() func() string {
	w.t.Helper()
	const dir = "/run/netns"
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		w.t.Cleanup(func() { unix.Close(fd) })
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return func() string {
		w.t.Helper()
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(long.Milliseconds())); n != 1 {
			w.t.Fatalf("no namespace was made: %v", err)
		}
		b := make([]byte, 4096)
		n, err := unix.Read(fd, b)
		if err != nil || n <= unix.SizeofInotifyEvent {
			w.t.Fatalf("inotify: %d bytes, %v", n, err)
		}
		name, _, _ := strings.Cut(string(b[unix.SizeofInotifyEvent:n]), "\x00")
		return filepath.Join(dir, name)
	}
}

// dialIn dials in a network namespace.
func dialIn(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = lab.InSpace(path, func() (err error) {
			conn, err = (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
