package join

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/skerry-dev/skerry/coord/pki"
)

func TestCommit(t *testing.T) {
	w := newWorld(t)
	w.commits["home/abc"] = strings.Repeat("pack", 1<<16)
	beta := w.client(w.join("beta", pki.RoleAgent).Identity)
	get := func() (string, error) {
		content, err := beta.Commit(t.Context(), w.address, "home", "abc")
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		raw, err := io.ReadAll(content)
		return string(raw), err
	}
	if raw, err := get(); err != nil || raw != w.commits["home/abc"] {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	w.cutAfter = true
	if raw, err := get(); err == nil {
		t.Errorf("what was cut off looks whole, with %d bytes", len(raw))
	}
	if _, err := beta.Commit(t.Context(), w.address, "home", "def"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the node alpha does not have commit def of source home") {
		t.Errorf("one that is not there: %v", err)
	}
	// Agents give commits, too.
	agent := w.serve(Config{Identity: w.join("gamma", pki.RoleAgent).Identity})
	w.cutAfter = false
	if content, err := beta.Commit(t.Context(), agent, "home", "abc"); err != nil {
		t.Error(err)
	} else {
		content.Close()
	}
}
