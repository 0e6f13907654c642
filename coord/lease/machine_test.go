package lease

import (
	"container/heap"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

var (
	simSeeds = flag.Int("sim.seeds", 2000, "how many seeds TestNoTwoHoldersWhateverBefalls goes through")
	simSeed  = flag.Uint64("sim.seed", 1, "the first of them")
)

// lab is a fleet in virtual time: machines, their clocks and fences, and what is between them. Given the same seed it does the same.
type lab struct {
	t     testing.TB
	rng   *rand.Rand
	rules func(fleet.Electorate) Terms
	now   time.Duration // which no node knows
	queue events
	count uint64
	nodes map[fleet.NodeName]*bench
	// between is how long a message takes: once for each time that it arrives.
	between func(from, to fleet.NodeName, m Message) []time.Duration
	sent    map[fleet.NodeName]map[Kind]int
	changed func(node fleet.NodeName, key string) // a node has got a key
	two     string                                // how two held at once, the first time
}

// bench is one node of a lab.
type bench struct {
	*Machine
	name   fleet.NodeName
	offset time.Duration
	rate   float64
	dead   bool
	paused time.Duration // until then it does nothing
	wakes  uint64        // the event that wakes it
	fences map[string]Instant
	wants  map[string]int
}

type event struct {
	at time.Duration
	id uint64
	do func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].id < q[j].id
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// quickly is a good network: 0.1 to 2 ms.
func (l *lab) quickly(fleet.NodeName, fleet.NodeName, Message) []time.Duration {
	return []time.Duration{100*time.Microsecond + l.roll(1900*time.Microsecond)}
}

func (l *lab) roll(n time.Duration) time.Duration { return time.Duration(l.rng.Int64N(int64(n))) }

// newLab has a fleet that has been there for a while, of which nobody wants anything yet.
func newLab(t testing.TB, seed uint64, rules func(fleet.Electorate) Terms, e fleet.Electorate, names ...fleet.NodeName) *lab {
	l := &lab{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), rules: rules, nodes: map[fleet.NodeName]*bench{},
		sent: map[fleet.NodeName]map[Kind]int{}, changed: func(fleet.NodeName, string) {},
	}
	l.between = l.quickly
	for _, name := range names {
		n := &bench{name: name, offset: l.roll(time.Hour), rate: 1, fences: map[string]Instant{}, wants: map[string]int{}}
		l.nodes[name] = n
		l.sent[name] = map[Kind]int{}
		l.start(n, e)
		n.voter.quiet = 0
	}
	return l
}

func (l *lab) clock(n *bench) Instant { return n.offset + time.Duration(float64(l.now)*n.rate) }

// start has a node start, or start anew: what is in its kernel stays.
func (l *lab) start(n *bench, e fleet.Electorate) {
	incarnation := l.rng.Uint64()
	n.Machine = NewMachine(n.name, incarnation, l.rules, l.roll, l.clock(n))
	n.dead = false
	n.Elect(e, l.clock(n))
	for _, key := range slices.Sorted(maps.Keys(n.wants)) {
		n.Want(key, n.wants[key], l.clock(n))
	}
	l.step(n)
}

func (l *lab) after(d time.Duration, do func()) {
	l.count++
	heap.Push(&l.queue, event{l.now + d, l.count, do})
}

// run lets time pass.
func (l *lab) run(d time.Duration) { l.until(d, func() bool { return false }) }

// until lets time pass until something is so, and returns how long that took; d if it was not by then.
func (l *lab) until(d time.Duration, done func() bool) time.Duration {
	began := l.now
	for !done() {
		if len(l.queue) == 0 || l.queue[0].at > began+d {
			l.now = began + d
			return d
		}
		e := heap.Pop(&l.queue).(event)
		l.now = e.at
		e.do()
	}
	return l.now - began
}

