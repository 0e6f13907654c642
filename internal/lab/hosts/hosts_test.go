package hosts

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/lab"
)

// TestHosts has three hosts, and does to them all that can be done.
func TestHosts(t *testing.T) {
	makeImages(t)
	before := remains(t)
	t.Run("hosts", func(t *testing.T) {
		began := time.Now()
		s := New(t, 3)
		t.Logf("bringing up took %s", time.Since(began).Round(time.Millisecond))
		t.Run("apart", func(t *testing.T) { testApart(t, s) })
		t.Run("pods", func(t *testing.T) { testPods(t, s) })
		t.Run("cuts", func(t *testing.T) { testCuts(t, s) })
		t.Run("processes", func(t *testing.T) { testProcesses(t, s.Host("b")) })
		t.Run("disk", func(t *testing.T) { testDisk(t, s.Host("b")) })
		t.Run("power", func(t *testing.T) { testPower(t, s) })
	})
	if diff := cmp.Diff(before, remains(t)); diff != "" {
		t.Errorf("what is left behind (+):\n%s", diff)
	}
}

// remains is what a site might leave: processes, mounts, groups, files, namespaces held open.
func remains(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{cgroups + "/host-*", cgroups + "/*/host-*", disks + "/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range processes {
		raw, _ := os.ReadFile(file)
		list = append(list, "process "+strings.TrimSpace(string(raw)))
	}
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, strings.Split(string(raw), "\n")...)
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		if target, _ := os.Readlink(file); strings.HasPrefix(target, "net:") {
			list = append(list, "an open namespace")
		}
	}
	slices.Sort(list)
	return list
}

// testApart looks whether what one host has is seen by another.
func testApart(t *testing.T, s *Site) {
	for _, h := range s.Hosts {
		h.Exec("sh", "-c", "echo $(hostname) | tee /run/mine /dev/shm/mine /var/lib/mine /etc/containers/mine")
	}
	for _, h := range s.Hosts {
		if got := h.Exec("cat", "/run/mine", "/dev/shm/mine", "/var/lib/mine", "/etc/containers/mine", "/proc/sys/kernel/hostname"); got != strings.TrimSuffix(strings.Repeat(h.Name+"\n", 5), "\n") {
			t.Errorf("host %s has %q", h.Name, got)
		}
		if got := h.Exec("cat", "/proc/1/comm"); got != "bash" {
			t.Errorf("process 1 is %q", got)
		}
		if got := h.Exec("sh", "-c", "cut -d: -f3 /proc/self/cgroup | sort -u"); strings.Contains(got, "..") {
			t.Errorf("its groups are %q", got)
		}
		if got := h.Exec("ls", "/sys/class/net"); got != "eth0\nlo" {
			t.Errorf("its network cards are %q", got)
		}
	}
}

// runPod has a pod of one container on a host, with the host's network.
func runPod(h *Host, name string, args ...string) {
	h.Exec("podman", "pod", "create", "--name", name, "--network=host", "--label=of="+h.Name)
	h.Exec(append([]string{"podman", "run", "--detach", "--pod", name, "--name", name + "-main", lab.TestImage + ":1"}, args...)...)
}

// testPods has a pod on each host, and none sees another's.
func testPods(t *testing.T, s *Site) {
	for _, h := range s.Hosts {
		runPod(h, "p", "serve")
	}
	for _, h := range s.Hosts {
		list := h.Pods()
		if len(list) != 1 || list[0].Labels["of"] != h.Name || len(list[0].Containers) != 1 {
			t.Fatalf("host %s has %+v", h.Name, list)
		}
		if c := list[0].Containers[0]; c.State != "running" || time.Since(c.Started) > time.Minute || c.Name != "p-main" {
			t.Errorf("host %s runs %+v", h.Name, c)
		}
		h.Exec("podman", "exec", "p-main", "cat", "/proc/self/cgroup")
		// Each asks the next one.
		other := s.Hosts[(slices.Index(s.Hosts, h)+1)%len(s.Hosts)]
		if body, err := ask(t, h, "http://"+other.Address.String()+":8080/healthz"); err != nil || body != "ok" {
			t.Errorf("%s asks %s: %q, %v", h.Name, other.Name, body, err)
		}
	}
}

