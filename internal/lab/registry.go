package lab

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// RegistryOptions say what registry a test wants. The zero value has TLS, with a CA that Podman trusts, and lets everybody
// push and pull.
type RegistryOptions struct {
	// Plain is HTTP instead of TLS.
	Plain bool
	// User and Password have to be given with every request, unless User is empty.
	User, Password string
	// Untrusted is for a registry of which Podman has not been told: pulls fail, because nobody knows who has
	// signed its certificate, or because it speaks HTTP. Trust mends the first.
	Untrusted bool
}

// RegistryServer is a registry of one test: Debian's docker-registry behind a proxy of ours, which has the TLS and the
// password, counts requests, and makes trouble when told to. Its methods may be called from several goroutines.
type RegistryServer struct {
	options RegistryOptions
	host    string
	ca      []byte

	mu       sync.Mutex
	requests []Request
	status   int
	speed    int
	cut      int64
	gate     chan struct{} // open when nil
	waiting  chan string
}

// Request is what somebody asked a registry for.
type Request struct {
	Method, Path string
	User         string // as claimed; empty without
	Status       int    // of the answer; 0 while there is none
}

// plainHosts is where registries without TLS listen. scripts/lab has told Podman of them (plain.conf), because a service reads
// registries.conf and what belongs to it once in its life. CAs it reads for each pull.
const plainHosts = "127.0.0.2:5000 127.0.0.2:5001 127.0.0.2:5002 127.0.0.2:5003"

// Registry starts a registry for the test, or skips. It listens on a loopback address of the lab, which containers cannot
// reach and Podman can.
func Registry(t testing.TB, options RegistryOptions) *RegistryServer {
	t.Helper()
	Need(t)
	if err := ownSettings(); err != nil {
		t.Fatal(err)
	}
	r := &RegistryServer{options: options}
	socket := startRegistry(t)

	listener, err := r.listen()
	if err != nil {
		t.Fatal(err)
	}
	r.host = listener.Addr().String()
	if !options.Plain {
		config, ca, err := selfSigned(listener.Addr().(*net.TCPAddr).IP)
		if err != nil {
			t.Fatal(err)
		}
		listener, r.ca = tls.NewListener(listener, config), ca
	}
	// Clients that go away in the middle, and those that trust nobody, are what tests are about.
	quiet := log.New(io.Discard, "", 0)
	server := &http.Server{Handler: r.proxy(socket, quiet), ErrorLog: quiet, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	if !options.Untrusted && !options.Plain {
		r.Trust(t)
	}
	return r
}

// ownSettings makes sure that /etc/containers is the lab's, and not that of the machine.
func ownSettings() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/etc/containers" {
			return nil
		}
	}
	return errors.New("/etc/containers is the machine's own: not in scripts/lab?")
}

// startRegistry runs docker-registry until the test ends, and returns the socket on which it answers.
func startRegistry(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	// A socket's path must be short, which a test's folder is not.
	short, err := os.MkdirTemp("/run", "registry") //nolint:usetesting // t.TempDir's is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	socket := filepath.Join(short, "sock")
	// JSON is YAML.
	config, err := json.Marshal(map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "info", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{
			"filesystem": map[string]any{"rootdirectory": filepath.Join(dir, "registry")},
			"delete":     map[string]any{"enabled": true},
		},
		"http": map[string]any{"net": "unix", "addr": socket, "relativeurls": true, "secret": "lab"},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", file) //nolint:noctx // ended by Cleanup
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start docker-registry (scripts/install-deps): %v", err)
	}
	up, ended := make(chan struct{}), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(ended)
		lines, once := bufio.NewScanner(out), sync.Once{}
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "listening on") {
				once.Do(func() { close(up) })
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait() // "signal: killed"
	})
	select {
	case <-up:
	case <-ended:
		t.Fatalf("docker-registry ended at once:\n%s", said.String())
	}
	return socket
}

func (r *RegistryServer) listen() (net.Listener, error) {
	hosts := []string{"127.0.0.1:0"}
	if r.options.Plain && !r.options.Untrusted {
		hosts = strings.Fields(plainHosts)
	}
	var faults []error
	for _, host := range hosts {
		listener, err := net.Listen("tcp", host) //nolint:noctx // takes no time
		if err == nil {
			return listener, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

// selfSigned is a certificate that is its own CA.
func selfSigned(ip net.IP) (*tls.Config, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "lab registry"},
		IPAddresses:  []net.IP{ip},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, ca, nil
}

// Host is the registry's address, as it stands before the first slash of an image's name.
func (r *RegistryServer) Host() string { return r.host }

// Image is the full name of an image of the registry: of "app:1", say.
func (r *RegistryServer) Image(name string) string { return r.host + "/" + name }

// CA is the certificate that a client has to trust, as PEM; nil without TLS.
func (r *RegistryServer) CA() []byte { return r.ca }

// Trust tells Podman to trust the registry's CA, until the test ends. A running service heeds it from the next pull on.
func (r *RegistryServer) Trust(t testing.TB) {
	t.Helper()
	if r.options.Plain {
		t.Fatal("a registry without TLS is trusted from the start or never")
	}
	dir := filepath.Join("/etc/containers/certs.d", r.host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), r.ca, 0o644); err != nil {
		t.Fatal(err)
	}
}

// DockerConfig is a config.json with the registry's user and password: what `podman login` writes, and what a Secret of the
// type kubernetes.io/dockerconfigjson holds.
func (r *RegistryServer) DockerConfig() []byte {
	login := base64.StdEncoding.EncodeToString([]byte(r.options.User + ":" + r.options.Password))
	return fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, r.host, login)
}

