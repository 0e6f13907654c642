package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api/join"
	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/etcd"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/podsecurity"
)

// addresses that were given out: two listeners of a test must not get one.
var given sync.Map

// address is one that nobody listens on now, and that the kernel gives to nobody who asks for any.
func address(t *testing.T) string {
	t.Helper()
	for {
		at := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if _, twice := given.LoadOrStore(at, true); twice {
			continue
		}
		if l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at); err == nil {
			l.Close()
			return at
		}
	}
}

// founded is the configuration of a machine that has founded a fleet.
func founded(t *testing.T, change func(*config, *pki.Membership)) config {
	t.Helper()
	c := config{Node: nodeConfig{Name: "alpha", Address: "127.0.0.1", DataDir: t.TempDir()}, Network: networkConfig{PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16", Domain: "cluster.local"}}
	m := pki.Membership{Role: pki.RoleServer, Listen: address(t), PeerURL: "https://" + address(t), ClientURL: "https://" + address(t)}
	m.InitialCluster, m.Endpoints = map[string]string{"alpha": m.PeerURL}, []string{m.ClientURL}
	if change != nil {
		change(&c, &m)
	}
	if _, err := pki.Found(c.fleetDir(), "alpha", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, m, time.Now()); err != nil {
		t.Fatal(err)
	}
	return c
}

// opened is a member that runs until the test ends.
func opened(t *testing.T, c config) *membership {
	t.Helper()
	return openedTo(t, c, t.Output())
}

// openedTo is opened, with errors told to log.
func openedTo(t *testing.T, c config, log io.Writer) *membership {
	t.Helper()
	m, err := c.openMembership(t.Context(), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, errRetired) {
			t.Error(err)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// heard is a log that tells once something was said.
type heard struct {
	text string
	once sync.Once
	said chan struct{}
}

func (h *heard) Write(line []byte) (int, error) {
	if strings.Contains(string(line), h.text) {
		h.once.Do(func() { close(h.said) })
	}
	return len(line), nil
}

// comes waits for what the store tells of.
func comes(t *testing.T, m *membership, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	rang := make(chan struct{}, 1)
	go func() {
		_ = m.store.Watch(ctx, func() {
			select {
			case rang <- struct{}{}:
			default:
			}
		})
	}()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s; away: %q", what, m.store.Away())
		case <-rang:
		}
	}
}

// TestFounding: the first server has a quorum with itself, is on the roll with its part of the pod network, and gives the fleet its
// charter, without credentials.
func TestFounding(t *testing.T) {
	c := founded(t, func(c *config, _ *pki.Membership) {
		c.Sources = []sourceConfig{{Name: "home", URL: "https://ada:secret@git.example/home.git", Branch: "main", Path: ".", Interval: time.Minute, Username: "ada"}}
		c.Policy.PodSecurity = "baseline"
		c.Node.Taints = []taintConfig{{Key: "attic", Value: "cold", Effect: "NoSchedule"}}
	})
	m := opened(t, c)
	comes(t, m, "it has its part of the pod network", func() bool { return m.pods(t.Context()).IsValid() })
	nodes, err := m.store.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != "alpha" || !nodes[0].Voter || nodes[0].Pods.String() != "10.42.0.0/24" || nodes[0].Taints[0].Key != "attic" {
		t.Errorf("%+v, %v", nodes, err)
	}
	charter, err := m.store.Charter(t.Context())
	if err != nil || len(charter.Sources) != 1 || strings.Contains(charter.Sources[0].URL, "secret") {
		t.Fatalf("%+v, %v", charter, err)
	}
	with, err := m.chartered(t.Context(), c)
	if err != nil || len(with.Sources) != 1 || with.Sources[0].Username != "ada" || with.Sources[0].Interval != time.Minute {
		t.Errorf("the node's own credentials are lost: %+v, %v", with.Sources, err)
	}
	if n := with.Network; n.PodNetwork != "auto" || n.VXLANPort != 4789 || n.WireGuardPort != 51820 {
		t.Errorf("a fleet that does not say it has pods reach each other by %q, ports %d and %d", n.PodNetwork, n.VXLANPort, n.WireGuardPort)
	}
	if nodes[0].Key == (fleet.PublicKey{}) || nodes[0].Key != m.wireguard.Key() {
		t.Errorf("the roll does not have the node's key: %v", nodes[0].Key)
	}
	with.Policy.PodSecurity = "restricted"
	if with, err = m.chartered(t.Context(), with); err != nil || charter.PodSecurity != "baseline" || with.policy().PodSecurity != podsecurity.Baseline {
		t.Errorf("the charter says %q, and a node whose configuration says restricted goes by %q, %v", charter.PodSecurity, with.policy().PodSecurity, err)
	}
	if err := m.store.Grant(t.Context(), fleet.Charter{}); err != nil { // of a fleet that is older than that
		t.Fatal(err)
	}
	if with, err := m.chartered(t.Context(), c); err != nil || with.policy().PodSecurity != podsecurity.Baseline {
		t.Errorf("where the charter says nothing, the node's own does not count: %q, %v", with.policy().PodSecurity, err)
	}
	if err := m.Remove(t.Context(), "alpha"); err == nil || !strings.Contains(err.Error(), "only server") {
		t.Errorf("%v", err)
	}
	if err := m.Remove(t.Context(), "beta"); err == nil || !strings.Contains(err.Error(), "no node beta") {
		t.Errorf("%v", err)
	}
}

// TestRelocates: the fleet is told when this machine is elsewhere, and not when it is nowhere.
func TestRelocates(t *testing.T) {
	m := opened(t, founded(t, nil))
	comes(t, m, "it has its part of the pod network", func() bool { return m.pods(t.Context()).IsValid() })
	is, _ := m.own(t.Context())
	if is.Uplink.Net != netip.MustParsePrefix("127.0.0.1/32") || is.Uplink.MTU == 0 {
		t.Errorf("its link is %+v", is.Uplink)
	}
	was := is
	was.Address, was.Uplink = "192.0.2.9", fleet.Uplink{}
	if err := m.store.Update(t.Context(), "alpha", func(own *fleet.Node) { *own = was }); err != nil {
		t.Fatal(err)
	}
	if !m.relocate(t.Context()) {
		t.Error("it has to be tried again")
	}
	if got, _ := m.own(t.Context()); got.Address != is.Address || got.Uplink != is.Uplink || got.Pods != is.Pods {
		t.Errorf("%+v, want %+v", got, is)
	}
	m.config.Node.Address = "192.0.2.9"
	if m.relocate(t.Context()) {
		t.Error("an address that is nowhere is not tried again")
	}
	if got, _ := m.own(t.Context()); got.Address != is.Address {
		t.Errorf("the fleet looks for it at %s", got.Address)
	}
}

// TestRangeStays: a node that has forgotten its part of the pod network, or remembers another, keeps the one that the roll has when it
// says who it is. All else is what it says.
func TestRangeStays(t *testing.T) {
	m := opened(t, founded(t, nil))
	comes(t, m, "it has its part of the pod network", func() bool { return m.pods(t.Context()).IsValid() })
	has := netip.MustParsePrefix("10.42.7.0/24") // which nobody would be given now
	if err := m.store.Update(t.Context(), "alpha", func(n *fleet.Node) { n.Pods = has }); err != nil {
		t.Fatal(err)
	}
	for i, remembered := range []netip.Prefix{{}, netip.MustParsePrefix("10.42.3.0/24")} {
		said := fleet.Node{Name: "alpha", Address: fmt.Sprintf("10.0.0.%d", i), Pods: remembered}
		if err := m.part().Roll.Register(t.Context(), said); err != nil {
			t.Fatal(err)
		}
		nodes, err := m.store.Nodes(t.Context())
		if err != nil || len(nodes) != 1 || nodes[0].Pods != has || nodes[0].Address != said.Address {
			t.Errorf("remembering %v, it is on the roll with %+v, %v", remembered, nodes, err)
		}
	}
	if err := m.part().Roll.Register(t.Context(), fleet.Node{Name: "beta"}); !errors.Is(err, coord.ErrUnknown) {
		t.Errorf("a node that is not on the roll is registered: %v", err)
	}
}

// foreign is where an etcd answers that somebody else runs.
func foreign(t *testing.T) string {
	t.Helper()
	peer, client := "http://"+address(t), "http://"+address(t)
	theirs, err := etcd.StartMember(t.Context(), etcd.MemberConfig{
		Name: "theirs", Dir: filepath.Join(t.TempDir(), "etcd"), PeerURL: peer, ClientURL: client, InitialCluster: map[string]string{"theirs": peer},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := theirs.Stop(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// TestForeignEtcd: an etcd that somebody else runs serves as the fleet's memory; the node starts none. It leaves also when it was removed.
func TestForeignEtcd(t *testing.T) {
	client := foreign(t)
	m := opened(t, founded(t, func(c *config, m *pki.Membership) {
		c.Fleet.Etcd.Endpoints = []string{client}
		m.PeerURL, m.ClientURL, m.InitialCluster, m.Endpoints = "", "", nil, []string{client}
	}))
	if m.member != nil {
		t.Error("a member is started beside it")
	}
	comes(t, m, "it has its part of the pod network", func() bool { return m.pods(t.Context()).IsValid() })
	if err := m.Backup(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "somebody else runs") {
		t.Errorf("%v", err)
	}
	if _, err := m.store.Redeem(t.Context(), "none", fleet.Node{Name: "beta"}); err == nil {
		t.Error("a token that is none is taken")
	}
	if err := m.store.Dismiss(t.Context(), "alpha"); err != nil { // somebody removed it
		t.Fatal(err)
	}
	if err := m.Leave(t.Context()); err != nil {
		t.Errorf("a node that was removed cannot leave: %v", err)
	}
}

// TestRemovedServer: a server that was removed has the key of the authority no more, in memory or on its disk, and starts and leaves all
// the same. One whose fleet has lost its memory keeps it.
func TestRemovedServer(t *testing.T) {
	client := foreign(t)
	outside := func(c *config, m *pki.Membership) {
		c.Fleet.Etcd.Endpoints = []string{client}
		m.PeerURL, m.ClientURL, m.InitialCluster, m.Endpoints = "", "", nil, []string{client}
	}
	alpha := opened(t, founded(t, outside))
	comes(t, alpha, "it is founded", func() bool { return alpha.onRoll(t.Context()) && alpha.pods(t.Context()).IsValid() })
	invited, err := alpha.Token(t.Context(), true, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := alpha.config
	c.Node.Name, c.Node.DataDir = "beta", t.TempDir()
	listen := address(t)
	request := join.Request{Dir: c.fleetDir(), Server: invited.Address, Token: invited.Token, Role: pki.RoleServer, Listen: listen, PeerURL: "https://" + listen}
	request.Node = (&membership{config: c, Membership: pki.Membership{Role: pki.RoleServer, Listen: listen}}).node(c.node())
	if _, err := join.Join(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	told := &heard{text: "this node was removed from its fleet", said: make(chan struct{})}
	beta := openedTo(t, c, told)
	comes(t, beta, "it is on the roll", func() bool { return beta.onRoll(t.Context()) && beta.pods(t.Context()).IsValid() })
	nodes, err := alpha.store.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || !nodes[0].Server || !nodes[1].Server || nodes[0].Voter || beta.servers(t.Context())[0] != alpha.Listen {
		t.Errorf("servers are not known as such: %+v, %v; to beta: %v", nodes, err, beta.servers(t.Context()))
	}
	key := func(c config) bool {
		_, err := os.Stat(filepath.Join(c.fleetDir(), "ca.key"))
		return err == nil
	}
	if err := alpha.Remove(t.Context(), "beta"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told.said:
	case <-time.After(time.Minute):
		t.Fatal("it is not told that it was removed")
	}
	if key(c) || beta.identity.Authority() != nil || !key(alpha.config) {
		t.Errorf("on beta's disk: %t, on alpha's: %t", key(c), key(alpha.config))
	}
	if _, err := beta.Token(t.Context(), false, time.Hour); err == nil || !strings.Contains(err.Error(), "tokens are made on servers") {
		t.Errorf("%v", err)
	}
	if again, err := pki.Load(c.fleetDir()); err != nil || again.Authority() != nil {
		t.Errorf("it starts no more: %v", err)
	}
	if err := beta.Leave(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	if err := alpha.store.Dismiss(t.Context(), "alpha"); err != nil {
		t.Fatal(err)
	}
	alpha.disown(t.Context())
	if alpha.identity.Authority() == nil || !key(alpha.config) {
		t.Error("the only server has lost the key")
	}
}

// TestMembershipIsChecked: what the configuration says has to be what the node joined as.
func TestMembershipIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*config)
		want   string
	}{
		"another name":         {func(c *config) { c.Node.Name = "beta" }, "called beta in the configuration and alpha in its fleet"},
		"another role":         {func(c *config) { c.Fleet.Role = pki.RoleAgent }, "joined as server"},
		"no fleet, but a role": {func(c *config) { c.Node.DataDir = t.TempDir(); c.Fleet.Role = pki.RoleServer }, "belongs to no fleet"},
		"no such CA": {func(c *config) {
			c.Fleet.Etcd = etcdConfig{Endpoints: []string{"https://127.0.0.1:1"}, CAFile: "/nowhere/ca.crt"}
		}, "fleet.etcd.caFile"},
	} {
		t.Run(name, func(t *testing.T) {
			c := founded(t, nil)
			test.change(&c)
			if _, err := c.openMembership(t.Context(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestBackupAndRestore: a server that lost its memory has it again, as the only one.
func TestBackupAndRestore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup")
	var c config
	t.Run("back up", func(t *testing.T) {
		c = founded(t, func(c *config, _ *pki.Membership) { c.Node.DataDir = filepath.Dir(file) })
		m := opened(t, c)
		comes(t, m, "it is founded", func() bool { return m.pods(t.Context()).IsValid() })
		if err := m.store.Register(t.Context(), fleet.Node{Name: "beta"}); err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Backup(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	})
	for _, lost := range []string{"etcd", "fleet.json"} {
		if err := os.RemoveAll(filepath.Join(c.Node.DataDir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	configFile := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("node: {name: alpha, address: 127.0.0.1, dataDir: %s}\nlisten: {socket: %s/none.sock}\n", c.Node.DataDir, t.TempDir())
	if err := os.WriteFile(configFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &options{terminal: terminal{out: t.Output(), err: t.Output()}, configFile: configFile}
	if err := o.nodeRestore(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	m := opened(t, c)
	comes(t, m, "what was remembered is there", func() bool {
		nodes, err := m.store.Nodes(t.Context())
		return err == nil && len(nodes) == 2 && nodes[1].Name == "beta"
	})
}

// TestWitness: who only votes says that it keeps a copy and does not lead, and keeps pods away.
func TestWitness(t *testing.T) {
	said := func(role string) fleet.Node {
		return (&membership{Membership: pki.Membership{Role: role}}).node(fleet.Node{Taints: []corev1.Taint{{Key: "own", Effect: corev1.TaintEffectNoExecute}}})
	}
	n := said(pki.RoleWitness)
	if n.Server || !n.Voter || len(n.Taints) != 2 || n.Taints[1].Key != witnessTaint || n.Taints[1].Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("a witness says that it is %+v", n)
	}
	if n := said(pki.RoleServer); !n.Server || !n.Voter || len(n.Taints) != 1 {
		t.Errorf("a server says that it is %+v", n)
	}
	if n := said(pki.RoleAgent); n.Server || n.Voter || len(n.Taints) != 1 {
		t.Errorf("an agent says that it is %+v", n)
	}
}
