package place

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skerry-dev/skerry/fleet"
)

// Board is the machines of a fleet and what is on them. Create it with NewBoard. It is for one goroutine.
type Board struct {
	nodes      []machine // in the order of their names
	all        []int     // indexes of nodes
	byName     map[fleet.NodeName]int
	namespaces map[string]labels.Set
	kinds      []*Kind
	domains    map[string]*domains // by topology key
	tallies    []*tally
	groups     map[grouped]*tally
	keeps      []keep // of all kinds
	likes      []like
}

// grouped is a tally of the pods of one group.
type grouped struct {
	group fleet.ObjectID
	key   string
}

// machine is a node and what is on it.
type machine struct {
	fleet.Node
	room   amounts          // that pods may ask for; pods: how many
	used   amounts          // that they do
	busy   amounts          // the same, with what is taken for pods that ask for nothing: for scores
	ports  map[port]int     // how many pods have it
	on     map[string]guest // by UID
	images map[string]bool
}

// guest is a pod on a machine.
type guest struct {
	Guest
	kind *Kind
}

// Guest is one pod that has a node.
type Guest struct {
	UID     string
	Leaving bool // it is being removed: it takes room, and keeps others away or draws them, and is not spread any more
	Since   time.Time
}

// NewBoard is a board without pods. Nodes are as they are now (a lost or cordoned one has its taint), images the whole names of those that are
// there by node, namespaces their labels by name, besides the name itself.
func NewBoard(nodes []fleet.Node, images map[fleet.NodeName][]string, namespaces map[string]labels.Set) *Board {
	b := &Board{byName: map[fleet.NodeName]int{}, namespaces: namespaces, domains: map[string]*domains{}, groups: map[grouped]*tally{}}
	for _, n := range slices.SortedFunc(slices.Values(nodes), func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) }) {
		b.byName[n.Name] = len(b.nodes)
		m := machine{Node: n, room: amountsOf(n.Allocatable), ports: map[port]int{}, on: map[string]guest{}, images: map[string]bool{}}
		if m.room.pods == 0 {
			m.room.pods = podsPerNode
		}
		for _, image := range images[n.Name] {
			m.images[image] = true
		}
		b.all, b.nodes = append(b.all, len(b.nodes)), append(b.nodes, m)
	}
	return b
}

// labelsOf are a namespace's: one that no source has an object for has its name all the same.
func (b *Board) labelsOf(namespace string) labels.Set {
	set := labels.Set{corev1.LabelMetadataName: namespace}
	maps.Copy(set, b.namespaces[namespace])
	return set
}

// podsPerNode is how many pods a node takes that does not say: the kubelet's own default.
const podsPerNode = 110

// Put puts a pod on a node; one that is not on the board is passed over.
func (b *Board) Put(node fleet.NodeName, kind *Kind, who Guest) {
	at, ok := b.byName[node]
	if !ok {
		return
	}
	b.nodes[at].on[who.UID] = guest{who, kind}
	b.count(at, kind, who.Leaving, 1)
}

// Take takes a pod off its node.
func (b *Board) Take(node fleet.NodeName, uid string) {
	at, ok := b.byName[node]
	if !ok {
		return
	}
	if g, there := b.nodes[at].on[uid]; there {
		delete(b.nodes[at].on, uid)
		b.count(at, g.kind, g.Leaving, -1)
	}
}

func (b *Board) count(at int, kind *Kind, leaving bool, n int) {
	m := &b.nodes[at]
	m.used.add(kind.asks, int64(n))
	m.busy.add(kind.weighs, int64(n))
	for _, p := range kind.ports {
		m.ports[p] += n
	}
	kind.on[at] += n
	if leaving {
		kind.leaving[at] += n
	}
	for _, t := range b.hits(kind) {
		if !leaving || t.leaving {
			t.add(at, n)
		}
	}
}

// hits are the tallies that a kind's pods are counted in.
func (b *Board) hits(kind *Kind) []*tally {
	for ; kind.seen < len(b.tallies); kind.seen++ {
		if t := b.tallies[kind.seen]; t.of(kind) {
			kind.hits = append(kind.hits, t)
		}
	}
	return kind.hits
}

// tally counts pods by the domain that their node is in.
type tally struct {
	domains *domains
	of      func(*Kind) bool // whether a kind's pods count
	only    []bool           // by node: whether its pods count; nil: all do
	leaving bool             // pods count until they are gone
	count   []int            // by domain
	total   int
}

func (t *tally) add(node, n int) {
	domain := t.domains.of[node]
	if domain < 0 || t.only != nil && !t.only[node] {
		return
	}
	t.count[domain] += n
	t.total += n
}

// tally makes one of the pods that stay, on some nodes only.
func (b *Board) tally(key string, of func(*Kind) bool, only []bool) *tally {
	return b.reckon(key, &tally{of: of, only: only})
}

// presence is a tally of all pods that are there: affinity looks at what leaves, too, until it is gone.
func (b *Board) presence(key string, of func(*Kind) bool) *tally {
	return b.reckon(key, &tally{of: of, leaving: true})
}

// reckon counts what is there already.
func (b *Board) reckon(key string, t *tally) *tally {
	t.domains = b.domain(key)
	t.count = make([]int, t.domains.number)
	b.tallies = append(b.tallies, t)
	of := t.of
	for _, kind := range b.kinds {
		if len(kind.on) == 0 || !of(kind) {
			continue
		}
		for node, n := range kind.on {
			if !t.leaving {
				n -= kind.leaving[node]
			}
			t.add(node, n)
		}
	}
	for _, kind := range b.kinds { // those that have looked at all tallies before look at this one when their next pod comes
		if kind.seen == len(b.tallies)-1 && of(kind) {
			kind.hits = append(kind.hits, t)
			kind.seen++
		}
	}
	return t
}

// group is the tally of a group's pods.
func (b *Board) group(group fleet.ObjectID, key string) *tally {
	at := grouped{group, key}
	if b.groups[at] == nil {
		b.groups[at] = b.tally(key, func(k *Kind) bool { return k.Group == group }, nil)
	}
	return b.groups[at]
}

// domains are the values that a label has on the nodes.
type domains struct {
	of     []int // by node: which value; -1 where it has no such label
	number int
}

func (b *Board) domain(key string) *domains {
	if d := b.domains[key]; d != nil {
		return d
	}
	d := &domains{of: make([]int, len(b.nodes))}
	values := map[string]int{}
	for i := range b.nodes {
		value, has := b.nodes[i].Labels[key]
		if !has {
			d.of[i] = -1
			continue
		}
		at, known := values[value]
		if !known {
			at = len(values)
			values[value] = at
		}
		d.of[i] = at
	}
	d.number = len(values)
	b.domains[key] = d
	return d
}

// port is one of a host's, on an address of it; empty or unspecified for all.
type port struct {
	number   int32
	protocol corev1.Protocol
	address  string
}

// taken reports whether a pod's ports clash with those of others on the machine.
func (m *machine) taken(ports []port) bool {
	for _, want := range ports {
		for has, n := range m.ports {
			if n > 0 && has.number == want.number && has.protocol == want.protocol &&
				(has.address == want.address || everywhere(has.address) || everywhere(want.address)) {
				return true
			}
		}
	}
	return false
}

func everywhere(address string) bool { return address == "" || address == "0.0.0.0" || address == "::" }
