package lab_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/skerry-dev/skerry/internal/lab"
)

// container is a `podman run` or exec in the foreground.
type container struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// start runs podman until it, or the test, ends.
func start(t *testing.T, args ...string) *container {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "podman", args...)
	cmd.Dir = "/run"
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &container{cmd, bufio.NewScanner(out)}
}

// says waits for a line that begins so, and returns what follows.
func (c *container) says(t *testing.T, prefix string) string {
	t.Helper()
	for c.lines.Scan() {
		if rest, ok := strings.CutPrefix(c.lines.Text(), prefix); ok {
			return rest
		}
	}
	t.Fatalf("ended without saying %q", prefix)
	return ""
}

// code waits for the end.
func (c *container) code(t *testing.T) int {
	t.Helper()
	for c.lines.Scan() {
	}
	if err := c.cmd.Wait(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		return exit.ExitCode()
	}
	return 0
}

// TestModes does what comes to an end, in one container.
func TestModes(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	shared := t.TempDir()
	steps := []struct{ step, want string }{
		{"mkdir /shared/a/b", ""},
		{"write /shared/a/f one", ""},
		{"append /shared/a/f two", ""},
		{"cat /shared/a/f", "onetwo"},
		{"rename /shared/a/f /shared/a/g", ""},
		{"link g /shared/a/l", ""},
		{"touch /shared/a/t", ""},
		{"stat /shared/a /shared/a/g /shared/a/l", "dir 0755 0 0 /shared/a\nfile 0644 0 0 /shared/a/g\nlink 0777 0 0 /shared/a/l -> g"},
		{"ls /shared/a", `drwxr-xr-x 0 0 \d+ b` + "\n" + `-rw-r--r-- 0 0 7 g` + "\n" + `-rw-r--r-- 0 0 7 l` + "\n" + `-rw-r--r-- 0 0 0 t`},
		{"mkdir /shared/big", ""},
		{"fill /shared/big/f 70Ki", ""},
		{"ls /shared/big", "-rw-r--r-- 0 0 71680 f"},
		{"until /shared/a/t", ""},
		{"now", `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`},
		{"hostname", "box"},
		{"env VERSION", "1"},
		{"id", `uid=0 gid=0 groups=\[.*\] dir=/ host=box`},
		{"caps", `Uid: 0 0 0 0
Gid: 0 0 0 0
Groups:( 0)?
CapEff: 0000000000000400
CapBnd: 0000000000000400
NoNewPrivs: 1
Seccomp: 2
oom_score_adj: 300`},
		{"mounts", `(?s).* / / .* /shared .*`},
		{"ps", "1 /skerry-test seq print .*"},
		{"sysctl net.ipv4.ip_unprivileged_port_start kernel.hostname", "1000\nbox"},
		{"limits", `(?s).*(memory.limit_in_bytes|memory.max) 33554432.*`},
		{"resolve box.example", "10.1.2.3"},
		{"print-err oops", ""},
		{"sleep 1ms", ""},
		{"crash-after 1ms 9", ""},
	}
	args := []string{
		"run", "--network=none", "--hostname=box", "--add-host=box.example:10.1.2.3", "--volume=" + shared + ":/shared",
		"--cap-drop=all", "--cap-add=net_bind_service", "--security-opt=no-new-privileges", "--oom-score-adj=300",
		"--sysctl=net.ipv4.ip_unprivileged_port_start=1000", "--memory=32m", image, "seq",
	}
	want := ""
	for _, step := range steps {
		args = append(args, "print == "+step.step, step.step)
		want += regexp.QuoteMeta("== "+step.step) + "\n"
		if step.want != "" {
			want += step.want + "\n"
		}
	}
	got, err := s.CLIErr(t, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 9 || !strings.Contains(err.Error(), "oops") {
		t.Errorf("the container ended with %v", err)
	}
	if !regexp.MustCompile("^" + want + "$").MatchString(got + "\n") {
		for _, step := range steps {
			_, rest, _ := strings.Cut(got+"\n", "== "+step.step+"\n")
			rest, _, _ = strings.Cut(rest, "== ")
			if !regexp.MustCompile("^(" + step.want + ")\n?$").MatchString(rest) {
				t.Errorf("%s: printed %q, want %q", step.step, rest, step.want)
			}
		}
		t.Logf("all of it:\n%s", got)
	}
}

func TestVariants(t *testing.T) {
	s := lab.Podman(t)
	lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	for image, want := range map[string]string{
		lab.TestImageUser:   "uid=1000 gid=1000 ",
		lab.TestImageUID:    "uid=1000 gid=1000 ",
		lab.TestImageUIDGID: "uid=1000 gid=2000 ",
	} {
		if got := s.CLI(t, "run", "--network=none", image, "id"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
	if got := s.CLI(t, "inspect", "--type=image", "--format={{.Config.User}}", lab.TestImageUser); got != "app" {
		t.Errorf("the user's name is %q", got)
	}

	c := start(t, "run", "--network=none", "--name=stop", lab.TestImageStop, "seq", "print up", "sleep")
	c.says(t, "up")
	s.CLI(t, "stop", "--time=60", "stop")
	c.says(t, "received INT")
	if code := c.code(t); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// fetch asks a container; the body comes without its last newline.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Get(url) //nolint:noctx // one request of a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(body), "\n")
}

// TestServers has each server in one pod, and tells them to end.
func TestServers(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	shared := t.TempDir()
	s.CLI(t, "pod", "create", "--name=p", "--infra-name=p-infra")
	http1 := start(t, "run", "--pod=p", "--name=http", "--env=READY=false", "--env=LINGER=1h", image)
	https := start(t, "run", "--pod=p", "--name=https", "--env=TLS=1", "--env=PORT=8443", "--env=HEALTHY=false", "--env=START_DELAY=10ms", image)
	rpc := start(t, "run", "--pod=p", "--name=grpc", "--env=CONTROL_PORT=8081", "--env=SERVICES=a,b", image, "grpc")
	tcp := start(t, "run", "--pod=p", "--name=tcp", "--env=PORT=7000", "--env=LINGER=50ms", "--env=TERM_FILE=/shared/term",
		"--volume="+shared+":/shared", image, "tcp")
	http1.says(t, "serving on 8080")
	https.says(t, "serving on 8443")
	rpc.says(t, "serving on 9090")
	tcp.says(t, "listening on 7000")
	address := s.Address(t, "p-infra")

	base := "http://" + address + ":8080"
	for _, c := range []struct {
		path string
		code int
		body string // a regular expression
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 503, "unready"},
		{"/ready", 200, ""},
		{"/readyz", 200, "ok"},
		{"/unhealthy", 200, ""},
		{"/healthz", 503, "unhealthy"},
		{"/readyz", 200, "ok"},
		{"/healthy", 200, ""},
		{"/healthz", 200, "ok"},
		{"/unready", 200, ""},
		{"/readyz", 503, "unready"},
		{"/status?code=418", 418, "status 418"},
		{"/redirect?to=http://elsewhere/", 302, `(?s).*http://elsewhere/.*`},
		{"/resolve?name=localhost", 200, `(?s).*127\.0\.0\.1.*`},
		{"/resolve?name=no..body", 404, ".*no..body: no such host"}, // not a name, so that no server is asked,
		{"/headers?path=/healthz", 200, `(?s).*Host: ` + regexp.QuoteMeta(address) + `:8080\r\n.*`},
		{"/headers?path=/never", 404, ".*"},
		{"/requests", 200, "/healthy 1\n/healthz 3\n/ready 1\n/readyz 4\n/redirect 1\n/resolve 2\n/status 1\n/unhealthy 1\n/unready 1"},
	} {
		code, body := fetch(t, base+c.path)
		if code != c.code || !regexp.MustCompile("^"+c.body+"$").MatchString(body) {
			t.Errorf("GET %s: %d %q, want %d %q", c.path, code, body, c.code, c.body)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	hung := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/hang", nil)
		if err == nil {
			_, err = http.DefaultClient.Do(req)
		}
		hung <- err
	}()
	http1.says(t, "GET /hang")
	select {
	case err := <-hung:
		t.Errorf("/hang answered: %v", err)
	default:
	}
	cancel()
	<-hung
	if code, body := fetch(t, "https://"+address+":8443/healthz"); code != 503 {
		t.Errorf("https: %d %q", code, body)
	}

	conn, err := grpc.NewClient(address+":9090", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(service string) string {
		answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			return status.Code(err).String()
		}
		return answer.Status.String()
	}
	health := func(want string) {
		t.Helper()
		if got := fmt.Sprintln(check(""), check("a"), check("b"), check("c")); got != want {
			t.Errorf("grpc health is %q, want %q", got, want)
		}
	}
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	health(fmt.Sprintln(serving, serving, serving, codes.NotFound))
	fetch(t, "http://"+address+":8081/unhealthy?service=a")
	health(fmt.Sprintln(serving, not, serving, codes.NotFound))
	fetch(t, "http://"+address+":8081/unhealthy")
	health(fmt.Sprintln(not, not, not, codes.NotFound))
	fetch(t, "http://"+address+":8081/healthy")
	health(fmt.Sprintln(serving, serving, serving, codes.NotFound))

	dialed, err := net.Dial("tcp", address+":7000") //nolint:noctx // one of a test
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	tcp.says(t, "accepted ")

	// Told to end, http goes on serving, tcp does for a moment, and grpc does not.
	before := time.Now()
	s.CLI(t, "kill", "--signal=TERM", "http", "grpc", "tcp")
	http1.says(t, "received TERM")
	if code, _ := fetch(t, base+"/readyz"); code != 503 {
		t.Errorf("while lingering, /readyz answered %d", code)
	}
	for name, c := range map[string]*container{"grpc": rpc, "tcp": tcp} {
		if code := c.code(t); code != 0 {
			t.Errorf("%s ended with %d", name, code)
		}
	}
	line, err := os.ReadFile(filepath.Join(shared, "term"))
	if err != nil {
		t.Fatal(err)
	}
	moment, _ := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), "TERM ")
	if at, err := time.Parse(time.RFC3339Nano, moment); err != nil || at.Before(before) {
		t.Errorf("the file has %q: %v", line, err)
	}
}

func TestMemory(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	little := start(t, "run", "--network=none", "--name=little", "--memory=64m", image, "eat", "20Mi")
	if got := little.says(t, "ate "); got != "20971520" {
		t.Errorf("ate %s", got)
	}
	s.CLI(t, "kill", "--signal=TERM", "little")
	if code := little.code(t); code != 0 {
		t.Errorf("little: exit code %d", code)
	}
	busy := start(t, "run", "--network=none", "--name=busy", image, "burn")
	busy.says(t, "burning")
	s.CLI(t, "kill", "--signal=TERM", "busy")
	if code := busy.code(t); code != 0 {
		t.Errorf("busy: exit code %d", code)
	}
	_, err := s.CLIErr(t, "run", "--network=none", "--memory=64m", "--memory-swap=64m", image, "eat", "1Gi")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 137 {
		t.Errorf("too much: %v", err)
	}
}

// TestHangAndUntil: what hangs in an exec leaves a process behind; what waits for a file goes on with it.
func TestHangAndUntil(t *testing.T) {
	s := lab.Podman(t)
	image := lab.Image(t, s)
	t.Cleanup(func() { s.Reset(t) })
	shared := t.TempDir()
	c := start(t, "run", "--network=none", "--name=main", "--volume="+shared+":/shared", image, "seq", "print up", "until /shared/go", "exit 4")
	c.says(t, "up")
	probe := start(t, "exec", "main", "hang")
	child := probe.says(t, "hanging with ")
	if ps := s.CLI(t, "exec", "main", "ps"); !strings.Contains(ps, child+" ignore-term") || !strings.Contains(ps, " hang\n") {
		t.Errorf("processes:\n%s", ps)
	}
	if err := os.WriteFile(filepath.Join(shared, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := c.code(t); code != 4 {
		t.Errorf("let go, it ended with %d", code)
	}
	probe.code(t)

	// As PID 1, which the kernel does not let die of TERM, hang is ended by Go, and its child goes with it.
	for name, c := range map[string]struct {
		step, up string
		code     int
	}{"waits": {"until /never", "up", 143}, "hangs": {"hang", "hanging with", 2}} {
		told := start(t, "run", "--network=none", "--name="+name, image, "seq", "print up", c.step)
		told.says(t, c.up)
		s.CLI(t, "kill", "--signal=TERM", name)
		if code := told.code(t); code != c.code {
			t.Errorf("told to end, what %s ended with %d, want %d", name, code, c.code)
		}
	}
}
