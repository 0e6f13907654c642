package local_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/coordtest"
	"github.com/skerry-dev/skerry/coord/local"
)

func TestConformance(t *testing.T) {
	open := func(t *testing.T, dir string) (*local.Store, func()) {
		s, err := local.Open(filepath.Join(dir, "store.db"))
		if err != nil {
			t.Fatal(err)
		}
		return s, func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	coordtest.Run(t, func(t *testing.T, dir string) (coord.Store, func()) { return open(t, dir) })
	coordtest.RunIntents(t, func(t *testing.T, dir string) (coord.Store, coord.Intents, func()) {
		s, done := open(t, dir)
		return s, s, done
	})
	coordtest.RunRoll(t, func(t *testing.T, dir string) (coord.Store, coord.Roll, func()) {
		s, done := open(t, dir)
		return s, s, done
	})
}

func TestSecondProcessIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	s, err := local.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := local.Open(file); !errors.Is(err, local.ErrInUse) {
		t.Fatalf("second Open = %v, want ErrInUse", err)
	}
}
