package join

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

func TestJoin(t *testing.T) {
	w := newWorld(t)
	beta := w.join("beta", pki.RoleAgent)
	want := pki.Membership{
		Version: 1, Role: pki.RoleAgent, Listen: "127.0.0.2:7443", Servers: []string{w.address}, Endpoints: []string{"https://127.0.0.1:2"},
	}
	if d := gocmp.Diff(want, beta.Membership); d != "" {
		t.Error(d)
	}
	if beta.Identity.Name() != "beta" || beta.Identity.Server() || beta.Identity.Authority() != nil || beta.Charter.Network.Domain != "attic.local" {
		t.Errorf("%+v", beta)
	}
	if n := w.memory.nodes["beta"]; n.Voter || n.Labels["zone"] != "attic" {
		t.Errorf("on the roll: %+v", n)
	}

	gamma := w.join("gamma", pki.RoleServer)
	want = pki.Membership{
		Version: 1, Role: pki.RoleServer, Listen: "127.0.0.2:7443", Servers: []string{w.address}, Endpoints: []string{"https://127.0.0.1:2"},
		InitialCluster: map[string]string{"alpha": "https://127.0.0.1:1", "gamma": "https://127.0.0.2:7445"}, Existing: true,
		PeerURL: "https://127.0.0.2:7445", ClientURL: "https://127.0.0.2:7444",
	}
	if d := gocmp.Diff(want, gamma.Membership); d != "" {
		t.Error(d)
	}
	if !gamma.Identity.Server() || gamma.Identity.Authority().Fingerprint() != w.alpha.Authority().Fingerprint() || !w.memory.nodes["gamma"].Voter {
		t.Error("a server has joined and cannot let in others")
	}

	// Whoever was let in can let in others, if it is a server.
	w.address = w.serve(Config{Identity: gamma.Identity, Door: &Door{
		Roll: w.memory, Tokens: w.memory, AddMember: w.memory.addMember, Endpoints: func() []string { return nil },
	}})
	w.join("delta", pki.RoleWitness)

	for _, secret := range []string{"skerry.", "PRIVATE KEY"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log has %s: %s", secret, &w.log)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		turn func(w *world, r *Request)
		want string
		good bool // the token is good still
	}{
		"used twice": {func(w *world, r *Request) {
			if _, err := Join(w.Context(), w.request("delta", pki.RoleAgent, r.Token)); err != nil {
				w.Fatal(err)
			}
		}, "used already", false},
		"too old, and forgotten": {func(w *world, r *Request) {
			r.Token = w.token(false, -time.Hour)
			clear(w.memory.tokens)
		}, "too old, it ended", false},
		"too old": {func(w *world, r *Request) { r.Token = w.token(false, -time.Hour) }, "too old, it ended", false},
		"never offered": {func(w *world, r *Request) {
			r.Token, _ = pki.NewToken(w.alpha.Authority().Fingerprint(), false, time.Now(), time.Hour)
		}, "never one of this fleet", false},
		"wrong secret": {func(w *world, r *Request) {
			mine, other := strings.Split(r.Token, "."), strings.Split(w.token(false, time.Hour), ".")
			mine[2] = other[2]
			r.Token = strings.Join(mine, ".")
		}, "its secret is wrong", true},
		"another fleet": {func(w *world, r *Request) { r.Server = newWorld(w.T).address }, "does not belong to this fleet", true},
		"no server": {func(w *world, r *Request) {
			r.Server = w.serve(Config{Identity: w.join("omega", pki.RoleAgent).Identity})
		}, "the node omega is no server of the fleet", true},
		"same name":            {func(_ *world, r *Request) { r.Node.Name = "alpha" }, "a node called alpha belongs to the fleet already", true},
		"token for agents":     {func(_ *world, r *Request) { r.Role = pki.RoleServer }, "the token is for agents", true},
		"witness by the same":  {func(_ *world, r *Request) { r.Role = pki.RoleWitness }, "the token is for agents", true},
		"bad name":             {func(_ *world, r *Request) { r.Node.Name = "Not A Name" }, "no name for a node", true},
		"no address":           {func(_ *world, r *Request) { r.Node.Address = "beta.lan" }, "is no IP address", true},
		"no fleet address":     {func(_ *world, r *Request) { r.Node.Fleet = "127.0.0.2" }, "is not host:port", true},
		"no peer URL":          {func(w *world, r *Request) { r.Role, r.Token, r.PeerURL = pki.RoleServer, w.token(true, time.Hour), "x" }, "is not https://host:port", false},
		"no token":             {func(_ *world, r *Request) { r.Token = "hunter2" }, "this is no token", true},
		"no such role":         {func(_ *world, r *Request) { r.Role = "king" }, `"king"`, true},
		"nobody there":         {func(_ *world, r *Request) { r.Server = "127.0.0.1:1" }, "refused", true},
		"who hangs up":         {func(w *world, r *Request) { r.Server = deaf(w.T) }, "", true},
		"whose answer is lost": {func(w *world, r *Request) { r.Server = w.mute() }, "it is not known whether the fleet has let beta in", true},
		"the memory is away":   {func(w *world, _ *Request) { w.memory.away = coord.ErrAway }, "store does not answer", true},
		"no place for servers": {func(w *world, r *Request) {
			r.Role, r.Token, w.memory.full = pki.RoleServer, w.token(true, time.Hour), errors.New("no quorum")
		}, "beta could not be let in (no quorum): make a new token", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.token(false, time.Hour)
			r := w.request("beta", pki.RoleAgent, first)
			c.turn(w, &r)
			_, err := Join(t.Context(), r)
			w.refused(r, err, c.want)
			w.memory.away = nil
			if _, joined := w.memory.nodes["beta"]; joined {
				t.Error("who was refused is on the roll")
			}
			if !c.good {
				return
			}
			if _, err := Join(t.Context(), w.request("beta", pki.RoleAgent, first)); err != nil {
				t.Errorf("the token is good no more: %v", err)
			}
		})
	}
}