// step does what a node's loop does whenever something has happened.
func (l *lab) step(n *bench) {
	now := l.clock(n)
	next := n.Tick(now)
	for _, e := range n.Out() {
		l.sent[n.name][e.Kind]++
		for _, d := range l.between(n.name, e.To, e.Message) {
			l.after(d, func() { l.receive(n.name, e) })
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n.wants)) {
		until := n.Until(key)
		if until <= n.fences[key] || until <= now {
			continue
		}
		had := n.fences[key] > now
		n.fences[key] = until
		if other := l.other(n, key); other != "" && l.two == "" {
			l.two = fmt.Sprintf("%s and %s both hold %s at %s", n.name, other, key, l.now)
		}
		if !had {
			l.changed(n.name, key)
		}
	}
	if next > 0 {
		machine, id := n.Machine, l.count+1
		n.wakes = id
		l.after(max(0, time.Duration(float64(next-now)/n.rate))+1, func() {
			if n.wakes == id && n.Machine == machine {
				l.awake(n, func() { l.step(n) })
			}
		})
	}
}

// awake does something with a node as soon as it can.
func (l *lab) awake(n *bench, do func()) {
	switch {
	case n.dead:
	case l.now < n.paused:
		l.after(n.paused-l.now, func() { l.awake(n, do) })
	default:
		do()
	}
}

func (l *lab) receive(from fleet.NodeName, e Envelope) {
	n := l.nodes[e.To]
	if n == nil {
		return
	}
	l.awake(n, func() {
		n.Receive(from, e.Message, l.clock(n))
		l.step(n)
	})
}

// other is another node than this one whose fence is open.
func (l *lab) other(n *bench, key string) fleet.NodeName {
	for name, o := range l.nodes {
		if o != n && o.fences[key] > l.clock(o) {
			return name
		}
	}
	return ""
}

// holder is who holds a key, and has a fence that is open.
func (l *lab) holder(key string) fleet.NodeName { return l.other(nil, key) }

func (l *lab) held(key string) func() bool { return func() bool { return l.holder(key) != "" } }

func (l *lab) heldBy(node fleet.NodeName, key string) func() bool {
	return func() bool { return l.holder(key) == node }
}

func (l *lab) want(node fleet.NodeName, key string, rank int) {
	n := l.nodes[node]
	n.wants[key] = rank
	n.Want(key, rank, l.clock(n))
	l.step(n)
}

func (l *lab) yield(node fleet.NodeName, key string, to fleet.NodeName) {
	n := l.nodes[node]
	delete(n.wants, key)
	n.fences[key] = 0 // first
	n.Yield(key, to, l.clock(n))
	l.step(n)
}

func (l *lab) elect(n *bench, e fleet.Electorate) {
	n.Elect(e, l.clock(n))
	l.step(n)
}

// alone fails the test if two held at once.
func (l *lab) alone() {
	l.t.Helper()
	if l.two != "" {
		l.t.Error(l.two)
	}
}

var (
	five  = []fleet.NodeName{"a", "b", "c", "d", "e"}
	three = five[:3]
	keys  = func() (list []string) {
		for i := range 20 {
			list = append(list, fmt.Sprint("192.0.2.", i+1))
		}
		return list
	}()
)

// waits are how long something took in many runs.
func waits(t *testing.T, seeds int, most time.Duration, one func(seed uint64) time.Duration) {
	t.Helper()
	var list []time.Duration
	for seed := range uint64(seeds) {
		took := one(seed)
		if took > most {
			t.Errorf("seed %d: %s, want %s at most", seed, took, most)
		}
		list = append(list, took)
	}
	slices.Sort(list)
	t.Logf("median %s, 99 of 100 %s, max %s of %d", list[len(list)/2], list[len(list)*99/100], list[len(list)-1], len(list))
}

