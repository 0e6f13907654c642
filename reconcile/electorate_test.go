package reconcile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// voting is a fleet of nodes that go by electorates.
type voting struct {
	t       *testing.T
	in      FleetInput
	goBy    map[fleet.NodeName]fleet.Electorate
	history []fleet.Electorate
}

func newVoting(t *testing.T, names string) *voting {
	v := &voting{t: t, in: FleetInput{Now: start}, goBy: map[fleet.NodeName]fleet.Electorate{}}
	v.voters(names)
	return v
}

func (v *voting) voters(names string) {
	v.in.Nodes = nil
	for _, n := range strings.Fields(names) {
		v.in.Nodes = append(v.in.Nodes, fleet.Node{Name: fleet.NodeName(n), Server: true, Voter: true})
	}
}

// decide decides, and holds what comes to the rule: one step at a time, the next when a majority goes by the one before and all is quiet.
func (v *voting) decide() fleet.Electorate {
	v.t.Helper()
	v.in.Reports = nil
	for _, n := range v.in.Nodes {
		v.in.Reports = append(v.in.Reports, fleet.NodeReport{Node: n.Name, Electorate: v.goBy[n.Name]})
	}
	d := Decide(v.in)
	before, next := v.in.Previous.Electorate, d.Next.Electorate
	if !next.Equal(before) {
		v.history = append(v.history, next)
		if before.Epoch > 0 {
			v.follows(before, next)
		}
	}
	if d.Changed {
		v.in.Previous = d.Next
	}
	if again := v.in; Decide(again).Changed {
		v.t.Errorf("decided again it is %+v, was %+v", Decide(again).Next.Electorate, next)
	}
	return next
}

func (v *voting) follows(before, next fleet.Electorate) {
	v.t.Helper()
	n := 0
	for _, name := range before.Voters {
		if !slices.Contains(next.Voters, name) {
			n++
		}
	}
	for _, name := range next.Voters {
		if !slices.Contains(before.Voters, name) {
			n++
		}
	}
	if before.Fast != next.Fast {
		n++
	}
	goBy := 0
	for _, name := range before.Voters {
		if v.goBy[name].Epoch >= before.Epoch {
			goBy++
		}
	}
	if n != 1 || next.Epoch != before.Epoch+1 || goBy <= len(before.Voters)/2 {
		v.t.Errorf("%+v follows %+v, by which %d go: %d differences", next, before, goBy, n)
	}
}

func (v *voting) hear(names ...fleet.NodeName) {
	for _, n := range names {
		v.goBy[n] = v.in.Previous.Electorate
	}
}

func (v *voting) all() (list []fleet.NodeName) {
	for _, n := range v.in.Nodes {
		list = append(list, n.Name)
	}
	return list
}

// left are the voters that are among nodes.
func (v *voting) left(nodes []fleet.Node) []fleet.NodeName {
	return slices.DeleteFunc(slices.Clone(v.in.Previous.Electorate.Voters), func(name fleet.NodeName) bool {
		return !slices.ContainsFunc(nodes, func(n fleet.Node) bool { return n.Name == name })
	})
}

func want(t *testing.T, got fleet.Electorate, epoch uint64, voters string) {
	t.Helper()
	if fmt.Sprint(got.Voters) != "["+voters+"]" || got.Epoch != epoch {
		t.Errorf("electorate %+v, want %d: %s", got, epoch, voters)
	}
}

func TestElectorate(t *testing.T) {
	v := newVoting(t, "a")
	want(t, v.decide(), 1, "a")
	v.voters("a b c")
	want(t, v.decide(), 1, "a") // nobody is known to go by it
	v.hear("a")
	want(t, v.decide(), 1, "a") // it has to be quiet for a while
	v.in.Now = v.in.Now.Add(electQuiet)
	want(t, v.decide(), 2, "a b")
	v.in.Now = v.in.Now.Add(time.Hour)
	v.hear("a")
	want(t, v.decide(), 2, "a b") // a is no majority of two
	v.hear("b")
	v.decide()
	v.in.Now = v.in.Now.Add(electQuiet)
	want(t, v.decide(), 3, "a b c")
	t.Run("a restored store takes over what nodes know", func(t *testing.T) {
		v.hear("a", "b", "c")
		v.decide()
		v.in.Previous.Electorate, v.in.Previous.Agreed = fleet.Electorate{Epoch: 1, Voters: []fleet.NodeName{"a"}}, v.in.Now
		v.history = nil
		d := Decide(v.in)
		want(t, d.Next.Electorate, 3, "a b c")
	})
	t.Run("most were removed for good", func(t *testing.T) {
		v := newVoting(t, "c")
		v.in.Previous.Electorate = fleet.Electorate{Epoch: 7, Voters: []fleet.NodeName{"a", "b", "c"}}
		v.in.Reports = []fleet.NodeReport{{Node: "c", Electorate: v.in.Previous.Electorate}}
		d := Decide(v.in)
		want(t, d.Next.Electorate, 8, "") // nobody, for as long as what a and b may have granted lasts
		v.in.Previous, v.in.Now = d.Next, v.in.Now.Add(time.Second)
		want(t, Decide(v.in).Next.Electorate, 8, "")
		v.in.Now = v.in.Now.Add(time.Second)
		want(t, Decide(v.in).Next.Electorate, 9, "c")
	})
	t.Run("somebody else's etcd", func(t *testing.T) {
		v := newVoting(t, "a b c")
		for i := range v.in.Nodes {
			v.in.Nodes[i].Voter, v.in.Nodes[i].Server = false, i < 2
		}
		want(t, v.decide(), 1, "a b")
	})
}

// TestElectoratesFollowOneAnother: whatever nodes come and go, and hear or do not.
func TestElectoratesFollowOneAnother(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := newVoting(t, "a b c")
		v.decide()
		for range 80 {
			switch r.IntN(4) {
			case 0: // one comes or goes: never most of them at once
				name := fleet.NodeName("abcdefg"[r.IntN(7):][:1])
				at := slices.IndexFunc(v.in.Nodes, func(n fleet.Node) bool { return n.Name == name })
				if at < 0 {
					v.in.Nodes = append(v.in.Nodes, fleet.Node{Name: name, Server: true, Voter: true})
				} else if rest := slices.Delete(slices.Clone(v.in.Nodes), at, at+1); len(v.left(rest)) > len(v.in.Previous.Electorate.Voters)/2 {
					v.in.Nodes = rest
				}
			case 1, 2:
				v.hear(v.all()[r.IntN(len(v.in.Nodes))])
			default:
				v.in.Now = v.in.Now.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
				v.in.Network.Fast = r.IntN(5) == 0
			}
			v.decide()
			if t.Failed() {
				t.Fatalf("seed %d: %+v", seed, v.history)
			}
		}
	}
}
