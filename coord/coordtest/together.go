package coordtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Client is all that a node does with the fleet's memory.
type Client interface {
	coord.Store
	coord.Intents
	coord.Roll
	coord.Tokens
}

// Fleet is one memory, and clients of it that can be parted from it.
type Fleet interface {
	// Client is the client of a node: the same until Crash. It is opened when it is first asked for.
	Client(node fleet.NodeName) Client
	// Crash ends a node's client, and nobody is told: its session dies by time alone.
	Crash(node fleet.NodeName)
	// Cut parts a node's client from the memory, both ways, and Heal ends that.
	Cut(node fleet.NodeName)
	Heal(node fleet.NodeName)
	// Compact forgets what came before.
	Compact()
}

// patience is how long the suite waits for what must come to pass.
const patience = 2 * time.Minute

// RunShared runs the suite of what several clients of one memory must see of one another. run runs a test with a new fleet: in a
// bubble of testing/synctest where it is made for one.
func RunShared(t *testing.T, run func(t *testing.T, test func(t *testing.T, f Fleet))) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, f Fleet)
	}{
		{"a leader that is cut off lets go before another leads", cutLeader},
		{"a leader that crashed is followed", crashedLeader},
		{"a leader that releases is followed at once, and what it committed is seen", releasedLeader},
		{"a report dies with its session, and comes back unasked", reports},
		{"what is said while nothing answers is told later", saidWhileCut},
		{"who is cut off knows what was last known", readsWhileCut},
		{"a large commit is seen whole or not at all", largeCommit},
		{"who was cut off for long catches up", catchUp},
		{"of many that redeem a token one succeeds", redeem},
		{"what one node says all others hear", hear},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.test) })
	}
}

