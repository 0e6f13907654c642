package etcd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/fleet"
)

// TestStartsWhileNothingAnswers: a store that is opened while etcd is away knows what was last known, but for its own report; it says
// that it is away, leads nobody, closes in time, and is well as soon as etcd is there.
func TestStartsWhileNothingAnswers(t *testing.T) {
	peer, client, dir := "http://"+port(t), "http://"+port(t), t.TempDir()
	cfg := MemberConfig{Name: "a", Dir: filepath.Join(dir, "etcd"), PeerURL: peer, ClientURL: client, InitialCluster: map[string]string{"a": peer}, Log: logger(t)}
	m, err := StartMember(t.Context(), cfg)
	must(t, err)
	within(t, m.Ready(), "the member has a quorum")
	cache := filepath.Join(dir, "cache.json")
	conf := Config{Endpoints: []string{client}, Node: "a", Cache: cache, TTL: shortTTL}
	s, err := Open(t.Context(), conf)
	must(t, err)
	other := connected(t, Config{Endpoints: []string{client}, Node: "b"})
	until(t, s, "the store answers", func() bool { return s.Away() == "" })
	l := leading(t, s)
	must(t, s.Commit(t.Context(), l, slots(1, 3, "x")))
	must(t, s.Register(t.Context(), fleet.Node{Name: "a"}))
	must(t, s.Report(t.Context(), fleet.NodeReport{Node: "a"}))
	must(t, other.Report(t.Context(), fleet.NodeReport{Node: "b"}))
	until(t, other, "both are heard", func() bool { r, _ := other.Reports(t.Context()); return len(r) == 2 })
	until(t, s, "both are heard", func() bool { r, _ := s.mirror.allReports(); return len(r) == 2 })
	must(t, s.Close())
	must(t, m.Stop())
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the cache: %v, %v", info, err)
	}

	s = open(t, conf)
	if a, err := s.Load(t.Context()); err != nil || a.Epoch != 1 || len(a.Slots) != 3 {
		t.Fatalf("Load = %+v, %v", a, err)
	}
	if n, err := s.Nodes(t.Context()); err != nil || len(n) != 1 {
		t.Fatalf("Nodes = %v, %v", n, err)
	}
	if r, err := s.Reports(t.Context()); err != nil || len(r) != 1 || r[0].Node != "b" {
		t.Fatalf("Reports = %v, %v", r, err)
	}
	if s.Away() == "" {
		t.Fatal("it says that it is well")
	}
	until(t, s, "it says that nobody answers", func() bool { return strings.Contains(s.Away(), "no etcd member answers") })
	if err := s.Register(t.Context(), fleet.Node{Name: "a"}); !errors.Is(err, coord.ErrAway) {
		t.Fatalf("register: %v", err)
	}
	if got, _ := s.Nodes(t.Context()); len(got) != 1 {
		t.Fatal("a write that could not be made is read")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Campaign(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("campaign: %v", err)
	}
	m, err = StartMember(t.Context(), cfg)
	must(t, err)
	defer func() { must(t, m.Stop()) }()
	until(t, s, "it is well", func() bool { return s.Away() == "" })
	must(t, s.Register(t.Context(), fleet.Node{Name: "c"}))
}

func TestCacheThatMakesNoSense(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache.json")
	for _, text := range []string{"", "{", `{"version":99}`, `{"version":1,"keys":{"assignment/head":7}}`} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		s := open(t, Config{Endpoints: []string{"http://127.0.0.1:1"}, Cache: file})
		if a, err := s.Load(t.Context()); err == nil && a.Epoch != 0 {
			t.Fatalf("%q: Load = %+v", text, a)
		}
	}
}

