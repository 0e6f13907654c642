package git

import (
	"os/exec"
	"slices"
	"testing"
)

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"https://git.example/home.git", "https://me:secret@git.example/home", true},
		{"file:///srv/home.git", "/srv/home.git", true},
		{"/srv/home/", "/srv/home.git", true},
		{"https://git.example/home", "https://git.example/other", false},
		{"/srv/home", "/srv/homestead", false},
	} {
		if got := Same(c.a, c.b); got != c.want {
			t.Errorf("Same(%q, %q) = %v", c.a, c.b, got)
		}
	}
}

func TestRemotes(t *testing.T) {
	dir := t.TempDir()
	if got := Remotes(dir); got != nil {
		t.Fatalf("no work tree, and yet %v", got)
	}
	for _, args := range [][]string{{"init", "-q"}, {"remote", "add", "origin", "https://me:secret@git.example/home.git"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	got := Remotes(dir)
	if len(got) != 2 || !slices.Contains(got, dir) || !slices.Contains(got, "https://git.example/home.git") {
		t.Fatalf("Remotes = %v", got)
	}
}