// TestPacing has fleets on a good network, and looks at how long things take.
func TestPacing(t *testing.T) {
	t.Run("one voter alone", func(t *testing.T) {
		l := newLab(t, 1, TermsOf, electorate(1, "a"), "a")
		l.run(time.Second)
		for _, key := range keys {
			l.want("a", key, 0)
			if l.holder(key) != "a" {
				t.Errorf("%s is not held at once", key)
			}
		}
		l.run(time.Minute)
		for _, key := range keys {
			if l.holder(key) != "a" {
				t.Errorf("%s is not held after a minute", key)
			}
		}
		if n := l.sent["a"]; len(n) > 0 {
			t.Errorf("sent %v, want nothing", n)
		}
	})
	for _, e := range []fleet.Electorate{electorate(1, three...), {Epoch: 1, Voters: three, Fast: true}, electorate(1, five...)} {
		ttl := TermsOf(e).TTL
		// fresh has all want it at once, in some order of rank; settled has one of them hold it for a while.
		fresh := func(seed uint64) *lab {
			l := newLab(t, seed, TermsOf, e, five...)
			l.run(l.roll(time.Second))
			for rank, at := range l.rng.Perm(len(e.Voters)) {
				l.want(e.Voters[at], key, rank)
			}
			return l
		}
		settled := func(seed uint64) *lab {
			l := fresh(seed)
			l.until(time.Second, l.held(key))
			l.run(2*time.Second + l.roll(time.Second))
			return l
		}
		standby := func(l *lab) fleet.NodeName {
			for {
				if to := e.Voters[l.rng.IntN(len(e.Voters))]; to != l.holder(key) {
					return to
				}
			}
		}
		t.Run(fmt.Sprintf("%d voters, %s", len(e.Voters), ttl), func(t *testing.T) {
			t.Run("somebody holds", func(t *testing.T) {
				waits(t, 300, 100*time.Millisecond, func(seed uint64) time.Duration {
					l := fresh(seed)
					defer l.alone()
					return l.until(time.Minute, l.held(key))
				})
			})
			t.Run("all have just started", func(t *testing.T) {
				waits(t, 300, Longest+200*time.Millisecond, func(seed uint64) time.Duration {
					l := newLab(t, seed, TermsOf, e, five...)
					defer l.alone()
					for _, name := range e.Voters {
						l.want(name, key, 0)
						l.start(l.nodes[name], e)
					}
					return l.until(time.Minute, l.held(key))
				})
			})
			t.Run("the holder dies", func(t *testing.T) {
				waits(t, 500, ttl+100*time.Millisecond, func(seed uint64) time.Duration {
					l := settled(seed)
					defer l.alone()
					was := l.holder(key)
					l.nodes[was].dead = true
					return l.until(time.Minute, func() bool { now := l.holder(key); return now != "" && now != was })
				})
			})
			for name, slow := range map[string]Kind{"": 0, ", the offer is late": Offer, ", the drop is late": Drop} {
				t.Run("yields to a named node"+name, func(t *testing.T) {
					waits(t, 300, 10*time.Millisecond, func(seed uint64) time.Duration {
						l := settled(seed)
						defer l.alone()
						l.between = func(from, to fleet.NodeName, m Message) []time.Duration {
							d := l.quickly(from, to, m)
							if slow != 0 && m.Kind == slow {
								d[0] = 2 * time.Millisecond
							} else if slow != 0 {
								d[0] = 100 * time.Microsecond
							}
							return d
						}
						to := standby(l)
						l.yield(l.holder(key), key, to)
						return l.until(time.Minute, l.heldBy(to, key))
					})
				})
			}
			t.Run("yields to nobody in particular", func(t *testing.T) {
				waits(t, 300, ttl+100*time.Millisecond, func(seed uint64) time.Duration {
					l := settled(seed)
					defer l.alone()
					l.yield(l.holder(key), key, "")
					return l.until(time.Minute, l.held(key))
				})
			})
			t.Run("five of one rank", func(t *testing.T) {
				waits(t, 500, 200*time.Millisecond, func(seed uint64) time.Duration {
					l := newLab(t, seed, TermsOf, e, five...)
					defer l.alone()
					for _, name := range five {
						l.want(name, key, 0)
					}
					return l.until(time.Minute, l.held(key))
				})
			})
			t.Run("no majority, and one again", func(t *testing.T) {
				waits(t, 300, time.Second, func(seed uint64) time.Duration {
					l := settled(seed)
					defer l.alone()
					l.between = func(fleet.NodeName, fleet.NodeName, Message) []time.Duration { return nil }
					l.run(ttl)
					if took := l.until(5*time.Second, l.held(key)); took < 5*time.Second {
						t.Errorf("seed %d: %s holds without a majority", seed, l.holder(key))
					}
					l.between = l.quickly
					return l.until(time.Minute, l.held(key))
				})
			})
		})
	}
}

