package etcd

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/skerry-dev/skerry/fleet"
)

// three starts a cluster of three, none waiting for another.
func three(t *testing.T) (map[string]*Member, func(name string)) {
	t.Helper()
	peers, members, cfgs := map[string]string{}, map[string]*Member{}, map[string]MemberConfig{}
	for _, name := range []string{"a", "b", "c"} {
		peers[name] = "http://" + port(t)
	}
	start := func(name string) {
		m, err := StartMember(t.Context(), cfgs[name])
		must(t, err)
		members[name] = m
	}
	for name, peer := range peers {
		cfgs[name] = MemberConfig{Name: name, Dir: filepath.Join(t.TempDir(), name), PeerURL: peer, ClientURL: "http://" + port(t), InitialCluster: peers, Log: logger(t)}
		start(name)
	}
	t.Cleanup(func() {
		for _, m := range members {
			must(t, m.Stop())
		}
	})
	for _, m := range members {
		within(t, m.Ready(), "the members have a quorum")
	}
	return members, start
}

// TestQuorum: with one of three members there is no quorum: what was known is read, nobody leads, and Away says why. It passes when
// another member is back.
func TestQuorum(t *testing.T) {
	members, start := three(t)
	var endpoints []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		endpoints = append(endpoints, members[name].Endpoints()...)
	}
	s := connected(t, Config{Endpoints: endpoints[:1], Node: "a", TTL: shortTTL})
	all := connected(t, Config{Endpoints: endpoints, Node: "b", TTL: shortTTL})
	l := leading(t, s)
	must(t, s.Commit(t.Context(), l, slots(1, 3, "x")))
	until(t, all, "the commit is seen", func() bool { a, _ := all.Load(t.Context()); return a.Epoch == 1 })
	for _, name := range []string{"b", "c"} {
		must(t, members[name].Stop())
		delete(members, name)
	}
	within(t, l.Context().Done(), "who led lets go")
	until(t, s, "it says that there is no quorum", func() bool { return strings.Contains(s.Away(), "no quorum") })
	if a, err := s.Load(t.Context()); err != nil || a.Epoch != 1 || len(a.Slots) != 3 {
		t.Fatalf("Load = %+v, %v", a, err)
	}
	peers, err := members["a"].Members(t.Context())
	if err != nil || len(peers) != 3 || peers[0].Fault == "" || peers[1].Fault == "" {
		t.Fatalf("Members = %+v, %v", peers, err)
	}
	start("b")
	until(t, s, "it is well again", func() bool { return s.Away() == "" })
	until(t, all, "it is well again", func() bool { return all.Away() == "" })
	l = leading(t, all)
	must(t, all.Commit(t.Context(), l, slots(2, 3, "x")))
	until(t, s, "the commit is seen", func() bool { a, _ := s.Load(t.Context()); return a.Epoch == 2 })
}

// TestMembership: a member is added, gets its vote when it has caught up, and is removed.
func TestMembership(t *testing.T) {
	m := member(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	peer := "http://" + port(t)
	var initial map[string]string
	for range 2 { // twice is once
		var err error
		initial, err = m.AddLearner(ctx, "b", peer)
		must(t, err)
	}
	second, err := StartMember(ctx, MemberConfig{Name: "b", Dir: filepath.Join(t.TempDir(), "b"), PeerURL: peer, ClientURL: "http://" + port(t),
		InitialCluster: initial, Existing: true, Log: logger(t)})
	must(t, err)
	defer func() { must(t, second.Stop()) }()
	within(t, second.Ready(), "the learner follows")
	promoting, done := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.PromoteLearners(promoting) }()
	voters := func() int {
		n := 0
		peers, err := m.Members(ctx)
		must(t, err)
		for _, p := range peers {
			if !p.Learner && p.Fault == "" {
				n++
			}
		}
		return n
	}
	for voters() != 2 {
		if ctx.Err() != nil {
			t.Fatal("the learner has no vote")
		}
	}
	done()
	within(t, ended, "promoting ends")
	must(t, m.RemoveMember(ctx, "b"))
	must(t, m.RemoveMember(ctx, "nobody"))
	if peers, err := m.Members(ctx); err != nil || len(peers) != 1 || peers[0].Name != "a" || !peers[0].Leads {
		t.Fatalf("Members = %+v, %v", peers, err)
	}
}

