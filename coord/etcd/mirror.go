package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skerry-dev/skerry/fleet"
)

// The areas of keys. What is below each is in the comment.
const (
	leaderArea     = "leader"     // the name of the node that leads
	assignmentArea = "assignment" // head, and the keys that split makes
	stagedArea     = "staged"     // <epoch>/<n>: a chunk
	reportsArea    = "reports"    // <node>/head, <node>/pod/<uid>; live as long as the node's session
	nodesArea      = "nodes"      // <node>
	charterArea    = "charter"
	intentsArea    = "intents" // <hash of the intent>
	tokensArea     = "tokens"  // <id>; are not mirrored
)

// entry is a key's value. What it decodes to is kept, as most values stay.
type entry struct {
	value   []byte
	mod     int64
	lease   clientv3.LeaseID
	decoded any
}

// mirror is what etcd holds, as of one revision of it. What views return is read-only.
type mirror struct {
	mu      sync.Mutex
	cluster uint64
	rev     int64         // as of which it is; 0 while it is what the cache held
	stirred chan struct{} // closed and replaced when anything changed

	areas   map[string]map[string]*entry // but for reports
	reports map[string]*nodeKeys         // by the node's part of the key

	// Views that still hold; nil for those that have to be made anew.
	assignment  *fleet.Assignment
	intentsView *[]fleet.Intent
	nodesView   *[]fleet.Node
	charterView *fleet.Charter
	reportsView *[]fleet.NodeReport
}

// nodeKeys are the keys of one node's report.
type nodeKeys struct {
	head   *entry
	pods   map[string]*entry // by what follows <node>/
	report *fleet.NodeReport // nil: has to be made anew
}

func newMirror() *mirror {
	return &mirror{stirred: make(chan struct{}), areas: map[string]map[string]*entry{}, reports: map[string]*nodeKeys{}}
}

// stir wakes those who wait.
func (m *mirror) stir() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.stirred)
	m.stirred = make(chan struct{})
}

// until waits until cond holds; it is called under the lock.
func (m *mirror) until(ctx context.Context, cond func() bool) error {
	for {
		m.mu.Lock()
		ok, stirred := cond(), m.stirred
		m.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stirred:
		}
	}
}

// await waits until the mirror has what was written at a revision.
func (m *mirror) await(ctx context.Context, rev int64) error {
	return m.until(ctx, func() bool { return m.rev >= rev })
}

// change is what became of a key; a nil entry: it is gone.
type change struct {
	key   string // without the prefix
	entry *entry
}

// kinds of change that somebody has to hear of.
type touched struct {
	reports    bool
	assignment bool // a key of it; it itself is another only when others is set, too
	others     bool
}

// replace makes the mirror what a list showed. What did not change stays decoded.
func (m *mirror) replace(cluster uint64, rev int64, all map[string]*entry) touched {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t touched
	for area, keys := range m.areas {
		for rest := range keys {
			if key := joinKey(area, rest); all[key] == nil {
				t.add(m.set(change{key: key}))
			}
		}
	}
	for node, keys := range m.reports {
		for rest := range keys.pods {
			if key := reportsArea + "/" + node + "/" + rest; all[key] == nil {
				t.add(m.set(change{key: key}))
			}
		}
		if key := reportsArea + "/" + node + "/head"; keys.head != nil && all[key] == nil {
			t.add(m.set(change{key: key}))
		}
	}
	for key, e := range all {
		t.add(m.set(change{key, e}))
	}
	if t.assignment {
		// Who listed may have missed anything, and an etcd that was restored says other things for the same epoch.
		m.assignment, t.others = nil, true
	}
	m.cluster, m.rev = cluster, rev
	return t
}

func joinKey(area, rest string) string { return strings.TrimSuffix(area+"/"+rest, "/") }

// apply makes changes of one or several whole transactions, the last of them at rev.
func (m *mirror) apply(rev int64, changes []change) touched {
	m.mu.Lock()
	defer m.mu.Unlock()
	var t touched
	for _, c := range changes {
		t.add(m.set(c))
	}
	m.rev = max(m.rev, rev)
	return t
}

// remember makes the mirror what a cache held.
func (m *mirror) remember(keys map[string]json.RawMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range keys {
		m.set(change{key, &entry{value: value}})
	}
}

func (t *touched) add(o touched) {
	t.reports = t.reports || o.reports
	t.assignment = t.assignment || o.assignment
	t.others = t.others || o.others
}

// set puts one key and forgets the views that it is in.
func (m *mirror) set(c change) touched {
	area, rest, _ := strings.Cut(c.key, "/")
	if area == reportsArea {
		return touched{reports: m.setReport(rest, c.entry)}
	}
	if area == tokensArea {
		return touched{}
	}
	old, epoch := m.areas[area][rest], m.epoch()
	switch {
	case c.entry == nil && old == nil:
		return touched{}
	case c.entry == nil:
		delete(m.areas[area], rest)
	case same(old, c.entry):
		old.mod, old.lease = c.entry.mod, c.entry.lease
		return touched{}
	default:
		if m.areas[area] == nil {
			m.areas[area] = map[string]*entry{}
		}
		m.areas[area][rest] = c.entry
	}
	switch area {
	case assignmentArea:
		// Each epoch is committed once, in one transaction with its head: what changes besides is what was staged and is being
		// folded, and nobody sees that.
		if m.epoch() == epoch {
			return touched{assignment: true}
		}
		m.assignment = nil
		return touched{assignment: true, others: true}
	case nodesArea:
		m.nodesView = nil
	case charterArea:
		m.charterView = nil
	case intentsArea:
		m.intentsView = nil
	default: // who leads and what is staged is nobody's matter
		return touched{}
	}
	return touched{others: true}
}