// Push copies an image that Podman has into the registry, as name ("app:1"), and returns the manifest's digest there. Podman
// still has the layers, so that a pull gets the manifest and the config alone; PushNew is for pulls that have something to do.
func (r *RegistryServer) Push(t testing.TB, image, name string) (digest string) {
	t.Helper()
	return r.push(t, image, name)
}

// PushNew pushes an image that Podman does not have: the test image's variant 1 with another layer on it, in which
// lies a file /data of so many random bytes.
func (r *RegistryServer) PushNew(t testing.TB, name string, size int) (digest string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	base, err := layer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	var w tarball
	w.file("data", data)
	top, err := w.bytes()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(top)
	v := variant{name: "localhost/skerry-new-" + hex.EncodeToString(sum[:6]), tag: "1"}
	if err := load(ctx, [][]byte{base, top}, []variant{v}); err != nil {
		t.Fatal(err)
	}
	image := v.name + ":" + v.tag
	digest = r.push(t, image, name)
	if _, err := podman(ctx, nil, "rmi", image); err != nil {
		t.Fatal(err)
	}
	return digest
}

func (r *RegistryServer) push(t testing.TB, image, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "digest")
	args := []string{"push", "--quiet", "--digestfile", file}
	if r.options.User != "" {
		args = append(args, "--creds", r.options.User+":"+r.options.Password)
	}
	if r.options.Untrusted {
		args = append(args, "--tls-verify=false")
	}
	if _, err := podman(context.WithoutCancel(t.Context()), nil, append(args, image, r.Image(name))...); err != nil {
		t.Fatal(err)
	}
	digest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(digest)
}

// Requests are all requests so far, in the order in which they came, refused ones and those of pushes included.
func (r *RegistryServer) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Count is how often something was asked for: a method ("" is any), and a pattern for the path, as path.Match has it.
// A pull of app:1 that gets something is GET /v2/app/manifests/1 and one or more of GET /v2/app/blobs/*.
func (r *RegistryServer) Count(method, pattern string) int {
	n := 0
	for _, request := range r.Requests() {
		if ok, _ := path.Match(pattern, request.Path); ok && (method == "" || method == request.Method) {
			n++
		}
	}
	return n
}

// Hold makes downloads of blobs wait, each as soon as it begins, until release is called or the test ends. The paths of those that
// wait come by the channel.
func (r *RegistryServer) Hold(t testing.TB) (waiting <-chan string, release func()) {
	t.Helper()
	gate, who := make(chan struct{}), make(chan string, 1000)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gate != nil {
		t.Fatal("downloads are held already")
	}
	r.gate, r.waiting = gate, who
	release = sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(gate)
		r.gate, r.waiting = nil, nil
	})
	t.Cleanup(release)
	return who, release
}

// Slow lets every download of a blob have so many bytes a second; 0 is all there are.
func (r *RegistryServer) Slow(bytesPerSecond int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.speed = bytesPerSecond
}

// Cut breaks every download of a blob off after so many bytes; 0 lets them end.
func (r *RegistryServer) Cut(after int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = after
}

// Fail answers every request with an error: 503, say; 0 is the truth again.
func (r *RegistryServer) Fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// proxy is the registry as clients see it.
func (r *RegistryServer) proxy(socket string, quiet *log.Logger) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "registry"})
			p.Out.Host = p.In.Host
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
		ModifyResponse: func(answer *http.Response) error {
			if download(answer.Request) {
				answer.Body = &throttled{ReadCloser: answer.Body, ctx: answer.Request.Context(), registry: r}
			}
			return nil
		},
		FlushInterval: -1,
		ErrorLog:      quiet,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		user, password, _ := request.BasicAuth()
		r.mu.Lock()
		r.requests = append(r.requests, Request{Method: request.Method, Path: request.URL.Path, User: user})
		n, status, gate, waiting := len(r.requests)-1, r.status, r.gate, r.waiting
		r.mu.Unlock()
		w = &noted{w, func(status int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.requests[n].Status = status
		}}
		switch {
		case status != 0:
			http.Error(w, http.StatusText(status), status)
			return
		case r.options.User != "" && (!same(user, r.options.User) || !same(password, r.options.Password)):
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":"lab"}]}`)
			return
		case gate != nil && download(request):
			waiting <- request.URL.Path
			select {
			case <-gate:
			case <-request.Context().Done():
				return
			}
		}
		forward.ServeHTTP(w, request)
	})
}

func download(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// noted tells what status is answered.
type noted struct {
	http.ResponseWriter
	note func(status int)
}

// WriteHeader leaves out what is no answer yet (100 Continue).
func (n *noted) WriteHeader(status int) {
	if status >= 200 {
		n.note(status)
	}
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// throttled is a blob on its way.
type throttled struct {
	io.ReadCloser
	ctx      context.Context //nolint:containedctx // of the one request that it is the answer to
	registry *RegistryServer
	sent     int64
}

// Read returns as much as Slow and Cut allow.
func (b *throttled) Read(p []byte) (int, error) {
	b.registry.mu.Lock()
	speed, cut := b.registry.speed, b.registry.cut
	b.registry.mu.Unlock()
	if cut > 0 {
		if b.sent >= cut {
			return 0, errors.New("cut")
		}
		p = p[:min(int64(len(p)), cut-b.sent)]
	}
	if speed > 0 {
		p = p[:min(len(p), max(speed/20, 1))]
	}
	n, err := b.ReadCloser.Read(p)
	b.sent += int64(n)
	if speed > 0 && n > 0 {
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(speed)):
		case <-b.ctx.Done():
			return n, b.ctx.Err()
		}
	}
	return n, err
}