// TestSteady has nothing befall a fleet but loss and delay: nobody loses what it holds.
func TestSteady(t *testing.T) {
	for _, e := range []fleet.Electorate{electorate(1, three...), {Epoch: 1, Voters: three, Fast: true}, electorate(1, five...)} {
		for _, candidates := range [][]fleet.NodeName{three, five} {
			t.Run(fmt.Sprintf("%d voters, %d candidates, %s", len(e.Voters), len(candidates), TermsOf(e).TTL), func(t *testing.T) {
				l := newLab(t, 1, TermsOf, e, five...)
				defer l.alone()
				l.between = func(fleet.NodeName, fleet.NodeName, Message) []time.Duration {
					if l.rng.IntN(100) == 0 {
						return nil
					}
					return []time.Duration{100*time.Microsecond + l.roll(30*time.Millisecond)}
				}
				for rank, name := range candidates {
					l.want(name, key, rank)
				}
				l.run(time.Second)
				if l.holder(key) == "" {
					t.Fatal("nobody holds")
				}
				l.changed = func(node fleet.NodeName, key string) { t.Errorf("%s has got %s after %s", node, key, l.now) }
				l.run(10 * time.Minute)
				if l.holder(key) == "" {
					t.Error("nobody holds")
				}
			})
		}
	}
}

// TestRanks has the lowest rank go first, and nobody be pushed aside by a lower one that comes later.
func TestRanks(t *testing.T) {
	for seed := range uint64(10) {
		l := newLab(t, seed, TermsOf, electorate(1, three...), five...)
		order := l.rng.Perm(len(five))
		for i, key := range keys {
			for rank, at := range order {
				l.want(five[(at+i)%len(five)], key, rank+1)
			}
		}
		l.run(200 * time.Millisecond)
		first := map[string]fleet.NodeName{}
		for i, key := range keys {
			first[key] = five[(order[0]+i)%len(five)]
			if got := l.holder(key); got != first[key] {
				t.Fatalf("seed %d: %s is held by %q, want %q", seed, key, got, first[key])
			}
			l.want(five[(order[4]+i)%len(five)], key, 0)
		}
		l.run(5 * time.Second)
		for _, key := range keys {
			if got := l.holder(key); got != first[key] {
				t.Fatalf("seed %d: %s is held by %q later, want %q still", seed, key, got, first[key])
			}
		}
		l.alone()
	}
}

// TestMessages counts what is sent while nothing happens.
func TestMessages(t *testing.T) {
	for _, e := range []fleet.Electorate{electorate(1, three...), {Epoch: 1, Voters: three, Fast: true}, electorate(1, five...)} {
		for _, n := range []int{1, len(keys)} {
			t.Run(fmt.Sprintf("%d voters, %s, %d keys", len(e.Voters), TermsOf(e).TTL, n), func(t *testing.T) {
				const seconds = 30
				l := newLab(t, 1, TermsOf, e, e.Voters...)
				defer l.alone()
				for _, key := range keys[:n] {
					for rank, name := range e.Voters {
						l.want(name, key, rank)
					}
				}
				l.run(10 * time.Second)
				for _, kinds := range l.sent {
					clear(kinds)
				}
				l.run(seconds * time.Second)
				for _, name := range e.Voters {
					t.Logf("%s: %d asks, %d grants, %d refusals, %d drops in %d s", name, l.sent[name][Ask], l.sent[name][Grant], l.sent[name][Refuse], l.sent[name][Drop], seconds)
				}
				others := len(e.Voters) - 1
				renewals := int(seconds * time.Second / TermsOf(e).Renew)
				if got, want := l.sent["a"][Ask], n*others*renewals; got < want-n*others || got > want+n*others {
					t.Errorf("the holder asked %d times, want %d", got, want)
				}
				for _, name := range e.Voters[1:] {
					if got, want := l.sent[name][Grant], n*renewals; got < want-n || got > want+n {
						t.Errorf("%s granted %d times, want %d", name, got, want)
					}
					// Who waits asks when the grants that it was told of would be over: not more than twice as often as they last.
					if got, most := l.sent[name][Ask], 2*n*others*int(seconds*time.Second/TermsOf(e).TTL); got > most {
						t.Errorf("%s, who does not hold, asked %d times, want %d at most", name, got, most)
					}
				}
			})
		}
	}
}