// TestClock has a machine join whose clock is wrong, which a test cannot bring about in this process.
func TestClock(t *testing.T) {
	now := time.Now()
	for off, want := range map[time.Duration]string{
		3 * time.Hour: "the clock of beta is 3h0m0s ahead of the fleet's", -6 * time.Minute: "6m0s behind", 4 * time.Minute: "", -4 * time.Minute: "",
	} {
		d, err := pki.NewDraft(t.TempDir()+"/fleet", "beta", pki.RoleAgent)
		if err != nil {
			t.Fatal(err)
		}
		request, _ := d.Request()
		node := fleet.Node{Name: "beta", Address: "127.0.0.2", Fleet: "127.0.0.2:7443"}
		err = check(application{Node: node, Request: request, Now: now.Add(off)}, coord.Token{}, now)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s off: %v", off, err)
		}
	}
}

// TestJoinsAtOnce has several machines run with one token.
func TestJoinsAtOnce(t *testing.T) {
	w := newWorld(t)
	token := w.token(false, time.Hour)
	names := []fleet.NodeName{"beta", "gamma", "delta", "beta"}
	errs := make([]error, len(names))
	requests := make([]Request, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		requests[i] = w.request(name, pki.RoleAgent, token)
		all.Go(func() { _, errs[i] = Join(t.Context(), requests[i]) })
	}
	all.Wait()
	joined := 0
	for i, err := range errs {
		if err == nil {
			joined++
			continue
		}
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Status != http.StatusForbidden && refusal.Status != http.StatusConflict {
			t.Errorf("%s: %v", names[i], err)
		}
		w.refused(requests[i], err)
	}
	if joined != 1 || len(w.memory.nodes) != 2 || len(w.memory.tokens) != 0 {
		t.Errorf("%d have joined, on the roll are %d, of tokens there are %d", joined, len(w.memory.nodes), len(w.memory.tokens))
	}
}

func TestJoinKeepsAnIdentity(t *testing.T) {
	w := newWorld(t)
	r := w.request("beta", pki.RoleAgent, w.token(false, time.Hour))
	if _, err := Join(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Token = w.token(false, time.Hour)
	if _, err := Join(t.Context(), r); !errors.Is(err, pki.ErrMember) {
		t.Errorf("a second time: %v", err)
	}
	if len(w.memory.tokens) != 1 {
		t.Error("the token was used for nothing")
	}
	if i, err := pki.Load(r.Dir); err != nil || i.Name() != "beta" {
		t.Errorf("the first identity: %v %v", i, err)
	}
}

// TestWhoMayAsk asks with and without a certificate.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	beta := w.join("beta", pki.RoleAgent).Identity
	delete(w.memory.nodes, "beta")
	gamma := w.join("gamma", pki.RoleAgent).Identity
	foreign, err := gamma.Request()
	if err != nil {
		t.Fatal(err)
	}
	ofBeta := w.client(beta)
	_, renewErr := ofBeta.Renew(t.Context(), w.address, foreign)
	_, commitErr := ofBeta.Commit(t.Context(), w.address, "home", "abc")
	for _, err := range []error{renewErr, commitErr} {
		if err == nil || !strings.Contains(err.Error(), "the node beta does not belong to the fleet any more") {
			t.Errorf("who was removed: %v", err)
		}
	}
	if err := w.memory.Register(t.Context(), fleet.Node{Name: "beta"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ofBeta.Renew(t.Context(), w.address, foreign); err == nil || !strings.Contains(err.Error(), "its own name only") {
		t.Errorf("for another node: %v", err)
	}
	if _, err := w.client(newWorld(t).alpha).Renew(t.Context(), w.address, foreign); !errors.Is(err, pki.ErrOtherFleet) {
		t.Errorf("from another fleet: %v", err)
	}
	agent := w.serve(Config{Identity: gamma})
	own, _ := beta.Request()
	if _, err := ofBeta.Renew(t.Context(), agent, own); err == nil || !strings.Contains(err.Error(), "the node gamma is no server") {
		t.Errorf("by an agent: %v", err)
	}
	w.memory.away = coord.ErrAway
	if _, err := ofBeta.Renew(t.Context(), w.address, own); err == nil || !strings.Contains(err.Error(), "store does not answer") {
		t.Errorf("while the memory is away: %v", err)
	}
	for path, want := range map[string]int{renewPath: http.StatusUnauthorized, joinPath: http.StatusBadRequest} {
		if code, text := w.post(nil, path, "secret-rubbish"); code != want || strings.Contains(text, "secret-rubbish") {
			t.Errorf("%s without a certificate: %d %s", path, code, text)
		}
	}
	w.address = agent
	if code, text := w.post(gamma, joinPath, "{}"); code != http.StatusMisdirectedRequest || !strings.Contains(text, "the node gamma is no server") {
		t.Errorf("joining by an agent: %d %s", code, text)
	}
}
