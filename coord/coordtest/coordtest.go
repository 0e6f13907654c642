// Package coordtest is the conformance suite of coord.Store: what every implementation must do, errors
// included.
package coordtest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// Run runs the suite. open opens the store named by the test's own folder: the same one each time it is
// called in one test, after the returned close.
func Run(t *testing.T, open func(t *testing.T, dir string) (store coord.Store, closeStore func())) {
	t.Run("a new store is empty", func(t *testing.T) {
		s, done := open(t, t.TempDir())
		defer done()
		a, err := s.Load(t.Context())
		if err != nil || a.Epoch != 0 || len(a.Slots) != 0 {
			t.Fatalf("Load = %+v, %v", a, err)
		}
		reports, err := s.Reports(t.Context())
		if err != nil || len(reports) != 0 {
			t.Fatalf("Reports = %v, %v", reports, err)
		}
	})
	t.Run("what was committed is there after reopening, reports are not", func(t *testing.T) {
		dir := t.TempDir()
		s, done := open(t, dir)
		l := lead(t, s)
		want := fleet.Assignment{Epoch: 1, Slots: []fleet.Slot{{Identity: fleet.Identity{Pod: fleet.PodID{Namespace: "a", Name: "b"}, UID: "u"}, Goal: fleet.Run}}}
		must(t, s.Commit(t.Context(), l, want))
		must(t, s.Report(t.Context(), fleet.NodeReport{Node: "n"}))
		done()
		s, done = open(t, dir)
		defer done()
		got, err := s.Load(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if reports, _ := s.Reports(t.Context()); len(reports) != 0 {
			t.Fatalf("reports outlived their session: %v", reports)
		}
	})
	t.Run("commits are fenced", func(t *testing.T) {
		s, done := open(t, t.TempDir())
		defer done()
		first := lead(t, s)
		must(t, s.Commit(t.Context(), first, fleet.Assignment{Epoch: 1}))
		if err := s.Commit(t.Context(), first, fleet.Assignment{Epoch: 1}); !errors.Is(err, coord.ErrLost) {
			t.Fatalf("same epoch again: %v", err)
		}
		first.Release()
		if first.Context().Err() == nil {
			t.Fatal("a released lease's context goes on")
		}
		second := lead(t, s)
		if err := s.Commit(t.Context(), first, fleet.Assignment{Epoch: 2}); !errors.Is(err, coord.ErrLost) {
			t.Fatalf("commit under a lost lease: %v", err)
		}
		must(t, s.Commit(t.Context(), second, fleet.Assignment{Epoch: 2}))
	})
	t.Run("one leads", func(t *testing.T) {
		s, done := open(t, t.TempDir())
		defer done()
		first := lead(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		won := make(chan error, 1)
		go func() {
			_, err := s.Campaign(ctx)
			won <- err
		}()
		cancel()
		if err := <-won; !errors.Is(err, context.Canceled) {
			t.Fatalf("campaigned beside a leader: %v", err)
		}
		go func() {
			_, err := s.Campaign(t.Context())
			won <- err
		}()
		first.Release()
		must(t, <-won)
	})
	t.Run("watchers hear of commits and reports", func(t *testing.T) {
		s, done := open(t, t.TempDir())
		defer done()
		bell := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- s.Watch(ctx, func() {
				select {
				case bell <- struct{}{}:
				default:
				}
			})
		}()
		<-bell // the one at the start
		must(t, s.Commit(t.Context(), lead(t, s), fleet.Assignment{Epoch: 1}))
		<-bell
		must(t, s.Report(t.Context(), fleet.NodeReport{Node: "n", Epoch: 1}))
		<-bell
		reports, err := s.Reports(t.Context())
		if err != nil || len(reports) != 1 || reports[0].Epoch != 1 {
			t.Fatalf("Reports = %v, %v", reports, err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("Watch = %v", err)
		}
	})
}

func lead(t *testing.T, s coord.Store) coord.Lease {
	t.Helper()
	l, err := s.Campaign(t.Context())
	must(t, err)
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
