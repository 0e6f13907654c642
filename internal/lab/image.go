package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestImage is the name of the test image without a tag. It comes in the tags 1 and 2, which differ in
// the environment variable VERSION alone.
const TestImage = "localhost/skerry-test"

// modes are the links in the test image's /bin: what it can be told to do (testimage/main.go).
var modes = []string{
	"serve", "sleep", "ignore-term", "exit", "crash-after", "print", "print-err", "write", "cat", "ls", "env", "id", "seq",
}

// Image makes sure that the test image is there, as TestImage:1 and TestImage:2, and returns the first
// one's name. It has /skerry-test as its entry point and serves HTTP when no argument says otherwise,
// links to it in /bin (so that `command: [sleep]` works), /tmp, and a user app with the uid 1000.
// The service may be down. Once for a test binary it takes about a second, then nothing.
func Image(t testing.TB, s *Service) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.images {
		ctx := context.WithoutCancel(t.Context())
		program, err := program(ctx)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := archive(program)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := podman(ctx, archive, "load", "--quiet"); err != nil {
			t.Fatal(err)
		}
		shared.images = true
	}
	return TestImage + ":1"
}

// program builds testimage. It is kept in the user's cache folder, where the go command sees that it is
// up to date and does not link again; test binaries run at the same time, hence the lock.
func program(ctx context.Context) ([]byte, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "skerry-lab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := filepath.Join(dir, "skerry-test")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", out,
		"github.com/skerry-dev/skerry/internal/lab/testimage")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build testimage: %w\n%s", err, msg)
	}
	return os.ReadFile(out)
}

// archive is what `docker save` writes: one layer, and the two images made of it. So no image has to be
// pulled and nothing has to run to make them.
func archive(program []byte) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		// An error shows in Close as well.
		_ = w.WriteHeader(&h)
		_, _ = w.Write(content)
	}
	for _, dir := range []string{"bin/", "etc/", "proc/", "sys/", "dev/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644},
		[]byte("root:x:0:0:root:/:/bin/false\napp:x:1000:1000:app:/tmp:/bin/false\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\napp:x:1000:\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "skerry-test", Mode: 0o755}, program)
	for _, mode := range modes {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + mode, Linkname: "/skerry-test", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	sum := sha256.Sum256(layer.Bytes())
	diff := "sha256:" + hex.EncodeToString(sum[:])

	type image struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var images []image
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "layer.tar", Mode: 0o644}, layer.Bytes())
	for _, tag := range []string{"1", "2"} {
		config, err := json.Marshal(map[string]any{
			"created": "2024-01-01T00:00:00Z", "architecture": runtime.GOARCH, "os": "linux",
			"config": map[string]any{
				"Entrypoint": []string{"/skerry-test"},
				"Env":        []string{"PATH=/bin", "VERSION=" + tag},
			},
			"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{diff}},
			"history": []map[string]any{{"created": "2024-01-01T00:00:00Z", "created_by": "lab"}},
		})
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(config)
		name := hex.EncodeToString(sum[:]) + ".json"
		add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, config)
		images = append(images, image{Config: name, RepoTags: []string{TestImage + ":" + tag}, Layers: []string{"layer.tar"}})
	}
	manifest, err := json.Marshal(images)
	if err != nil {
		return nil, err
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644}, manifest)
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return archive.Bytes(), nil
}
