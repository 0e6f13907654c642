package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/skerry-dev/skerry/coord/etcd"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/internal/lab"
)

func freePort(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", lab.Port(t))
}

// member runs the etcd of a server.
func member(t *testing.T, identity *pki.Identity, m pki.Membership) *etcd.Member {
	t.Helper()
	root, certificate, key := identity.Paths()
	server, err := etcd.StartMember(t.Context(), etcd.MemberConfig{
		Name: string(identity.Name()), Dir: t.TempDir(), PeerURL: m.PeerURL, ClientURL: m.ClientURL, CA: root, Cert: certificate, Key: key,
		PeerHost: pki.ServerHost, InitialCluster: m.InitialCluster, Existing: m.Existing,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

func ready(t *testing.T, m *etcd.Member) {
	t.Helper()
	select {
	case <-m.Ready():
	case <-time.After(60 * time.Second):
		t.Fatal("the member has no quorum")
	}
}

// store is closed by the caller, before its members stop: it says farewell to them.
func store(t *testing.T, identity *pki.Identity, endpoints []string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: endpoints, TLS: identity.AnyServerTLS(), Node: identity.Name()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestJoinOverEtcd makes a fleet whose memory is a real etcd with the fleet's certificates: an agent joins it, then a server.
func TestJoinOverEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts two etcd servers")
	}
	peer, client := "https://"+freePort(t), "https://"+freePort(t)
	founding := pki.Membership{
		Role: pki.RoleServer, PeerURL: peer, ClientURL: client, Endpoints: []string{client}, InitialCluster: map[string]string{"alpha": peer},
	}
	alpha, err := pki.Found(filepath.Join(t.TempDir(), "fleet"), "alpha", localhost, founding, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ready(t, member(t, alpha, founding))
	memory := store(t, alpha, founding.Endpoints)
	defer memory.Close()
	admin, err := clientv3.New(clientv3.Config{Endpoints: founding.Endpoints, TLS: alpha.AnyServerTLS(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()

	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Register(t.Context(), fleet.Node{Name: "alpha", Address: "127.0.0.1", Fleet: l.Addr().String(), Server: true, Voter: true}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: Handler(Config{
		Identity: alpha, Log: slog.New(slog.DiscardHandler), Known: func(fleet.NodeName) bool { return true },
		Pack: func(context.Context, fleet.SourceName, fleet.Revision, io.Writer) error { return errors.ErrUnsupported },
		Door: &Door{
			Roll: memory, Tokens: memory, Endpoints: func() []string { return founding.Endpoints },
			AddMember: func(ctx context.Context, name fleet.NodeName, peerURL string) (map[string]string, error) {
				_, err := admin.MemberAddAsLearner(ctx, []string{peerURL})
				return map[string]string{"alpha": peer, string(name): peerURL}, err
			},
		},
	})}
	defer server.Close()
	go func() { _ = server.Serve(tls.NewListener(l, alpha.DoorTLS())) }()

	offer := func(vote bool) string {
		text, token := pki.NewToken(alpha.Authority().Fingerprint(), vote, time.Now(), time.Hour)
		if err := memory.Offer(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		return text
	}
	request := func(name fleet.NodeName, role, token string) Request {
		return Request{
			Dir: filepath.Join(t.TempDir(), "fleet"), Server: l.Addr().String(), Token: token, Role: role, Listen: "127.0.0.1:7443",
			Node:    fleet.Node{Name: name, Address: "127.0.0.1", Fleet: "127.0.0.1:7443"},
			PeerURL: "https://" + freePort(t), ClientURL: "https://" + freePort(t),
		}
	}

	// Two with one token: one is let in.
	token := offer(false)
	names := []fleet.NodeName{"beta", "delta"}
	joined, errs := make([]Joined, 2), make([]error, 2)
	var both sync.WaitGroup
	for i, name := range names {
		r := request(name, pki.RoleAgent, token)
		both.Go(func() { joined[i], errs[i] = Join(t.Context(), r) })
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("two joined by one token, or none: %v", errs)
	}
	in := 0
	if errs[0] != nil {
		in = 1
	}
	if _, err := Join(t.Context(), request(names[in], pki.RoleAgent, offer(false))); err == nil {
		t.Error("a second node of a name was let in")
	}

	// An agent reads the memory, and cannot be a peer of it.
	agent := joined[in]
	ofAgent := store(t, agent.Identity, agent.Membership.Endpoints)
	defer ofAgent.Close()
	nodes, err := waitForNodes(t, ofAgent, 2)
	if err != nil || nodes[1].Name != names[in] {
		t.Fatal(nodes, err)
	}
	if meetPeer(t, peer, agent.Identity) == nil {
		t.Error("an agent can be a peer of the fleet's memory")
	}
	if err := meetPeer(t, peer, alpha); err != nil {
		t.Errorf("a server cannot be a peer of the fleet's memory: %v", err)
	}

	gamma, err := Join(t.Context(), request("gamma", pki.RoleServer, offer(true)))
	if err != nil {
		t.Fatal(err)
	}
	ready(t, member(t, gamma.Identity, gamma.Membership))
	if err := promote(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	ofGamma := store(t, gamma.Identity, []string{gamma.Membership.ClientURL})
	defer ofGamma.Close()
	if nodes, err := waitForNodes(t, ofGamma, 3); err != nil || !nodes[2].Voter {
		t.Error(nodes, err)
	}
}

// promote lets whoever only listens vote, once etcd says that it has caught up.
func promote(ctx context.Context, admin *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	members, err := admin.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range members.Members {
		for m.IsLearner {
			if _, err := admin.MemberPromote(ctx, m.ID); err == nil {
				break
			} else if !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
				return err
			}
		}
	}
	return nil
}

// waitForNodes reads the roll until it has so many.
func waitForNodes(t *testing.T, s *etcd.Store, count int) ([]fleet.Node, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	rung, done := context.WithCancel(ctx)
	_ = s.Watch(rung, func() {
		if nodes, err := s.Nodes(ctx); err != nil || len(nodes) >= count {
			done()
		}
	})
	done()
	nodes, err := s.Nodes(ctx)
	if len(nodes) < count {
		t.Fatalf("on the roll are %v, away: %s", nodes, s.Away())
	}
	return nodes, err
}

// meetPeer asks etcd's port for peers as a node.
func meetPeer(t *testing.T, peer string, identity *pki.Identity) error {
	t.Helper()
	c := http.Client{Transport: &http.Transport{TLSClientConfig: identity.AnyTLS(), DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, peer+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