// eventually waits until cond holds; it looks whenever the client rings.
func eventually(t *testing.T, c Client, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bell := make(chan struct{}, 1)
	ended := make(chan struct{})
	defer func() { <-ended }()
	watching, done := context.WithCancel(ctx)
	defer done()
	go func() {
		defer close(ended)
		_ = c.Watch(watching, func() {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
	}()
	for !cond() {
		select {
		case <-bell:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}

func heard(t *testing.T, c Client, node fleet.NodeName) (fleet.NodeReport, bool) {
	t.Helper()
	list, err := c.Reports(t.Context())
	must(t, err)
	for _, r := range list {
		if r.Node == node {
			return r, true
		}
	}
	return fleet.NodeReport{}, false
}

func epoch(t *testing.T, c Client) uint64 {
	t.Helper()
	a, err := c.Load(t.Context())
	must(t, err)
	return a.Epoch
}

// follow campaigns until c leads. then runs as soon as it does.
func follow(t *testing.T, c Client, then func()) <-chan coord.Lease {
	led := make(chan coord.Lease, 1)
	ctx := t.Context()
	go func() {
		l, err := c.Campaign(ctx)
		if err != nil {
			close(led)
			return
		}
		then()
		led <- l
	}()
	return led
}

// soon is what comes out of a channel, if it comes in time.
func soon(t *testing.T, led <-chan coord.Lease) coord.Lease {
	t.Helper()
	select {
	case l := <-led:
		if l == nil {
			t.Fatal("the campaign failed")
		}
		return l
	case <-time.After(patience):
		t.Fatal("nobody leads")
		return nil
	}
}

func cutLeader(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	first := lead(t, a)
	must(t, a.Commit(t.Context(), first, fleet.Assignment{Epoch: 1}))
	overlap := false
	led := follow(t, b, func() { overlap = first.Context().Err() == nil })
	f.Cut("a")
	second := soon(t, led)
	if overlap {
		t.Fatal("two led at once")
	}
	must(t, b.Commit(t.Context(), second, fleet.Assignment{Epoch: 2}))
	late := fleet.Assignment{Epoch: 9}
	if err := a.Commit(t.Context(), first, late); !errors.Is(err, coord.ErrLost) && !errors.Is(err, coord.ErrAway) {
		t.Fatalf("commit of an old leader: %v", err)
	}
	f.Heal("a")
	eventually(t, a, "the old leader sees the new one's commit", func() bool { return epoch(t, a) == 2 })
	if err := a.Commit(t.Context(), first, late); !errors.Is(err, coord.ErrLost) {
		t.Fatalf("commit of an old leader that is back: %v", err)
	}
	if second.Context().Err() != nil || epoch(t, b) != 2 {
		t.Fatal("the new leader was disturbed")
	}
	first.Release()
	second.Release()
}

func crashedLeader(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	must(t, a.Commit(t.Context(), lead(t, a), fleet.Assignment{Epoch: 1}))
	led := follow(t, b, func() {})
	f.Crash("a")
	l := soon(t, led)
	must(t, b.Commit(t.Context(), l, fleet.Assignment{Epoch: 2}))
	a = f.Client("a")
	eventually(t, a, "the node that is back knows what was committed", func() bool { return epoch(t, a) == 2 })
	l.Release()
	lead(t, a).Release()
}

func releasedLeader(t *testing.T, f Fleet) {
	clients := []Client{f.Client("a"), f.Client("b")}
	for i := range 6 {
		c := clients[i%2]
		l := lead(t, c)
		if got := epoch(t, c); got != uint64(i) {
			t.Fatalf("leader %d knows epoch %d", i, got)
		}
		must(t, c.Commit(t.Context(), l, fleet.Assignment{Epoch: uint64(i) + 1}))
		l.Release()
	}
}

func reports(t *testing.T, f Fleet) {
	a, b, c := f.Client("a"), f.Client("b"), f.Client("c")
	said := fleet.NodeReport{Node: "b", Epoch: 7, Pods: []fleet.PodReport{{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "x", Name: "y"}, UID: "u"}}}}
	must(t, a.Report(t.Context(), fleet.NodeReport{Node: "a"}))
	must(t, b.Report(t.Context(), said))
	for _, node := range []fleet.NodeName{"a", "b"} {
		eventually(t, c, "a report is heard", func() bool { _, ok := heard(t, c, node); return ok })
	}
	eventually(t, b, "a report is heard", func() bool { _, ok := heard(t, b, "a"); return ok })
	f.Crash("a")
	f.Cut("b")
	for _, node := range []fleet.NodeName{"a", "b"} {
		eventually(t, c, "the report ends with the session", func() bool { _, ok := heard(t, c, node); return !ok })
	}
	eventually(t, b, "it says that it is away", func() bool { return b.Away() != "" })
	if _, ok := heard(t, b, "a"); !ok {
		t.Fatal("who is cut off has forgotten what was last known")
	}
	f.Heal("b")
	eventually(t, c, "the report comes back", func() bool { _, ok := heard(t, c, "b"); return ok })
	if r, _ := heard(t, c, "b"); r.Epoch != 7 || len(r.Pods) != 1 || r.Pods[0].UID != "u" {
		t.Fatalf("it came back as %+v", r)
	}
	eventually(t, b, "it is well again", func() bool { return b.Away() == "" })
	eventually(t, b, "it knows that the other is gone", func() bool { _, ok := heard(t, b, "a"); return !ok })
}

func saidWhileCut(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	must(t, b.Report(t.Context(), fleet.NodeReport{Node: "b", Epoch: 1}))
	eventually(t, a, "a report is heard", func() bool { r, _ := heard(t, a, "b"); return r.Epoch == 1 })
	f.Cut("b")
	for e := range uint64(5) {
		must(t, b.Report(t.Context(), fleet.NodeReport{Node: "b", Epoch: e + 2}))
	}
	if r, _ := heard(t, b, "b"); r.Epoch != 6 {
		t.Fatal("a node does not know what it says itself")
	}
	f.Heal("b")
	eventually(t, a, "what was said last is told", func() bool { r, _ := heard(t, a, "b"); return r.Epoch == 6 })
}

func readsWhileCut(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	l := lead(t, a)
	must(t, a.Commit(t.Context(), l, fleet.Assignment{Epoch: 1, Heard: []fleet.NodeName{"a"}}))
	must(t, a.Register(t.Context(), fleet.Node{Name: "a"}))
	eventually(t, b, "the commit is seen", func() bool { n, _ := b.Nodes(t.Context()); return epoch(t, b) == 1 && len(n) == 1 })
	f.Cut("b")
	eventually(t, b, "it says that it is away", func() bool { return b.Away() != "" })
	must(t, a.Commit(t.Context(), l, fleet.Assignment{Epoch: 2}))
	must(t, a.Register(t.Context(), fleet.Node{Name: "new"}))
	if n, err := b.Nodes(t.Context()); epoch(t, b) != 1 || err != nil || len(n) != 1 {
		t.Fatalf("who is cut off knows epoch %d and nodes %v", epoch(t, b), n)
	}
	for what, err := range map[string]error{
		"register": b.Register(t.Context(), fleet.Node{Name: "b"}),
		"intend":   b.Intend(t.Context(), fleet.Intent{Verb: fleet.Pause, Author: "ada"}),
		"grant":    b.Grant(t.Context(), fleet.Charter{}),
		"offer":    b.Offer(t.Context(), coord.Token{ID: "x", Expires: time.Now().Add(time.Hour)}),
	} {
		if !errors.Is(err, coord.ErrAway) {
			t.Errorf("%s while cut off: %v", what, err)
		}
	}
	f.Heal("b")
	eventually(t, b, "it catches up", func() bool { n, _ := b.Nodes(t.Context()); return epoch(t, b) == 2 && len(n) == 2 })
	eventually(t, b, "it is well again", func() bool { return b.Away() == "" })
	must(t, b.Register(t.Context(), fleet.Node{Name: "b"}))
	l.Release()
}

// many is an assignment of so many slots, all on one node.
func many(e uint64, n int, node fleet.NodeName) fleet.Assignment {
	a := fleet.Assignment{Epoch: e}
	for i := range n {
		a.Slots = append(a.Slots, fleet.Slot{
			Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "shop", Name: fmt.Sprintf("web-%05d", i)}, UID: fmt.Sprintf("u%05d", i), Owner: fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "shop", Name: "web-5d8f7c9b4"}},
			Node:     node, Goal: fleet.Run, Epoch: e,
		})
	}
	return a
}

