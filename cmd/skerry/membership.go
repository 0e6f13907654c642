package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api/join"
	"github.com/skerry-dev/skerry/coord/etcd"
	"github.com/skerry-dev/skerry/coord/lease"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/hostnet"
	"github.com/skerry-dev/skerry/runtime/vip"
	"github.com/skerry-dev/skerry/sources/git"
)

// sessionTTL is how long a node of which nothing is heard counts as there. What pods of a lost node wait is counted from then on, so
// that both together are what the configuration says.
const sessionTTL = 5 * time.Second

// defaultReplaceAfter is when pods of a node that is lost run elsewhere, counted from when it was heard of last.
const defaultReplaceAfter = 30 * time.Second

// Where the fleet listens: the agent at the port that was named, its etcd at the two after it.
const (
	defaultFleetPort = 7443
	peerPort         = 1
	clientPort       = 2
)

// membership is this node's part in its fleet.
type membership struct {
	config   config
	identity *pki.Identity
	pki.Membership
	store  *etcd.Store
	leases *lease.Node
	member *etcd.Member // nil on a node that is no server
	peers  *join.Client
	log    *slog.Logger
	// wireguard is this node's end of tunnels where they are WireGuard's: it outlives one agent, as what is under way in them does.
	wireguard *hostnet.WireGuard

	holder  *agent.Holder
	machine *vip.Holder       // nil before it is opened, and where the machine cannot
	links   chan struct{}     // rings when the machine's links changed
	hush    func()            // ends talk; nil before it began
	secrets map[string][]byte // with other nodes, by name and certificate; of the same loop
	met     []lease.Peer      // as the leases know them; of the loop that follows the store

	mu      sync.Mutex // guards clones, and Servers and Endpoints of Membership
	clones  map[fleet.SourceName]*git.Source
	retired chan struct{} // closed when the node has left
	leave   sync.Once
	// departing is held while this node leaves: that its copy of the fleet's memory ends is as it should be then.
	departing sync.Mutex
}

func (c config) fleetDir() string { return filepath.Join(c.Node.DataDir, "fleet") }

// openMembership opens what the node remembers of its fleet, and starts its copy of the fleet's memory where it is a server. It is nil
// where the node belongs to none. Nothing is waited for: a node starts whether or not others are there.
func (c config) openMembership(ctx context.Context, log *slog.Logger) (*membership, error) {
	identity, err := pki.Load(c.fleetDir())
	if errors.Is(err, pki.ErrNone) {
		if c.Fleet.Role != "" || c.Fleet.Listen != "" {
			return nil, fmt.Errorf("the configuration has a fleet section and this node belongs to no fleet: make one with skerry node init, or join one with skerry node join")
		}
		return nil, nil //nolint:nilnil // a node alone has none
	}
	if err != nil {
		return nil, err
	}
	m := &membership{config: c, identity: identity, log: log, clones: map[fleet.SourceName]*git.Source{}, retired: make(chan struct{})}
	if m.Membership, err = identity.Membership(); err != nil {
		return nil, err
	}
	switch {
	case identity.Name() != fleet.NodeName(c.Node.Name):
		return nil, fmt.Errorf("this node is called %s in the configuration and %s in its fleet: names do not change; set node.name: %s, or leave and join again",
			c.Node.Name, identity.Name(), identity.Name())
	case c.Fleet.Role != "" && c.Fleet.Role != m.Role:
		return nil, fmt.Errorf("fleet.role is %s in the configuration, and this node joined as %s", c.Fleet.Role, m.Role)
	}
	seed, err := identity.Seed()
	if err != nil {
		return nil, err
	}
	if m.wireguard, err = hostnet.NewWireGuard(seed, log); err != nil {
		return nil, err
	}
	if m.embeds() {
		root, certificate, key := identity.Paths()
		m.member, err = etcd.StartMember(ctx, etcd.MemberConfig{
			Name: c.Node.Name, Dir: filepath.Join(c.Node.DataDir, "etcd"), PeerURL: m.PeerURL, ClientURL: m.ClientURL,
			CA: root, Cert: certificate, Key: key, PeerHost: pki.ServerHost, InitialCluster: m.InitialCluster, Existing: m.Existing, Log: log,
		})
		if err != nil {
			return nil, err
		}
	}
	secure, err := m.etcdTLS()
	if err != nil {
		return nil, errors.Join(err, m.stopMember())
	}
	m.store, err = etcd.Open(ctx, etcd.Config{
		Endpoints: m.endpoints(), TLS: secure, Node: identity.Name(), TTL: sessionTTL,
		Cache: filepath.Join(c.Node.DataDir, "fleet.json"), Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, m.stopMember())
	}
	if m.leases, err = m.openLeases(ctx); err != nil {
		return nil, errors.Join(err, m.store.Close(), m.stopMember())
	}
	m.holder, m.links = agent.NewHolder(m.leases, log), make(chan struct{}, 1)
	m.peers = join.NewClient(identity)
	return m, nil
}