func ask(t *testing.T, h *Host, url string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	var err error
	for range 100 { // the server may not listen yet
		response, errGet := client.Get(url) //nolint:noctx // one request of a test
		if err = errGet; errors.Is(err, syscall.ECONNREFUSED) {
			<-time.After(20 * time.Millisecond)
			continue
		}
		if err != nil {
			break
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		return strings.TrimSpace(string(raw)), err
	}
	return "", err
}

// lines is which host hears which other one: ab, if b hears a. Each sends one packet to each.
func lines(t *testing.T, s *Site) string {
	t.Helper()
	var ears []net.PacketConn
	for _, h := range s.Hosts {
		h.Exec("ip", "neigh", "flush", "all") // what ARP has learnt before hides what it cannot learn now
		var ear net.PacketConn
		space := h.Path("/proc/1/ns/net")
		err := lab.InSpace(space, func() (err error) {
			ear, err = net.ListenPacket("udp", h.Address.String()+":5000") //nolint:noctx // it does not wait
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ear.Close()
		ears = append(ears, ear)
	}
	for i, from := range ears {
		for j, to := range ears {
			if i != j {
				if _, err := from.WriteTo([]byte(s.Hosts[i].Name), to.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	heard := make([]string, len(ears))
	var all sync.WaitGroup
	for i, ear := range ears {
		if err := ear.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			var names []string
			buffer := make([]byte, 10)
			for {
				n, _, err := ear.ReadFrom(buffer)
				if err != nil {
					break
				}
				names = append(names, string(buffer[:n])+s.Hosts[i].Name)
			}
			heard[i] = strings.Join(names, " ")
		})
	}
	all.Wait()
	heard = strings.Fields(strings.Join(heard, " "))
	slices.Sort(heard)
	return strings.Join(heard, " ")
}

func testCuts(t *testing.T, s *Site) {
	a, b, c := s.Host("a"), s.Host("b"), s.Host("c")
	const all = "ab ac ba bc ca cb"
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"none", func() {}, all},
		{"one line", func() { s.Cut(a, b) }, "ac bc ca cb"},
		{"healed", func() { s.Heal(b, a) }, all},
		{"healed again", func() { s.Heal(b, a) }, all},
		{"one way", func() { s.OneWay(a, b) }, "ac ba bc ca cb"},
		{"one way each", func() { s.OneWay(b, c); s.OneWay(c, a) }, "ac ba cb"},
		{"one way healed", func() { s.Heal(a, b) }, "ab ac ba cb"},
		{"all healed", func() { s.HealAll() }, all},
		{"one against two", func() { s.Partition([]*Host{a}, []*Host{b, c}) }, "bc cb"},
		{"all apart", func() { s.Partition([]*Host{a}, []*Host{b}, []*Host{c}) }, ""},
		{"all together", func() { s.HealAll() }, all},
		{"a set and no other", func() { s.Partition(s.Hosts) }, all},
	} {
		step.do()
		if got := lines(t, s); got != step.want {
			t.Errorf("%s: they hear %q, want %q", step.name, got, step.want)
		}
	}
	// A connection that is cut falls silent, and goes on when it is healed.
	conn, err := a.Dial(t.Context(), "tcp", b.Address.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.Cut(a, b)
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a cut connection says %v", err)
	}
	s.HealAll()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(strings.TrimSpace(string(raw)), "ok") {
		t.Errorf("a healed connection says %q, %v", raw, err)
	}
}

func testProcesses(t *testing.T, h *Host) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := h.ExecErr(ctx, "sleep", "1000"); err == nil || ctx.Err() == nil {
		t.Errorf("a command without time ended with %v after %v", err, ctx.Err())
	}
	h.Start("told", "bash", "-c", `trap "echo bye; exit" TERM; echo hello; while :; do sleep 0.01; done`)
	h.Start("killed", "sleep", "1000")
	for h.Output("told") != "hello\n" {
		<-time.After(time.Millisecond)
	}
	h.Signal("told", syscall.SIGTERM)
	<-h.Ended("told")
	if got := h.Output("told"); got != "hello\nbye\n" {
		t.Errorf("it wrote %q", got)
	}
	h.Kill9("killed")
	h.Kill9("killed")
	if got := h.Exec("sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep || true"); got != "0" {
		t.Errorf("%s processes go on", got)
	}
	// An orphan is reaped: Podman takes a monitor that stays a zombie for one that lives.
	h.Exec("sh", "-c", "(sleep 0.05 & echo $! >/run/orphan)")
	for h.Exec("sh", "-c", "! test -d /proc/$(cat /run/orphan) || echo there") != "" {
	}

	h.StopPodman()
	if _, err := h.PodsErr(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("podman is down, and says %v", err)
	}
	h.StartPodman()
	if list := h.Pods(); len(list) != 1 || list[0].Containers[0].State != "running" {
		t.Errorf("podman is up again with %+v", list)
	}
}

func testDisk(t *testing.T, h *Host) {
	write := func(name string) error {
		_, err := h.ExecErr(t.Context(), "sh", "-c", "head -c 100000 /dev/zero >/var/lib/skerry/"+name)
		return err
	}
	for range 2 {
		if err := write("before"); err != nil {
			t.Error(err)
		}
		h.FillDisk()
		if err := write("full"); err == nil || !strings.Contains(err.Error(), "No space left") {
			t.Errorf("writing to a full disk: %v", err)
		}
		h.Exec("podman", "run", "--rm", lab.TestImage+":1", "fill", "/tmp/x", "1Mi") // Podman's is another
		h.FreeDisk()
		if err := write("after"); err != nil {
			t.Error(err)
		}
	}
}

func testPower(t *testing.T, s *Site) {
	a, b := s.Host("a"), s.Host("b")
	b.Exec("sh", "-c", "echo kept | tee /var/lib/skerry/kept >/run/lost")
	b.Start("agent", "sleep", "1000")
	b.Start("frozen", "sleep", "1000")
	b.Signal("frozen", syscall.SIGSTOP)
	b.Kill9("frozen")
	b.Start("frozen", "sleep", "1000")
	b.Signal("frozen", syscall.SIGSTOP) // its end is not to keep the machine on
	pid, err := strconv.Atoi(b.Exec("podman", "inspect", "--format={{.State.Pid}}", "p-main"))
	if err != nil || pid == 0 {
		t.Fatal(pid, err)
	}
	conn, err := a.Dial(t.Context(), "tcp", b.Address.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	began := time.Now()
	b.PowerCut()
	t.Logf("the power cut took %s", time.Since(began).Round(time.Millisecond))
	<-b.Ended("agent")
	if raw, err := os.ReadFile(b.Disk("skerry/kept")); string(raw) != "kept\n" {
		t.Errorf("the disk has %q, %v", raw, err)
	}
	if _, err := b.ExecErr(t.Context(), "true"); err == nil {
		t.Error("a host without power does what it is told")
	}
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a host without power says %v", err)
	}

	began = time.Now()
	b.PowerOn()
	list := b.Pods()
	t.Logf("power on took %s", time.Since(began).Round(time.Millisecond))
	if len(list) != 1 || list[0].Containers[0].State == "running" {
		t.Errorf("after a power cut there is %+v", list)
	}
	if got := b.Exec("sh", "-c", "cat /var/lib/skerry/kept; test ! -e /run/lost"); got != "kept" {
		t.Errorf("it kept %q", got)
	}
	b.Exec("podman", "pod", "rm", "--force", "p")
	runPod(b, "q", "serve")
	if body, err := ask(t, a, "http://"+b.Address.String()+":8080/healthz"); err != nil || body != "ok" {
		t.Errorf("after it: %q, %v", body, err)
	}
	// Its cuts are the switch's.
	s.Cut(a, b)
	b.PowerCut()
	b.PowerOn()
	if got := lines(t, s); got != "ac bc ca cb" {
		t.Errorf("they hear %q", got)
	}
	s.HealAll()
}
