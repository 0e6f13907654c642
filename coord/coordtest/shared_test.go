package coordtest_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/fleet"
)

const ttl = 5 * time.Second

func TestShared(t *testing.T) {
	coordtest.RunShared(t, func(t *testing.T, test func(*testing.T, coordtest.Fleet)) {
		synctest.Test(t, func(t *testing.T) { test(t, coordtest.NewShared(ttl)) })
	})
}

func TestSharedIsLed(t *testing.T) {
	coordtest.RunLeases(t, func(t *testing.T, test func(*testing.T, coordtest.Leases)) {
		synctest.Test(t, func(t *testing.T) { test(t, coordtest.LeasesOf(coordtest.NewShared(ttl))) })
	})
}

func TestSharedIsAStore(t *testing.T) {
	fleets := map[string]*coordtest.Shared{}
	open := func(_ *testing.T, dir string) (*coordtest.Node, func()) {
		if fleets[dir] == nil {
			fleets[dir] = coordtest.NewShared(ttl)
		}
		n := fleets[dir].Node("n")
		return n, n.Close
	}
	coordtest.Run(t, func(t *testing.T, dir string) (coord.Store, func()) { return open(t, dir) })
	coordtest.RunIntents(t, func(t *testing.T, dir string) (coord.Store, coord.Intents, func()) {
		n, done := open(t, dir)
		return n, n, done
	})
	coordtest.RunRoll(t, func(t *testing.T, dir string) (coord.Store, coord.Roll, func()) {
		n, done := open(t, dir)
		return n, n, done
	})
	coordtest.RunTokens(t, func(t *testing.T, dir string) (coord.Tokens, coord.Roll, func()) {
		n, done := open(t, dir)
		return n, n, done
	})
}

// TestPartedOneWay: who is not heard loses its session, and hears on; who hears nothing does things that it does not know of, and still
// lets go of its lease.
func TestPartedOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coordtest.NewShared(ttl)
		a, b := s.Node("a"), s.Node("b")
		first, err := a.Campaign(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Part("a", true, false)
		if err := a.Commit(t.Context(), first, fleet.Assignment{Epoch: 1}); !errors.Is(err, coord.ErrAway) {
			t.Fatalf("commit without an answer: %v", err)
		}
		if got, _ := b.Load(t.Context()); got.Epoch != 1 {
			t.Fatalf("it was not made: epoch %d", got.Epoch)
		}
		second, err := b.Campaign(t.Context())
		if err != nil || first.Context().Err() == nil {
			t.Fatalf("both lead: %v", err)
		}
		s.Part("a", false, true)
		if err := b.Commit(t.Context(), second, fleet.Assignment{Epoch: 2}); err != nil {
			t.Fatal(err)
		}
		if got, _ := a.Load(t.Context()); got.Epoch != 2 {
			t.Fatalf("who is only not heard hears nothing: epoch %d", got.Epoch)
		}
		if err := a.Register(t.Context(), fleet.Node{Name: "a"}); !errors.Is(err, coord.ErrAway) {
			t.Fatalf("register unheard: %v", err)
		}
		second.Release()
	})
}

func TestWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := coordtest.NewShared(ttl)
		s.Weigh = true
		n := s.Node("n")
		report := fleet.NodeReport{Node: "n"}
		for i := range 100 {
			report.Pods = append(report.Pods, fleet.PodReport{Identity: fleet.Identity{UID: fmt.Sprint(i)}})
		}
		weight := func(r fleet.NodeReport) int64 {
			before := s.Written()
			_ = n.Report(t.Context(), r)
			return s.Written() - before
		}
		whole := weight(report)
		report.Pods = append([]fleet.PodReport(nil), report.Pods...)
		report.Pods[3].Status.Message = "changed"
		if one := weight(report); one == 0 || one*50 > whole {
			t.Fatalf("one pod of a hundred weighs %d of %d bytes", one, whole)
		}
	})
}