// embeds reports whether this node keeps a copy of the fleet's memory itself.
func (m *membership) embeds() bool { return m.Votes() && !m.config.Fleet.external() }

// etcdTLS is for connections to the fleet's memory.
func (m *membership) etcdTLS() (*tls.Config, error) {
	e := m.config.Fleet.Etcd
	switch {
	case !m.config.Fleet.external():
		return m.identity.AnyServerTLS(), nil
	case e.CAFile == "" && e.CertFile == "":
		return nil, nil //nolint:nilnil // it is etcd's own default
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CAFile != "" {
		raw, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, fmt.Errorf("fleet.etcd.caFile: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("fleet.etcd.caFile: there is no certificate in %s", e.CAFile)
		}
	}
	if e.CertFile != "" {
		own := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // read at each handshake: it may be renewed
			c, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
			return &c, err
		}
		if _, err := own(nil); err != nil {
			return nil, fmt.Errorf("fleet.etcd: %w", err)
		}
		secure.GetClientCertificate = own
	}
	return secure, nil
}

// endpoints are where etcd answers: on this very node first.
func (m *membership) endpoints() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.near()
}

// near is endpoints, under the lock.
func (m *membership) near() []string {
	if m.config.Fleet.external() {
		return m.config.Fleet.Etcd.Endpoints
	}
	list := slices.Clone(m.Endpoints)
	if m.ClientURL != "" {
		list = append([]string{m.ClientURL}, slices.DeleteFunc(list, func(e string) bool { return e == m.ClientURL })...)
	}
	return list
}

func (m *membership) stopMember() error {
	if m.member == nil {
		return nil
	}
	return m.member.Stop()
}

// close ends the node's session, and its copy of the fleet's memory.
func (m *membership) close() error {
	m.peers.Close()
	m.holder.End() // others have them a moment later
	m.wireguard.Close()
	var err error
	if m.machine != nil {
		err = m.machine.Close()
	}
	if m.hush != nil {
		m.hush()
	}
	return errors.Join(err, m.store.Close(), m.stopMember())
}

// roll is the fleet's, for a node that has joined: registering does not bring back one that was removed.
type roll struct {
	*etcd.Store
	found func(context.Context) // gives a fleet that is new its charter and its first node
}

// Register says what this node is. Its part of the pod network is what the roll has: the node may have forgotten it.
func (r roll) Register(ctx context.Context, node fleet.Node) error {
	r.found(ctx)
	return r.Update(ctx, node.Name, func(known *fleet.Node) {
		node.Pods = known.Pods
		*known = node
	})
}

// part is what the agent has to know of the fleet.
func (m *membership) part() *agent.Fleet {
	after := m.config.Fleet.ReplaceAfter
	if after == 0 {
		after = defaultReplaceAfter
	}
	return &agent.Fleet{
		Roll: roll{m.store, m.found}, Lead: m.Role == pki.RoleServer, Stay: max(time.Second, after-sessionTTL), Leader: m.store.Leader, Bring: m.bring, Leases: m.leases, Holder: m.holder,
	}
}

// witnessTaint keeps pods away from a node that only votes.
const witnessTaint = "skerry.dev/witness"

