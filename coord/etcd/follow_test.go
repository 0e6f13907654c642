package etcd

import (
	"context"
	"testing"
)

// TestQuietWatchGoesOn: a connection breaks while nobody writes anything, and the watch that is begun anew is answered although there
// is nothing to tell.
func TestQuietWatchGoesOn(t *testing.T) {
	m := member(t)
	p := passing(t, m.server.Clients[0].Addr().String())
	s := connected(t, Config{Endpoints: []string{"http://" + p.listener.Addr().String()}, Node: "a", TTL: shortTTL})
	if _, err := s.tellAll(); err != nil { // nothing is under way
		t.Fatal(err)
	}
	before := revision(t, m)
	for range 2 {
		p.sever()
		s.ill(mirrorPart, context.DeadlineExceeded) // only a watch that answers makes it well
		until(t, s, "the watch answers", func() bool { return s.Away() == "" })
	}
	if now := revision(t, m); now != before {
		t.Fatalf("revision %d was written, and the test is about %d", now, before)
	}
}
