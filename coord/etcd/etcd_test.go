package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/internal/lab"
)

// patience is how long a test waits for what must come to pass.
const patience = 60 * time.Second

func port(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", lab.Port(t))
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// member starts a cluster of one.
func member(t testing.TB) *Member {
	t.Helper()
	peer := "http://" + port(t)
	m, err := StartMember(t.Context(), MemberConfig{
		Name: "a", Dir: t.TempDir(), PeerURL: peer, ClientURL: "http://" + port(t),
		InitialCluster: map[string]string{"a": peer}, Log: logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	within(t, m.Ready(), "the member has a quorum")
	return m
}

func within[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not in time: %s", what)
		panic("")
	}
}

// until waits until cond holds, and looks whenever the store rings.
func until(t *testing.T, s coord.Store, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	met, done := context.WithCancel(ctx)
	defer done()
	bell := make(chan struct{}, 1)
	go func() {
		_ = s.Watch(met, func() {
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

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.TTL == 0 {
		cfg.TTL = 5 * time.Second
	}
	cfg.Log = logger(t)
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connected(t *testing.T, cfg Config) *Store {
	t.Helper()
	s := open(t, cfg)
	until(t, s, "the store answers", func() bool { return s.Away() == "" })
	return s
}

// reopened opens the store that belongs to a folder, for the suites.
func reopened(m *Member) func(t *testing.T, dir string) (*Store, func()) {
	return func(t *testing.T, dir string) (*Store, func()) {
		s, err := Open(t.Context(), Config{Endpoints: m.Endpoints(), Node: "n", Prefix: "/" + dir + "/", Cache: filepath.Join(dir, "cache.json"), Log: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		until(t, s, "the store answers", func() bool { return s.Away() == "" })
		return s, func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestConformance(t *testing.T) {
	open := reopened(member(t))
	coordtest.Run(t, func(t *testing.T, dir string) (coord.Store, func()) { return open(t, dir) })
	coordtest.RunIntents(t, func(t *testing.T, dir string) (coord.Store, coord.Intents, func()) {
		s, done := open(t, dir)
		return s, s, done
	})
	coordtest.RunRoll(t, func(t *testing.T, dir string) (coord.Store, coord.Roll, func()) {
		s, done := open(t, dir)
		return s, s, done
	})
	coordtest.RunTokens(t, func(t *testing.T, dir string) (coord.Tokens, coord.Roll, func()) {
		s, done := open(t, dir)
		return s, s, done
	})
}