// TestSnapshot: what is in a snapshot is in the cluster that is made of it, and a client of the old one notices.
func TestSnapshot(t *testing.T) {
	peer, client, dir := "http://"+port(t), "http://"+port(t), t.TempDir()
	cfg := MemberConfig{Name: "a", Dir: filepath.Join(dir, "old"), PeerURL: peer, ClientURL: client, InitialCluster: map[string]string{"a": peer}, Log: logger(t)}
	m, err := StartMember(t.Context(), cfg)
	must(t, err)
	within(t, m.Ready(), "the member has a quorum")
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a", TTL: shortTTL})
	l := leading(t, s)
	must(t, s.Commit(t.Context(), l, slots(1, 3, "x")))
	must(t, s.Register(t.Context(), fleet.Node{Name: "early"}))
	silent := connected(t, Config{Endpoints: m.Endpoints(), Node: "silent", TTL: time.Hour})
	must(t, silent.Report(t.Context(), fleet.NodeReport{Node: "silent", Epoch: 1}))
	until(t, s, "the report is told", func() bool { r, err := s.Reports(t.Context()); return err == nil && len(r) == 1 })
	file := filepath.Join(dir, "snapshot")
	f, err := os.Create(file)
	must(t, err)
	must(t, m.Snapshot(t.Context(), f))
	must(t, f.Close())
	must(t, s.Commit(t.Context(), l, slots(2, 3, "x")))
	must(t, s.Register(t.Context(), fleet.Node{Name: "late"}))
	silent.stop() // without a farewell
	must(t, m.Stop())

	cfg.Dir = filepath.Join(dir, "new")
	restored := time.Now().Truncate(time.Second)
	must(t, Restore(t.Context(), file, cfg.Dir, "a", peer, restored))
	if err := Restore(t.Context(), file, cfg.Dir, "a", peer, restored); err == nil {
		t.Fatal("a snapshot was restored over a member's data")
	}
	m, err = StartMember(t.Context(), cfg)
	must(t, err)
	defer func() { must(t, m.Stop()) }()
	within(t, m.Ready(), "the restored member has a quorum")
	until(t, s, "the client knows what the snapshot held, and nothing later", func() bool {
		a, err := s.Load(t.Context())
		nodes, _ := s.Nodes(t.Context())
		doubts := len(a.Doubted) == 1 && a.Doubted[0].Node == "early" && a.Doubted[0].Since.Equal(restored)
		return err == nil && a.Epoch > 1<<20 && len(a.Slots) == 0 && doubts && len(nodes) == 1
	})
	if reports, err := s.Reports(t.Context()); err != nil || len(reports) > 0 {
		t.Errorf("reports from before: %v, %v", reports, err)
	}
	until(t, s, "it is well again", func() bool { return s.Away() == "" })
}

// TestDefragment: waste is given back, and only waste.
func TestDefragment(t *testing.T) {
	m := member(t)
	if done, err := m.DefragmentIfWasteful(t.Context()); err != nil || done {
		t.Fatalf("defragmented without need: %v", err)
	}
	value := strings.Repeat("x", 4<<20)
	for range 20 {
		_, err := m.local.Put(t.Context(), "k", value)
		must(t, err)
	}
	_, err := m.local.Compact(t.Context(), revision(t, m))
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for done := false; !done; { // compaction goes on behind its answer
		_, err := m.local.Put(ctx, "k", "") // pages are free from the next write on
		must(t, err)
		done, err = m.DefragmentIfWasteful(ctx)
		must(t, err)
	}
	must(t, err)
	if size := m.server.Server.Backend().Size(); size > wasteFrom {
		t.Fatalf("%d bytes are left", size)
	}
}

// TestLeaderlessMember: what is asked of a member that knows no leader is done by another one, at once.
func TestLeaderlessMember(t *testing.T) {
	members, _ := three(t)
	alone := members["a"].Endpoints()
	s := connected(t, Config{Endpoints: alone, Node: "a", TTL: shortTTL})
	for _, name := range []string{"b", "c"} {
		must(t, members[name].Stop())
		delete(members, name)
	}
	until(t, s, "it knows no leader", func() bool { return strings.Contains(s.Away(), "no quorum") })
	well := member(t)
	both := connected(t, Config{Endpoints: well.Endpoints(), Node: "b", TTL: shortTTL})
	both.SetEndpoints(slices.Concat(well.Endpoints(), alone))
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // a member keeps what it cannot do for seven
		must(t, both.Intend(ctx, fleet.Intent{Verb: fleet.Cordon, At: time.Unix(int64(i), 0)}))
		cancel()
	}
	if away := both.Away(); away != "" {
		t.Error(away)
	}
}

// TestRemovedItself: a server that was asked to take itself out may answer that it has stopped before it has; one that is stopped by its
// agent was not taken out.
func TestRemovedItself(t *testing.T) {
	members, _ := three(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, members["a"].RemoveMember(ctx, "a"))
	within(t, members["a"].server.Server.StopNotify(), "it ends")
	if b := members["b"]; b.removed(nil) || b.removed(rpctypes.ErrUnhealthy) || !b.removed(rpctypes.ErrStopped) || !members["a"].removed(nil) {
		t.Error("it is not known which of them was taken out")
	}
	must(t, members["c"].Stop())
	if members["c"].removed(rpctypes.ErrStopped) {
		t.Error("one that is stopped seems to have been taken out")
	}
	delete(members, "c")
}
