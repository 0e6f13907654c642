package volume_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

func TestMessage(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := disk(t)
	at, err := s.Message("uid", "app")
	must(t, err)
	if want := filepath.Join(s.Disk, "uid", ".messages", "app"); at != want {
		t.Errorf("it lies at %s, want %s", at, want)
	}
	empty := func() {
		t.Helper()
		if info, err := os.Stat(at); err != nil || info.Mode() != 0o666 || info.Size() != 0 {
			t.Fatalf("it is %v, %v", info, err)
		}
	}
	empty()
	must(t, os.WriteFile(at, []byte("the end"), 0))
	must(t, os.Chmod(at, 0))
	again, err := s.Message("uid", "app")
	must(t, err)
	if again != at {
		t.Errorf("then it lies at %s", again)
	}
	empty()
	all, err := s.List()
	must(t, err)
	if diff := cmp.Diff(map[string]fleet.Volumes{"uid": {}}, all); diff != "" {
		t.Error(diff)
	}
	must(t, s.Remove("uid"))
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}
