package coordtest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// RunRoll runs the suite of coord.Roll. Both are one store; open is as for Run.
func RunRoll(t *testing.T, open func(t *testing.T, dir string) (coord.Store, coord.Roll, func())) {
	alpha := fleet.Node{Name: "alpha", Address: "10.0.0.1", Labels: map[string]string{"zone": "attic"}}
	beta := fleet.Node{Name: "beta", Voter: true}
	who := func(t *testing.T, r coord.Roll, want ...fleet.Node) {
		t.Helper()
		got, err := r.Nodes(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Fatal(diff)
		}
	}
	t.Run("who was registered outlives the session, in order", func(t *testing.T) {
		dir := t.TempDir()
		_, r, done := open(t, dir)
		who(t, r)
		must(t, r.Register(t.Context(), beta))
		must(t, r.Register(t.Context(), alpha))
		who(t, r, alpha, beta)
		moved := alpha
		moved.Address = "10.0.0.2"
		must(t, r.Register(t.Context(), moved))
		who(t, r, moved, beta)
		done()
		_, r, done = open(t, dir)
		defer done()
		who(t, r, moved, beta)
	})
	t.Run("who is dismissed is forgotten, and what it said", func(t *testing.T) {
		s, r, done := open(t, t.TempDir())
		defer done()
		must(t, r.Register(t.Context(), alpha))
		must(t, r.Register(t.Context(), beta))
		must(t, s.Report(t.Context(), fleet.NodeReport{Node: "alpha"}))
		must(t, r.Dismiss(t.Context(), "alpha"))
		must(t, r.Dismiss(t.Context(), "nobody"))
		who(t, r, beta)
		if reports, err := s.Reports(t.Context()); err != nil || len(reports) != 0 {
			t.Fatalf("Reports = %v, %v", reports, err)
		}
		must(t, r.Register(t.Context(), alpha))
		must(t, s.Report(t.Context(), fleet.NodeReport{Node: "alpha"}))
		who(t, r, alpha, beta)
		if reports, err := s.Reports(t.Context()); err != nil || len(reports) != 1 {
			t.Fatalf("Reports = %v, %v", reports, err)
		}
	})
	t.Run("the charter outlives the session", func(t *testing.T) {
		dir := t.TempDir()
		_, r, done := open(t, dir)
		if c, err := r.Charter(t.Context()); err != nil || len(c.Sources) != 0 {
			t.Fatalf("Charter = %v, %v", c, err)
		}
		want := fleet.Charter{Sources: []fleet.SourceTerms{{Name: "home", URL: "https://git/home.git", Interval: time.Minute}}, Network: fleet.NetworkTerms{Domain: "d"}, PodSecurity: "baseline"}
		must(t, r.Grant(t.Context(), fleet.Charter{}))
		must(t, r.Grant(t.Context(), want))
		done()
		_, r, done = open(t, dir)
		defer done()
		c, err := r.Charter(t.Context())
		must(t, err)
		if diff := cmp.Diff(want, c); diff != "" {
			t.Fatal(diff)
		}
		if r.Away() != "" {
			t.Fatalf("away: %s", r.Away())
		}
	})
	t.Run("watchers are rung", func(t *testing.T) {
		s, r, done := open(t, t.TempDir())
		defer done()
		rang := make(chan struct{}, 64)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = s.Watch(ctx, func() { rang <- struct{}{} }) }()
		<-rang
		must(t, r.Register(t.Context(), alpha))
		<-rang
		must(t, r.Grant(t.Context(), fleet.Charter{Network: fleet.NetworkTerms{Domain: "d"}}))
		<-rang
		must(t, r.Dismiss(t.Context(), "alpha"))
		<-rang
	})
}

// RunTokens runs the suite of coord.Tokens. Both are one store; open is as for Run.
func RunTokens(t *testing.T, open func(t *testing.T, dir string) (coord.Tokens, coord.Roll, func())) {
	token := func(id string) coord.Token {
		return coord.Token{ID: id, Hash: []byte{1, 2}, Server: true, Expires: time.Now().Add(time.Hour).UTC().Round(0)}
	}
	t.Run("a token is good for one node, once", func(t *testing.T) {
		dir := t.TempDir()
		s, _, done := open(t, dir)
		want := token("one")
		must(t, s.Offer(t.Context(), want))
		done()
		s, r, done := open(t, dir)
		defer done()
		if _, err := s.Redeem(t.Context(), "two", fleet.Node{Name: "alpha"}); !errors.Is(err, coord.ErrToken) {
			t.Fatalf("a token that never was: %v", err)
		}
		got, err := s.Redeem(t.Context(), "one", fleet.Node{Name: "alpha"})
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if _, err := s.Redeem(t.Context(), "one", fleet.Node{Name: "beta"}); !errors.Is(err, coord.ErrToken) {
			t.Fatalf("a token again: %v", err)
		}
		if nodes, err := r.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].Name != "alpha" {
			t.Fatalf("Nodes = %v, %v", nodes, err)
		}
	})
	t.Run("a name that is taken does not use a token up", func(t *testing.T) {
		s, r, done := open(t, t.TempDir())
		defer done()
		must(t, r.Register(t.Context(), fleet.Node{Name: "alpha", Address: "first"}))
		must(t, s.Offer(t.Context(), token("one")))
		if _, err := s.Redeem(t.Context(), "one", fleet.Node{Name: "alpha", Address: "second"}); !errors.Is(err, coord.ErrTaken) {
			t.Fatalf("a name that is taken: %v", err)
		}
		if nodes, _ := r.Nodes(t.Context()); len(nodes) != 1 || nodes[0].Address != "first" {
			t.Fatalf("Nodes = %v", nodes)
		}
		_, err := s.Redeem(t.Context(), "one", fleet.Node{Name: "beta"})
		must(t, err)
	})
	t.Run("a token expires", func(t *testing.T) {
		s, _, done := open(t, t.TempDir())
		defer done()
		old, soon := token("old"), token("soon")
		old.Expires = time.Now().Add(-time.Second)
		soon.Expires = time.Now().Add(200 * time.Millisecond)
		must(t, s.Offer(t.Context(), old))
		must(t, s.Offer(t.Context(), soon))
		<-time.After(time.Until(soon.Expires))
		for _, id := range []string{"old", "soon"} {
			if _, err := s.Redeem(t.Context(), id, fleet.Node{Name: "alpha"}); !errors.Is(err, coord.ErrToken) {
				t.Fatalf("token %s: %v", id, err)
			}
		}
	})
}
