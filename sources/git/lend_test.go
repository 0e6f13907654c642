package git

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
)

// packed is a commit as a source packs it.
func packed(t *testing.T, s *Source, revision fleet.Revision) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Pack(t.Context(), revision, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// lent checks that a source has a commit of newRepo, in which web.yaml has that number.
func lent(t *testing.T, s *Source, revision fleet.Revision, number string) {
	t.Helper()
	holds(t, s, revision, "apps/web.yaml", "kind: Deployment # "+number+"\n")
	holds(t, s, revision, "apps/db.yaml", "kind: Pod\n")
}

func TestLend(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	first := r.head()
	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	second := r.push("second commit")
	giver := open(t, config(t, r.bare))
	fetched(t, giver, second)

	cfg := config(t, r.bare+".away")
	taker := open(t, cfg)
	if err := taker.Unpack(t.Context(), second, bytes.NewReader(packed(t, giver, second))); err != nil {
		t.Fatal(err)
	}
	lent(t, taker, second, "2")
	if _, err := taker.At(first); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the commit before came along: %v", err)
	}
	_, err := taker.Fetch(t.Context())
	fails(t, taker, err, ErrRepository)
	lent(t, open(t, cfg), second, "2")

	// What was lent can be lent on.
	third := open(t, config(t, r.bare+".away"))
	if err := third.Unpack(t.Context(), second, bytes.NewReader(packed(t, taker, second))); err != nil {
		t.Fatal(err)
	}
	lent(t, third, second, "2")
	if left, _ := filepath.Glob(filepath.Join(third.cfg.Dir, "*")); len(left) != 1 {
		t.Errorf("in the folder are %v", left)
	}
}

// TestLentHistoryIsNotClaimed fetches after the newest commit was lent, and then a commit that has only what is in the history
// of that one: a server that is told of the lent commit would leave it out.
func TestLentHistoryIsNotClaimed(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	second := r.push("second commit")
	giver := open(t, config(t, r.bare))
	fetched(t, giver, second)
	cfg := config(t, r.bare)
	taker := open(t, cfg)
	if err := taker.Unpack(t.Context(), second, bytes.NewReader(packed(t, giver, second))); err != nil {
		t.Fatal(err)
	}
	fetched(t, taker, second)
	r.write("apps/web.yaml", "kind: Deployment # 1\n")
	third := r.push("back again")
	fetched(t, taker, third)
	lent(t, taker, third, "1")
	r.git(filepath.Join(cfg.Dir, currentDir), "fsck", "--full", "--strict")
}

// TestLentOnlyOnce takes commits of which most is there already.
func TestLentOnlyOnce(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	r.write("large.bin", string(noise))
	giver, taker := open(t, config(t, r.bare)), open(t, config(t, r.bare))
	for _, number := range []string{"2", "3", "4"} {
		r.write("apps/web.yaml", "kind: Deployment # "+number+"\n")
		revision := r.push(number)
		fetched(t, giver, revision)
		for range 2 {
			if err := taker.Unpack(t.Context(), revision, bytes.NewReader(packed(t, giver, revision))); err != nil {
				t.Fatal(err)
			}
		}
		lent(t, taker, revision, number)
	}
	packs, _ := filepath.Glob(filepath.Join(taker.path(lentDir), "objects", "pack", "*.pack"))
	var sizes []int64
	for _, p := range packs {
		about, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, about.Size())
	}
	large := 0
	for _, size := range sizes {
		if size > 4096 {
			large++
		}
	}
	if len(sizes) != 3 || large != 1 {
		t.Errorf("packs are of %v bytes", sizes)
	}
}

func TestPackOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	for range 2 {
		for _, revision := range []fleet.Revision{"", "main", fleet.Revision(strings.Repeat("0", 40))} {
			var out bytes.Buffer
			if err := s.Pack(t.Context(), revision, &out); !errors.Is(err, fs.ErrNotExist) || out.Len() > 0 {
				t.Errorf("%q: %v, %d bytes", revision, err, out.Len())
			}
		}
		fetched(t, s, r.head())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Pack(ctx, r.head(), &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	first := r.head()
	r.write("apps/web.yaml", "kind: Deployment # 2\n"+strings.Repeat("# much of the same\n", 100))
	r.push("with much")
	r.write("apps/web.yaml", "kind: Deployment # 3\n"+strings.Repeat("# much of the same\n", 100))
	second := r.push("with as much")
	s := open(t, config(t, r.bare))
	fetched(t, s, second)
	good := packed(t, s, second)
	objects := func(names string, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"pack-objects", "-q", "--stdout"}, args...)...)
		cmd.Dir, cmd.Stdin = r.bare, strings.NewReader(names)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	turned := bytes.Clone(good)
	turned[len(turned)/2] ^= 0xff
	for name, c := range map[string]struct {
		sent []byte
		want string
	}{
		"nothing":             {nil, "no packfile"},
		"rubbish":             {[]byte("<html>not found"), "no packfile"},
		"cut off":             {good[:len(good)-30], "cut off"},
		"cut off at the end":  {good[:len(good)-20], "cut off"},
		"a turned byte":       {turned, ""},
		"another commit":      {packed(t, s, first), "does not have all of the commit"},
		"a file is missing":   {objects(string(second) + "\n" + r.git(r.bare, "rev-parse", string(second)+"^{tree}") + "\n"), "does not have all"},
		"with differences":    {objects(string(second)+"\n", "--revs"), "differences"},
		"too many objects":    {header(1<<20, nil, 0), "has to fetch it itself"},
		"too large an object": {header(1, make([]byte, 1), 1<<40), "has to fetch it itself"},
		"swells":              {header(1, make([]byte, 8<<20), 10), "not of the size"},
		"shrinks":             {header(1, make([]byte, 10), 8<<20), "not of the size"},
	} {
		t.Run(name, func(t *testing.T) {
			taker := open(t, config(t, r.bare))
			err := taker.Unpack(t.Context(), second, bytes.NewReader(c.sent))
			fails(t, taker, err, ErrPack, c.want)
			if _, err := taker.At(second); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a commit that was refused can be read: %v", err)
			}
			if left, _ := os.ReadDir(taker.cfg.Dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if err := taker.Unpack(t.Context(), second, bytes.NewReader(good)); err != nil {
				t.Errorf("the right one afterwards: %v", err)
			}
		})
	}
	taker := open(t, config(t, r.bare))
	fails(t, taker, taker.Unpack(t.Context(), "main", bytes.NewReader(good)), ErrPack, "not the full hash")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fails(t, taker, taker.Unpack(ctx, second, bytes.NewReader(good)), context.Canceled)
}

// header begins a packfile of so many objects, with a file that says it has so many bytes.
func header(objects uint32, content []byte, size int64) []byte {
	out := []byte("PACK\x00\x00\x00\x02")
	out = binary.BigEndian.AppendUint32(out, objects)
	first := byte(3<<4) | byte(size&15) // a blob
	for size >>= 4; size > 0; size >>= 7 {
		out, first = append(out, first|0x80), byte(size&0x7f)
	}
	out = append(out, first)
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(content) // into memory
	_ = w.Close()
	return append(append(out, b.Bytes()...), make([]byte, 20)...)
}

func TestDamagedLoanIsTakenAgain(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	giver := open(t, config(t, r.bare))
	want := r.head()
	fetched(t, giver, want)
	content := packed(t, giver, want)
	cfg := config(t, r.bare)
	take := func(s *Source) {
		t.Helper()
		if err := s.Unpack(t.Context(), want, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		lent(t, s, want, "1")
	}
	s := open(t, cfg)
	take(s)
	s.lentClone().damaged.Store(true)
	take(s)
	packs, _ := filepath.Glob(filepath.Join(cfg.Dir, lentDir, "objects", "pack", "*.pack"))
	for _, p := range packs {
		if err := os.Chmod(p, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, 40); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cfg)
	if _, err := s.At(want); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged one: %v", err)
	}
	take(s)
}

// TestLendingDisturbsNobody packs, unpacks, fetches and reads at once.
func TestLendingDisturbsNobody(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	s := open(t, config(t, r.bare))
	first := r.head()
	fetched(t, s, first)
	content := packed(t, s, first)
	taker := open(t, config(t, r.bare))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 5 {
				if err := taker.Unpack(t.Context(), first, bytes.NewReader(content)); err != nil {
					t.Error(err)
					return
				}
				snapshot, err := taker.At(first)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := fs.ReadFile(snapshot.Files, "apps/db.yaml"); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 5 {
				if err := s.Pack(t.Context(), first, &bytes.Buffer{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		fetched(t, s, r.push("again"))
	}
	all.Wait()
}