// befall is a fleet that whatever may befall does: loss, doubling, any order, delays of two TTLs, pauses, restarts, clocks as different as
// they may be, candidates that let go, and electorates that follow one another by the rule. Rate is how much faster the fastest clock is.
func befall(t testing.TB, seed uint64, rules func(fleet.Electorate) Terms, rate float64) *lab {
	electorates := []fleet.Electorate{
		electorate(1, "a"), electorate(2, "a", "b"), electorate(3, three...),
		{Epoch: 4, Voters: five[:4]}, {Epoch: 5, Voters: five, Fast: true}, {Epoch: 6, Voters: five[1:]},
	}
	at := int(seed) % 4 // how far the fleet has come
	if at < 2 && seed%8 < 4 {
		at = 2
	}
	l := newLab(t, seed, rules, electorates[at], five...)
	ttl := rules(electorates[at]).TTL
	names := five[:2+l.rng.IntN(4)]
	for _, name := range five {
		l.nodes[name].rate = 1 + l.rng.Float64()*(rate-1)
		if l.rng.IntN(2) == 0 {
			l.nodes[name].rate = []float64{1, rate}[l.rng.IntN(2)]
		}
	}
	list := keys[:1+l.rng.IntN(2)]
	loss, slow := l.rng.IntN(30), l.rng.IntN(30)
	l.between = func(from, to fleet.NodeName, m Message) (times []time.Duration) {
		for range 1 + l.rng.IntN(20)/19 {
			switch n := l.rng.IntN(100); {
			case n < loss:
			case n < loss+slow:
				times = append(times, l.roll(2*ttl))
			default:
				times = append(times, l.quickly(from, to, m)...)
			}
		}
		return times
	}
	for _, name := range names {
		for _, key := range list {
			l.want(name, key, l.rng.IntN(3))
		}
	}
	var agreed time.Duration // since when a majority has gone by the newest; 0: not yet
	for range 60 {
		l.run(l.roll(ttl / 3))
		n := l.nodes[names[l.rng.IntN(len(names))]]
		if l.rng.IntN(4) == 0 {
			n = l.nodes[five[l.rng.IntN(len(five))]] // voters, too
		}
		switch l.rng.IntN(10) {
		case 0, 1:
			n.paused = max(n.paused, l.now+l.roll(2*ttl))
		case 2:
			l.start(n, n.electorate)
		case 3, 4:
			if k := list[l.rng.IntN(len(list))]; n.paused <= l.now && n.keys[k] != nil {
				l.yield(n.name, k, append([]fleet.NodeName{""}, five...)[l.rng.IntN(6)])
				l.after(l.roll(ttl), func() { l.awake(n, func() { l.want(n.name, k, l.rng.IntN(3)) }) })
			}
		case 5, 6:
			e := electorates[at]
			if n.paused <= l.now {
				l.elect(n, e)
			}
			count := 0
			for _, name := range e.Voters {
				if l.nodes[name].electorate.Epoch >= e.Epoch {
					count++
				}
			}
			if agreed == 0 && count >= majority(len(e.Voters)) {
				agreed = l.now
			}
			if agreed > 0 && l.now-agreed > rules(e).Longest && at+1 < len(electorates) {
				at, agreed = at+1, 0
			}
		}
	}
	return l
}

// TestNoTwoHoldersWhateverBefalls is what TestNoTwoHolders cannot be: long, with pacing, and with real times. -sim.seeds N for more.
func TestNoTwoHoldersWhateverBefalls(t *testing.T) {
	margin := float64(Usual.TTL) / float64(Usual.TTL-Usual.Margin)
	t.Run("as assumed", func(t *testing.T) {
		got := 0
		for seed := *simSeed; seed < *simSeed+uint64(*simSeeds); seed++ {
			l := befall(t, seed, TermsOf, margin)
			if l.two != "" {
				t.Fatalf("seed %d: %s", seed, l.two)
			}
			for _, n := range l.nodes {
				got += len(n.fences)
			}
		}
		if got == 0 {
			t.Error("nobody held anything")
		}
	})
	for name, c := range map[string]struct {
		rules func(fleet.Electorate) Terms
		rate  float64
	}{
		"clocks beyond the margin": {TermsOf, 1.5},
		"voters that forget": {func(e fleet.Electorate) Terms {
			terms := TermsOf(e)
			terms.Longest = 0
			return terms
		}, margin},
	} {
		t.Run(name, func(t *testing.T) { // else it would see nothing
			for seed := range uint64(*simSeeds) {
				if l := befall(t, seed, c.rules, c.rate); l.two != "" {
					t.Logf("seed %d: %s", seed, l.two)
					return
				}
			}
			t.Error("never two holders, want them")
		})
	}
}