func largeCommit(t *testing.T, f Fleet) {
	const size = 5000
	a, b := f.Client("a"), f.Client("b")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { // every view that a reader gets is of one commit
		ended <- b.Watch(ctx, func() {
			v, err := b.Load(ctx)
			if err != nil {
				t.Errorf("load: %v", err)
			}
			for _, s := range v.Slots {
				if s.Epoch != v.Epoch {
					t.Errorf("epoch %d has a slot of epoch %d", v.Epoch, s.Epoch)
					break
				}
			}
			if want := map[uint64]int{0: 0, 1: size, 2: size, 3: 1, 4: size}[v.Epoch]; len(v.Slots) != want {
				t.Errorf("epoch %d has %d slots", v.Epoch, len(v.Slots))
			}
		})
	}()
	l := lead(t, a)
	for _, next := range []fleet.Assignment{many(1, size, "x"), many(2, size, "y"), many(3, 1, "z"), many(4, size, "x")} {
		must(t, a.Commit(t.Context(), l, next))
		if got, err := a.Load(t.Context()); err != nil || got.Epoch != next.Epoch || len(got.Slots) != len(next.Slots) {
			t.Fatalf("own commit is not read: epoch %d, %v", got.Epoch, err)
		}
	}
	l.Release()
	l = lead(t, b)
	if got, err := b.Load(t.Context()); err != nil || got.Epoch != 4 || len(got.Slots) != size {
		t.Fatalf("the next leader has epoch %d with %d slots, %v", got.Epoch, len(got.Slots), err)
	}
	next := many(5, size, "x")
	for i := range next.Slots {
		next.Slots[i].Epoch = 4
	}
	next.Slots[17].Node = "elsewhere"
	cancel()
	<-ended
	must(t, b.Commit(t.Context(), l, next))
	l.Release()
	eventually(t, a, "a small commit upon it is seen", func() bool {
		got, _ := a.Load(t.Context())
		return got.Epoch == 5 && len(got.Slots) == size && got.Slots[17].Node == "elsewhere" && got.Slots[18].Node == "x"
	})
}

func catchUp(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	l := lead(t, a)
	must(t, a.Commit(t.Context(), l, many(1, 3, "x")))
	eventually(t, b, "the commit is seen", func() bool { return epoch(t, b) == 1 })
	f.Cut("b")
	for e := range uint64(50) {
		must(t, a.Commit(t.Context(), l, many(e+2, int(e%5), "y")))
	}
	f.Compact()
	eventually(t, b, "it says that it is away", func() bool { return b.Away() != "" })
	f.Heal("b")
	eventually(t, b, "it catches up", func() bool {
		got, err := b.Load(t.Context())
		return err == nil && got.Epoch == 51 && len(got.Slots) == 4
	})
	l.Release()
}

func redeem(t *testing.T, f Fleet) {
	must(t, f.Client("a").Offer(t.Context(), coord.Token{ID: "one", Expires: time.Now().Add(time.Hour)}))
	const n = 8
	clients := make([]Client, n)
	for i := range clients {
		clients[i] = f.Client(fleet.NodeName('a' + rune(i%3)))
	}
	errs := make(chan error, n)
	for i, c := range clients {
		go func() {
			_, err := c.Redeem(t.Context(), "one", fleet.Node{Name: fleet.NodeName(fmt.Sprintf("new-%d", i))})
			errs <- err
		}()
	}
	won := 0
	for range n {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, coord.ErrToken):
			t.Errorf("redeem: %v", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d redeemed it", won)
	}
	b := f.Client("b")
	eventually(t, b, "who joined is seen", func() bool { list, _ := b.Nodes(t.Context()); return len(list) == 1 })
}

func hear(t *testing.T, f Fleet) {
	a, b := f.Client("a"), f.Client("b")
	must(t, a.Intend(t.Context(), fleet.Intent{Verb: fleet.Pause, Author: "ada"}))
	must(t, a.Grant(t.Context(), fleet.Charter{Network: fleet.NetworkTerms{Domain: "d"}}))
	eventually(t, b, "what was said is heard", func() bool {
		i, _ := b.Intents(t.Context())
		c, _ := b.Charter(t.Context())
		return len(i) == 1 && c.Network.Domain == "d"
	})
	must(t, a.Register(t.Context(), fleet.Node{Name: "b"}))
	must(t, b.Report(t.Context(), fleet.NodeReport{Node: "b"}))
	eventually(t, a, "a report is heard", func() bool { _, ok := heard(t, a, "b"); return ok })
	must(t, a.Dismiss(t.Context(), "b"))
	if list, err := a.Nodes(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("Nodes = %v, %v", list, err)
	}
}
