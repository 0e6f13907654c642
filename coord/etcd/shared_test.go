package etcd

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/fleet"
)

// shortTTL is long enough for a machine that is busy with other things, and short enough to wait for.
const shortTTL = 3 * time.Second

// clients are stores of one member, each behind a proxy of its own. It is a coordtest.Fleet.
type clients struct {
	t      *testing.T
	member *Member
	prefix string
	dir    string
	open   map[fleet.NodeName]*behind
}

type behind struct {
	store *Store
	proxy *proxy
}

func newClients(t *testing.T, m *Member) *clients {
	return &clients{t: t, member: m, prefix: "/" + t.Name() + "/", dir: t.TempDir(), open: map[fleet.NodeName]*behind{}}
}

func (c *clients) Client(node fleet.NodeName) coordtest.Client {
	if c.open[node] == nil {
		p := passing(c.t, strings.TrimPrefix(c.member.cfg.ClientURL, "http://"))
		c.open[node] = &behind{proxy: p, store: connected(c.t, Config{
			Endpoints: []string{"http://" + p.listener.Addr().String()}, Node: node, Prefix: c.prefix, TTL: shortTTL,
			Cache: filepath.Join(c.dir, string(node)+".json"),
		})}
	}
	return c.open[node].store
}

// Crash leaves the store where it is, and nothing that it does arrives any more.
func (c *clients) Crash(node fleet.NodeName) {
	c.open[node].proxy.cut()
	delete(c.open, node)
}

func (c *clients) Cut(node fleet.NodeName)  { c.open[node].proxy.cut() }
func (c *clients) Heal(node fleet.NodeName) { c.open[node].proxy.heal() }

func (c *clients) Compact() {
	resp, err := c.member.local.Get(c.t.Context(), "x")
	if err == nil {
		_, err = c.member.local.Compact(c.t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestLeases(t *testing.T) {
	m := member(t)
	coordtest.RunLeases(t, func(t *testing.T, test func(*testing.T, coordtest.Leases)) {
		t.Parallel()
		test(t, coordtest.LeasesOf(newClients(t, m)))
	})
}

func TestShared(t *testing.T) {
	m := member(t)
	coordtest.RunShared(t, func(t *testing.T, test func(*testing.T, coordtest.Fleet)) {
		t.Parallel()
		test(t, newClients(t, m))
	})
}
