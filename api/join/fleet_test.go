package join

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

// memory is the part of a fleet's memory that joining needs.
type memory struct {
	mu      sync.Mutex
	nodes   map[fleet.NodeName]fleet.Node
	tokens  map[string]coord.Token
	away    error // what every call fails with
	members map[string]string
	full    error // what AddMember fails with
}

func (m *memory) Register(_ context.Context, n fleet.Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[n.Name] = n
	return m.away
}

func (m *memory) Nodes(context.Context) ([]fleet.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	byName := func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) }
	return slices.SortedFunc(maps.Values(m.nodes), byName), m.away
}

func (m *memory) Dismiss(_ context.Context, name fleet.NodeName) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.nodes, name)
	return m.away
}

func (m *memory) Charter(context.Context) (fleet.Charter, error) {
	return fleet.Charter{Network: fleet.NetworkTerms{Domain: "attic.local"}}, m.away
}

func (m *memory) Grant(context.Context, fleet.Charter) error { return m.away }
func (m *memory) Away() string                               { return "" }

func (m *memory) Offer(_ context.Context, t coord.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[t.ID] = t
	return m.away
}

// Offered has tokens that are too old as well: a store may forget them late.
func (m *memory) Offered(_ context.Context, id string) (coord.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.tokens[id]; ok {
		return t, m.away
	}
	return coord.Token{}, cmp.Or(m.away, coord.ErrToken)
}

func (m *memory) Redeem(_ context.Context, id string, n fleet.Node) (coord.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tokens[id]
	if !ok {
		return coord.Token{}, coord.ErrToken
	}
	if _, taken := m.nodes[n.Name]; taken {
		return coord.Token{}, coord.ErrTaken
	}
	delete(m.tokens, id)
	m.nodes[n.Name] = n
	return t, m.away
}

func (m *memory) addMember(_ context.Context, name fleet.NodeName, peerURL string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full == nil {
		m.members[string(name)] = peerURL
	}
	return maps.Clone(m.members), m.full
}

// world is a fleet of one server, alpha, that listens on the loopback.
type world struct {
	*testing.T
	memory   *memory
	alpha    *pki.Identity
	address  string
	log      journal
	commits  map[string]string
	cutAfter bool // the commit breaks off
}

// journal is what was logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	m := pki.Membership{Role: pki.RoleServer, Listen: "127.0.0.1:7443"}
	alpha, err := pki.Found(filepath.Join(t.TempDir(), "fleet"), "alpha", nil, m, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, alpha: alpha, commits: map[string]string{}, memory: &memory{
		nodes: map[fleet.NodeName]fleet.Node{}, tokens: map[string]coord.Token{}, members: map[string]string{"alpha": "https://127.0.0.1:1"},
	}}
	w.address = w.serve(Config{Identity: alpha, Door: &Door{
		Roll: w.memory, Tokens: w.memory, AddMember: w.memory.addMember, Endpoints: func() []string { return []string{"https://127.0.0.1:2"} },
	}})
	w.memory.nodes["alpha"] = fleet.Node{Name: "alpha", Address: "127.0.0.1", Fleet: w.address, Server: true, Voter: true}
	return w
}

// serve serves a node until the test ends.
func (w *world) serve(c Config) (address string) {
	w.Helper()
	c.Known = func(name fleet.NodeName) bool {
		w.memory.mu.Lock()
		defer w.memory.mu.Unlock()
		_, ok := w.memory.nodes[name]
		return ok
	}
	c.Pack = func(_ context.Context, source fleet.SourceName, revision fleet.Revision, out io.Writer) error {
		content, ok := w.commits[fmt.Sprintf("%s/%s", source, revision)]
		if !ok {
			return fs.ErrNotExist
		}
		if _, err := io.WriteString(out, content); err != nil {
			return err
		}
		if w.cutAfter {
			return errors.New("the disk broke")
		}
		return nil
	}
	c.Log = slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := httptest.NewUnstartedServer(Handler(c))
	s.Listener = tls.NewListener(s.Listener, c.Identity.DoorTLS()) // StartTLS has a certificate of its own
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	w.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// token offers one for agents or for servers.
func (w *world) token(server bool, ttl time.Duration) string {
	w.Helper()
	text, token := pki.NewToken(w.alpha.Authority().Fingerprint(), server, time.Now(), ttl)
	if err := w.memory.Offer(w.Context(), token); err != nil {
		w.Fatal(err)
	}
	return text
}

// request is of a machine that has done everything right.
func (w *world) request(name fleet.NodeName, role, token string) Request {
	return Request{
		Dir: filepath.Join(w.TempDir(), "fleet"), Server: w.address, Token: token, Role: role, Listen: "127.0.0.2:7443",
		Node:    fleet.Node{Name: name, Address: "127.0.0.2", Fleet: "127.0.0.2:7443", Labels: map[string]string{"zone": "attic"}},
		PeerURL: "https://127.0.0.2:7445", ClientURL: "https://127.0.0.2:7444",
	}
}

// join joins with a token of its own.
func (w *world) join(name fleet.NodeName, role string) Joined {
	w.Helper()
	joined, err := Join(w.Context(), w.request(name, role, w.token(role != pki.RoleAgent, time.Hour)))
	if err != nil {
		w.Fatal(err)
	}
	return joined
}

// client asks as a node.
func (w *world) client(identity *pki.Identity) *Client {
	c := NewClient(identity)
	w.Cleanup(c.Close)
	return c
}

// refused checks an error, that it has some words, and that nothing is left of a join.
func (w *world) refused(r Request, err error, words ...string) {
	w.Helper()
	if err == nil {
		w.Errorf("no error, want one with %q", words)
		return
	}
	text := err.Error()
	for _, word := range words {
		if !strings.Contains(text, word) {
			w.Errorf("error is %q, want it to have %q", text, word)
		}
	}
	if parts := strings.Split(r.Token, "."); len(parts) > 2 {
		for where, told := range map[string]string{"an error": text, "the log": w.log.String()} {
			if strings.Contains(told, parts[2]) {
				w.Errorf("%s tells the token's secret: %s", where, told)
			}
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(r.Dir)); len(left) > 0 {
		w.Errorf("left behind: %v", left)
	}
}

var localhost = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// mute takes what a machine says and hangs up.
func (w *world) mute() string {
	w.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	s.Listener = tls.NewListener(s.Listener, w.alpha.DoorTLS())
	s.Start()
	w.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// deaf accepts connections and closes them.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// post asks without Client and Join, as anybody may.
func (w *world) post(identity *pki.Identity, path, content string) (int, string) {
	w.Helper()
	c := http.Client{Transport: &http.Transport{TLSClientConfig: pki.JoinTLS(w.alpha.Authority().Fingerprint()), DisableKeepAlives: true}}
	if identity != nil {
		c.Transport = &http.Transport{TLSClientConfig: identity.AnyTLS(), DisableKeepAlives: true}
	}
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "https://"+w.address+path, strings.NewReader(content))
	if err != nil {
		w.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response.StatusCode, string(text)
}