// same says that a key was written anew and is what it was.
func same(a, b *entry) bool { return a != nil && string(a.value) == string(b.value) }

func (m *mirror) setReport(rest string, e *entry) bool {
	node, rest, _ := strings.Cut(rest, "/")
	keys := m.reports[node]
	if keys == nil {
		if e == nil {
			return false
		}
		keys = &nodeKeys{pods: map[string]*entry{}}
		m.reports[node] = keys
	}
	old := keys.pods[rest]
	if rest == "head" {
		old = keys.head
	}
	switch {
	case e != nil && same(old, e):
		old.mod, old.lease = e.mod, e.lease
		return false
	case rest == "head":
		keys.head = e
	case e == nil:
		delete(keys.pods, rest)
	default:
		keys.pods[rest] = e
	}
	if keys.head == nil && len(keys.pods) == 0 {
		delete(m.reports, node)
	}
	keys.report, m.reportsView = nil, nil
	return true
}

// get is a key's entry, or nil. Under the lock.
func (m *mirror) get(key string) *entry {
	area, rest, _ := strings.Cut(key, "/")
	return m.areas[area][rest]
}

// view is what is known, made anew where it changed.
func view[T any](m *mirror, kept **T, anew func() (T, error)) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *kept == nil {
		v, err := anew()
		if err != nil {
			return v, err
		}
		*kept = &v
	}
	return **kept, nil
}

func (m *mirror) load() (fleet.Assignment, error) {
	return view(m, &m.assignment, func() (fleet.Assignment, error) {
		h, err := m.head()
		if err != nil || h.Epoch == 0 {
			return fleet.Assignment{}, err
		}
		keys, err := m.overlaid(h)
		if err != nil {
			return fleet.Assignment{}, err
		}
		return join(h.Epoch, keys)
	})
}

// head is the assignment's; the zero head before the first commit. Under the lock.
func (m *mirror) head() (head, error) {
	var h head
	if e := m.get(assignmentArea + "/head"); e != nil {
		if err := json.Unmarshal(e.value, &h); err != nil {
			return head{}, fmt.Errorf("read the head of the assignment: %w", err)
		}
	}
	return h, nil
}

// epoch is that of the head. Under the lock.
func (m *mirror) epoch() uint64 {
	h, err := m.head()
	if err != nil {
		return 0
	}
	return h.Epoch
}

// overlaid are the assignment's keys with what is staged for its epoch. Under the lock.
func (m *mirror) overlaid(h head) (map[string]*entry, error) {
	if h.Staged == 0 {
		return m.areas[assignmentArea], nil
	}
	keys := maps.Clone(m.areas[assignmentArea])
	for n := range h.Staged {
		c, err := m.chunk(h.Epoch, n)
		if err != nil {
			return nil, err
		}
		for key, value := range c.Put {
			keys[key] = &entry{value: value}
		}
		for _, key := range c.Gone {
			delete(keys, key)
		}
	}
	return keys, nil
}

func (m *mirror) chunk(epoch uint64, n int) (chunk, error) {
	var c chunk
	e := m.get(stageKey(epoch, n))
	if e == nil {
		return c, fmt.Errorf("part %d of epoch %d is not there", n, epoch)
	}
	if err := json.Unmarshal(e.value, &c); err != nil {
		return c, fmt.Errorf("read part %d of epoch %d: %w", n, epoch, err)
	}
	return c, nil
}

// all decodes an area.
func all[T any](m *mirror, area string, order func(a, b T) int) ([]T, error) {
	var list []T
	for key, e := range m.areas[area] {
		if e.decoded == nil {
			v, err := decode[T](e.value)
			if err != nil {
				return nil, fmt.Errorf("read %s/%s: %w", area, key, err)
			}
			e.decoded = v
		}
		list = append(list, *e.decoded.(*T))
	}
	slices.SortFunc(list, order)
	return list, nil
}

func (m *mirror) intents() ([]fleet.Intent, error) {
	return view(m, &m.intentsView, func() ([]fleet.Intent, error) { return all(m, intentsArea, fleet.Intent.Compare) })
}

func (m *mirror) nodes() ([]fleet.Node, error) {
	return view(m, &m.nodesView, func() ([]fleet.Node, error) {
		return all(m, nodesArea, func(a, b fleet.Node) int { return cmp.Compare(a.Name, b.Name) })
	})
}

func (m *mirror) charter() (fleet.Charter, error) {
	return view(m, &m.charterView, func() (fleet.Charter, error) {
		var c fleet.Charter
		if e := m.get(charterArea); e != nil {
			return c, json.Unmarshal(e.value, &c)
		}
		return c, nil
	})
}

func (m *mirror) allReports() ([]fleet.NodeReport, error) {
	return view(m, &m.reportsView, func() ([]fleet.NodeReport, error) {
		list := make([]fleet.NodeReport, 0, len(m.reports))
		for _, keys := range m.reports {
			if keys.head == nil { // it is being told: nothing of it counts before the head does
				continue
			}
			if keys.report == nil {
				r, err := joinReport(keys)
				if err != nil {
					return nil, err
				}
				keys.report = &r
			}
			list = append(list, *keys.report)
		}
		slices.SortFunc(list, func(a, b fleet.NodeReport) int { return cmp.Compare(a.Node, b.Node) })
		return list, nil
	})
}
