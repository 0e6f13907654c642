// Package coordtest holds the conformance suites of coord: what every implementation must do, errors
// included. Shared is a memory of many nodes for simulations, which can be cut off from each of them.
package coordtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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

// RunIntents runs the suite of coord.Intents. Both are one store; open is as for Run.
func RunIntents(t *testing.T, open func(t *testing.T, dir string) (coord.Store, coord.Intents, func())) {
	web := fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	scale := fleet.Intent{Object: web, Source: "home", Verb: fleet.Scale, Replicas: 3, Author: "ada", At: at, Git: "1"}
	pause := fleet.Intent{Object: web, Source: "home", Verb: fleet.Pause, Author: "bob", At: at.Add(-time.Hour), Git: "false"}
	all := func(t *testing.T, s coord.Intents, want ...fleet.Intent) {
		t.Helper()
		got, err := s.Intents(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
	t.Run("they outlive the session, in their order", func(t *testing.T) {
		dir := t.TempDir()
		_, s, done := open(t, dir)
		all(t, s)
		must(t, s.Intend(t.Context(), scale))
		must(t, s.Intend(t.Context(), pause))
		all(t, s, pause, scale)
		done()
		_, s, done = open(t, dir)
		defer done()
		all(t, s, pause, scale)
	})
	t.Run("only those named are withdrawn", func(t *testing.T) {
		dir := t.TempDir()
		_, s, done := open(t, dir)
		must(t, s.Intend(t.Context(), scale))
		must(t, s.Intend(t.Context(), pause))
		other := scale
		other.Author = "eve"
		there := scale
		there.At = scale.At.In(time.FixedZone("elsewhere", 3600))
		must(t, s.Withdraw(t.Context(), []fleet.Intent{other}))
		all(t, s, pause, scale)
		must(t, s.Withdraw(t.Context(), []fleet.Intent{there, other}))
		must(t, s.Withdraw(t.Context(), []fleet.Intent{there}))
		all(t, s, pause)
		done()
		_, s, done = open(t, dir)
		defer done()
		all(t, s, pause)
	})
	t.Run("the assignment is left alone, and watchers are rung", func(t *testing.T) {
		store, s, done := open(t, t.TempDir())
		defer done()
		must(t, store.Commit(t.Context(), lead(t, store), fleet.Assignment{Epoch: 4}))
		rang := make(chan struct{}, 8)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = store.Watch(ctx, func() { rang <- struct{}{} }) }()
		<-rang
		must(t, s.Intend(t.Context(), scale))
		<-rang
		must(t, s.Withdraw(t.Context(), []fleet.Intent{scale}))
		<-rang
		a, err := store.Load(t.Context())
		must(t, err)
		if a.Epoch != 4 {
			t.Fatalf("epoch %d", a.Epoch)
		}
	})
}