// TestReportsAreFewWrites: nothing is written for a new time alone, and one pod's change writes that pod; a pod that went is deleted.
func TestReportsAreFewWrites(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a", TTL: 60 * time.Second})
	other := connected(t, Config{Endpoints: m.Endpoints(), Node: "b"})
	report := fleet.NodeReport{Node: "a", Epoch: 1, At: time.Now()}
	for _, uid := range []string{"u1", "u2", "u3"} {
		report.Pods = append(report.Pods, fleet.PodReport{Identity: fleet.Identity{UID: uid, Pod: fleet.PodID{Namespace: "x", Name: uid}}})
	}
	seen := func(cond func(r fleet.NodeReport) bool) func() bool {
		return func() bool {
			list, err := other.Reports(t.Context())
			return err == nil && len(list) == 1 && cond(list[0])
		}
	}
	must(t, s.Report(t.Context(), report))
	until(t, other, "the report is told", seen(func(r fleet.NodeReport) bool { return len(r.Pods) == 3 }))
	if _, err := s.tellAll(); err != nil { // what was under way is done
		t.Fatal(err)
	}
	before := revision(t, m)
	report.At = report.At.Add(time.Second)
	must(t, s.Report(t.Context(), report))
	if wrote, err := s.tellAll(); err != nil || wrote || revision(t, m) != before {
		t.Fatalf("written for the time alone: %v, %v", wrote, err)
	}
	report.Pods = append([]fleet.PodReport(nil), report.Pods...)
	report.Pods[1].Status.Message = "changed"
	must(t, s.Report(t.Context(), report))
	until(t, other, "the pod's change is told", seen(func(r fleet.NodeReport) bool { return r.Pods[1].Status.Message == "changed" }))
	if got := writes(t, m, "/skerry/v1/", before); len(got) != 1 || !strings.HasSuffix(got[0], "/reports/a/pod/u2") {
		t.Fatalf("written: %q", got)
	}
	report.Pods, report.Epoch = report.Pods[1:], 2
	must(t, s.Report(t.Context(), report))
	until(t, other, "the pod's end is told with the epoch", func() bool {
		list, err := other.Reports(t.Context())
		if err == nil && len(list) == 1 && (len(list[0].Pods) == 2) != (list[0].Epoch == 2) {
			t.Error("a pod is missing before its epoch is told")
		}
		return err == nil && len(list) == 1 && len(list[0].Pods) == 2
	})
}

// TestSessionIsTaken: etcd ends a session, and the node has another and tells all again.
func TestSessionIsTaken(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a", TTL: 2 * time.Second})
	other := connected(t, Config{Endpoints: m.Endpoints(), Node: "b"})
	told := func() bool { r, _ := other.Reports(t.Context()); return len(r) == 1 && len(r[0].Pods) == 1 }
	must(t, s.Report(t.Context(), fleet.NodeReport{Node: "a", Pods: []fleet.PodReport{{Identity: fleet.Identity{UID: "u"}}}}))
	until(t, other, "the report is told", told)
	_, err := m.local.Revoke(t.Context(), s.ownSession())
	must(t, err)
	until(t, other, "the report ends", func() bool { return !told() })
	until(t, other, "the report is told again", told)
}

// TestPlannedStop: others see at once that a node stopped, and may lead at once.
func TestPlannedStop(t *testing.T) {
	m := member(t)
	s, err := Open(t.Context(), Config{Endpoints: m.Endpoints(), Node: "a", TTL: 10 * time.Minute})
	must(t, err)
	other := connected(t, Config{Endpoints: m.Endpoints(), Node: "b"})
	until(t, s, "the store answers", func() bool { return s.Away() == "" })
	must(t, s.Report(t.Context(), fleet.NodeReport{Node: "a"}))
	until(t, other, "the report is told", func() bool { r, _ := other.Reports(t.Context()); return len(r) == 1 })
	l := leading(t, s)
	must(t, s.Close())
	if l.Context().Err() == nil {
		t.Fatal("a closed store leads")
	}
	leading(t, other)
	until(t, other, "the report ends", func() bool { r, _ := other.Reports(t.Context()); return len(r) == 0 })
	if _, err := s.Campaign(t.Context()); err == nil {
		t.Fatal("a closed store leads again")
	}
}

// TestTokensStayInEtcd: what proves a right to join is in no mirror and no file.
func TestTokensStayInEtcd(t *testing.T) {
	m := member(t)
	s := connected(t, Config{Endpoints: m.Endpoints(), Node: "a", Cache: filepath.Join(t.TempDir(), "cache")})
	must(t, s.Offer(t.Context(), coord.Token{ID: "one", Hash: []byte("hash"), Expires: time.Now().Add(time.Hour)}))
	must(t, s.Register(t.Context(), fleet.Node{Name: "a"})) // comes after it in the mirror
	s.mirror.mu.Lock()
	defer s.mirror.mu.Unlock()
	if len(s.mirror.areas[tokensArea]) != 0 {
		t.Fatal("a token is mirrored")
	}
}