// node is this machine, as the fleet knows it.
func (m *membership) node(n fleet.Node) fleet.Node {
	if m.identity != nil { // one that joins has none yet
		n.Certificate, n.Key = m.identity.Certificate(), m.wireguard.Key()
	}
	n.Fleet, n.Server, n.Voter, n.Version = m.Listen, m.Role == pki.RoleServer, m.embeds(), version
	if m.Role == pki.RoleWitness { // it runs nothing
		n.Taints = append(slices.Clone(n.Taints), corev1.Taint{Key: witnessTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

// chartered is a node's configuration with what the fleet goes by: its networks, what pods are held to, and its sources, read with
// what this node's configuration says of how to reach them.
func (m *membership) chartered(ctx context.Context, c config) (config, error) {
	charter, err := m.store.Charter(ctx)
	if err != nil {
		return c, err
	}
	own := c.Sources
	c.Sources = nil
	for _, t := range charter.Sources {
		s := sourceConfig{}
		if at := slices.IndexFunc(own, func(o sourceConfig) bool { return o.Name == string(t.Name) }); at >= 0 {
			s = own[at]
		}
		if git.Redact(s.URL) != t.URL { // else it may have the node's own credentials in it
			s.URL = t.URL
		}
		s.Name, s.Branch, s.Path = string(t.Name), t.Branch, t.Path
		s.Interval, s.OnFailure, s.AllowEmpty = t.Interval, t.OnFailure, t.AllowEmpty
		c.Sources = append(c.Sources, s)
	}
	if n := charter.Network; n != (fleet.NetworkTerms{}) {
		c.Network.PodCIDR, c.Network.ServiceCIDR, c.Network.Domain = n.PodCIDR, n.ServiceCIDR, n.Domain
		// A charter of before does not say how pods reach one another, and all nodes have to go by the same.
		c.Network.PodNetwork, c.Network.VXLANPort = cmp.Or(n.PodNetwork, string(fleet.PodsAuto)), cmp.Or(n.VXLANPort, defaultVXLANPort)
		c.Network.WireGuardPort = cmp.Or(n.WireGuardPort, defaultWireGuardPort)
	}
	c.Network.LoadBalancerPools, c.Fleet.VirtualIPs, c.Fleet.Failover = nil, nil, failoverUsual
	for _, p := range charter.Pools {
		pool := poolConfig{Name: p.Name, Namespaces: p.Namespaces}
		for _, r := range p.Addrs {
			pool.CIDRs = append(pool.CIDRs, r.String())
		}
		c.Network.LoadBalancerPools = append(c.Network.LoadBalancerPools, pool)
	}
	for _, a := range charter.Virtual {
		c.Fleet.VirtualIPs = append(c.Fleet.VirtualIPs, a.String())
	}
	if charter.Fast {
		c.Fleet.Failover = failoverFast
	}
	if level := charter.PodSecurity; level != "" {
		if own := c.Policy.PodSecurity; own != "" && own != level {
			m.log.Warn("policy.podSecurity in this node's configuration has no effect: the fleet goes by its charter (skerry node charter)", "own", own, "fleet", level)
		}
		c.Policy.PodSecurity = level
	}
	return c, nil
}

// pods is this node's part of the pod network; the zero Prefix before the fleet knows of it.
func (m *membership) pods(ctx context.Context) netip.Prefix {
	own, _ := m.own(ctx)
	return own.Pods
}

// own is this node as the fleet knows it, if it does.
func (m *membership) own(ctx context.Context) (fleet.Node, bool) {
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return fleet.Node{}, false
	}
	at := slices.IndexFunc(nodes, func(n fleet.Node) bool { return n.Name == m.identity.Name() })
	if at < 0 {
		return fleet.Node{}, false
	}
	return nodes[at], true
}

// relocate tells the fleet where this node is now, if that is not where it was. It is false when that has to be tried again.
func (m *membership) relocate(ctx context.Context) bool {
	own, ok := m.own(ctx)
	if !ok {
		return false // it is registered first
	}
	address, uplink := m.config.whereabouts(own.Address)
	switch {
	case uplink == (fleet.Uplink{}):
		return false // it is nowhere just now
	case address == own.Address && uplink == own.Uplink:
		return true
	}
	m.log.Info("this node is elsewhere", "address", address, "was", own.Address, "on", uplink.Net, "mtu", uplink.MTU)
	if err := m.store.Update(ctx, own.Name, func(n *fleet.Node) { n.Address, n.Uplink = address, uplink }); err != nil {
		m.log.Warn("the fleet cannot be told where this node is", "err", err)
		return false
	}
	return true
}

// settle sees to it that this node has a part of the pod network that nobody else has.
func (m *membership) settle(ctx context.Context) {
	charter, err := m.store.Charter(ctx)
	if err != nil || charter.Network.PodCIDR == "" {
		return
	}
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return
	}
	at := slices.IndexFunc(nodes, func(n fleet.Node) bool { return n.Name == m.identity.Name() })
	network, err := netip.ParsePrefix(charter.Network.PodCIDR)
	if err != nil || at < 0 {
		return
	}
	part, ok := fleet.RangeOf(nodes, m.identity.Name(), network, nodeBits)
	if !ok {
		m.log.Error("no part of the pod network is left for this node", "network", network)
		return
	}
	if part == nodes[at].Pods {
		return
	}
	if err := m.store.Update(ctx, m.identity.Name(), func(own *fleet.Node) { own.Pods = part }); err != nil {
		m.log.Warn("the fleet cannot be told which part of the pod network this node has", "part", part, "err", err)
		return
	}
	m.log.Info("this node has its part of the pod network", "part", part)
}

// charter is what this node's configuration would have the fleet go by.
func (c config) charter() fleet.Charter {
	n := c.Network
	charter := fleet.Charter{
		Network:     fleet.NetworkTerms{PodCIDR: n.PodCIDR, ServiceCIDR: n.ServiceCIDR, Domain: n.Domain, PodNetwork: n.PodNetwork, VXLANPort: n.VXLANPort, WireGuardPort: n.WireGuardPort},
		PodSecurity: string(c.policy().PodSecurity), Pools: n.pools(), Virtual: c.Fleet.virtual(), Fast: c.Fleet.Failover == failoverFast,
	}
	for _, s := range c.Sources {
		charter.Sources = append(charter.Sources, fleet.SourceTerms{
			Name: fleet.SourceName(s.Name), URL: git.Redact(s.URL), Branch: s.Branch, Path: s.Path,
			Interval: s.Interval, OnFailure: s.OnFailure, AllowEmpty: s.AllowEmpty,
		})
	}
	slices.SortFunc(charter.Sources, func(a, b fleet.SourceTerms) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return charter
}

// run does what a member does beside looking after its pods, until ctx ends or the member cannot go on.
func (m *membership) run(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var loops sync.WaitGroup
	defer func() { // in this order: a node that leaves ends them
		cancel(nil)
		loops.Wait()
	}()
	loops.Go(func() { m.renewer(ctx).Run(ctx) })
	loops.Go(func() {
		if err := m.serve(ctx); err != nil {
			cancel(err)
		}
	})
	loops.Go(func() { m.follow(ctx, changed) })
	m.talk(ctx)
	if m.member != nil {
		loops.Go(func() { _ = m.member.PromoteLearners(ctx) }) // it ends with ctx alone
		loops.Go(func() { _ = m.member.StandAside(ctx, func() bool { return m.store.Leader() == m.identity.Name() }) })
		loops.Go(func() { m.tidy(ctx) })
		loops.Go(func() {
			select {
			case <-ctx.Done():
			case err := <-m.member.Failed():
				m.departing.Lock()
				defer m.departing.Unlock()
				select {
				case <-m.retired:
					return
				default:
				}
				m.disown(ctx)
				cancel(fmt.Errorf("this node's copy of the fleet's memory: %w (if the node was removed, skerry node leave --force forgets the fleet)", err))
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-m.retired:
		return errRetired
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// errRetired says that the node has left its fleet.
var errRetired = errors.New("this node has left its fleet")

// tidyEvery is how often the fleet's memory is looked at for what it wastes.
const tidyEvery = 10 * time.Minute

// tidy gives back disk that this node's copy of the fleet's memory does not use any more, at another moment than the others: it answers
// nobody meanwhile.
func (m *membership) tidy(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(tidyEvery + rand.N(tidyEvery)):
		}
		if _, err := m.member.DefragmentIfWasteful(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("the fleet's memory cannot be tidied", "err", err)
		}
	}
}

func (m *membership) renewer(ctx context.Context) *join.Renewer {
	sign := join.AskServers(m.peers, func() []string { return m.servers(ctx) })
	if m.identity.Authority() != nil {
		sign = join.SignOwn(m.identity, func() []netip.Addr { return m.addresses() })
	}
	return &join.Renewer{Identity: m.identity, Sign: sign, Jitter: rand.Float64, Log: m.log}
}

// serve answers other nodes.
func (m *membership) serve(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", m.Listen)
	if err != nil {
		return fmt.Errorf("listen for the fleet: %w", err)
	}
	cfg := join.Config{
		Identity: m.identity, Pack: m.pack, Log: m.log,
		Known: func(name fleet.NodeName) bool {
			nodes, err := m.store.Nodes(ctx)
			return err == nil && slices.ContainsFunc(nodes, func(n fleet.Node) bool { return n.Name == name })
		},
	}
	if m.Role == pki.RoleServer {
		cfg.Door = &join.Door{
			Roll: m.store, Tokens: m.store, Endpoints: m.endpoints,
			AddMember: func(ctx context.Context, name fleet.NodeName, peerURL string) (map[string]string, error) {
				if m.member == nil { // somebody else's etcd needs no room for it
					return map[string]string{}, nil
				}
				return m.member.AddLearner(ctx, string(name), peerURL)
			},
		}
	}
	server := &http.Server{
		Handler: join.Handler(cfg), TLSConfig: m.identity.DoorTLS(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
