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
	"strings"
	"testing"
)

// TestImage is the name of the test image without a tag. It comes in the tags 1 and 2, which differ in
// the environment variable VERSION alone. The other variants differ in the setting that they are named after, too.
const TestImage = "localhost/skerry-test"

// The variants of the test image, of the same layer.
const (
	TestImageUser   = TestImage + ":user"   // has the user app, by name
	TestImageUID    = TestImage + ":uid"    // has the user 1000
	TestImageUIDGID = TestImage + ":uidgid" // has the user 1000 and the group 2000
	TestImageStop   = TestImage + ":stop"   // is stopped by SIGINT
)

// variant is one image of an archive. Its VERSION is the tag.
type variant struct {
	name, tag  string
	user, stop string // empty: not set
}

var variants = []variant{
	{name: TestImage, tag: "1"},
	{name: TestImage, tag: "2"},
	{name: TestImage, tag: "user", user: "app"},
	{name: TestImage, tag: "uid", user: "1000"},
	{name: TestImage, tag: "uidgid", user: "1000:2000"},
	{name: TestImage, tag: "stop", stop: "SIGINT"},
}

// Image makes sure that the test image is there, in all its variants, and returns the name of TestImage:1. It has
// /skerry-test as its entry point and serves HTTP when no argument says otherwise, a link to it in /bin for each of the things
// that it can do (so that `command: [sleep]` works; testimage/main.go lists them), /tmp, and a user app with the uid 1000.
// The service may be down. Once for a test binary it takes about a second, then nothing.
func Image(t testing.TB, s *Service) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.images {
		ctx := context.WithoutCancel(t.Context())
		layer, err := layer(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := load(ctx, [][]byte{layer}, variants); err != nil {
			t.Fatal(err)
		}
		shared.images = true
	}
	return TestImage + ":1"
}

// load gives images of these layers to Podman.
func load(ctx context.Context, layers [][]byte, variants []variant) error {
	archive, err := archive(layers, variants)
	if err != nil {
		return err
	}
	_, err = podman(ctx, archive, "load", "--quiet")
	return err
}

// program builds testimage, and asks it what it can do. It is kept in the user's cache folder, where the go command sees
// that it is up to date and does not link again; test binaries run at the same time, hence the lock.
func program(ctx context.Context) (content []byte, modes []string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "skerry-lab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	out := filepath.Join(dir, "skerry-test")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", out,
		"github.com/skerry-dev/skerry/internal/lab/testimage")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build testimage: %w\n%s", err, msg)
	}
	list, err := exec.CommandContext(ctx, out, "modes").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("run testimage: %w", err)
	}
	content, err = os.ReadFile(out)
	return content, strings.Fields(string(list)), err
}

// layer is the file system of the test image, as a tar.
func layer(ctx context.Context) ([]byte, error) {
	program, modes, err := program(ctx)
	if err != nil {
		return nil, err
	}
	var w tarball
	for _, dir := range []string{"bin/", "etc/", "proc/", "sys/", "dev/"} {
		w.add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	w.add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	w.file("etc/passwd", []byte("root:x:0:0:root:/:/bin/false\napp:x:1000:1000:app:/tmp:/bin/false\n"))
	w.file("etc/group", []byte("root:x:0:\napp:x:1000:\n"))
	w.add(tar.Header{Typeflag: tar.TypeReg, Name: "skerry-test", Mode: 0o755}, program)
	for _, mode := range modes {
		w.add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + mode, Linkname: "/skerry-test", Mode: 0o777}, nil)
	}
	return w.bytes()
}

// archive is what `docker save` writes: layers, and the images made of them. So no image has to be
// pulled and nothing has to run to make them.
func archive(layers [][]byte, variants []variant) ([]byte, error) {
	var w tarball
	var files, diffs []string
	for i, layer := range layers {
		sum := sha256.Sum256(layer)
		diffs = append(diffs, "sha256:"+hex.EncodeToString(sum[:]))
		files = append(files, fmt.Sprintf("layer%d.tar", i))
		w.file(files[i], layer)
	}
	type image struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var images []image
	for _, v := range variants {
		settings := map[string]any{
			"Entrypoint": []string{"/skerry-test"},
			"Env":        []string{"PATH=/bin", "VERSION=" + v.tag},
		}
		if v.user != "" {
			settings["User"] = v.user
		}
		if v.stop != "" {
			settings["StopSignal"] = v.stop
		}
		const created = "2024-01-01T00:00:00Z"
		var history []map[string]any
		for range layers {
			history = append(history, map[string]any{"created": created, "created_by": "lab"})
		}
		config, err := json.Marshal(map[string]any{
			"created": created, "architecture": runtime.GOARCH, "os": "linux",
			"config":  settings,
			"rootfs":  map[string]any{"type": "layers", "diff_ids": diffs},
			"history": history,
		})
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(config)
		name := hex.EncodeToString(sum[:]) + ".json"
		w.file(name, config)
		images = append(images, image{Config: name, RepoTags: []string{v.name + ":" + v.tag}, Layers: files})
	}
	manifest, err := json.Marshal(images)
	if err != nil {
		return nil, err
	}
	w.file("manifest.json", manifest)
	return w.bytes()
}

// tarball is a tar being written to memory. The zero value is an empty one.
type tarball struct {
	buffer bytes.Buffer
	tar    *tar.Writer
}

func (b *tarball) add(h tar.Header, content []byte) {
	if b.tar == nil {
		b.tar = tar.NewWriter(&b.buffer)
	}
	h.Size = int64(len(content))
	// An error shows in Close as well.
	_ = b.tar.WriteHeader(&h)
	_, _ = b.tar.Write(content)
}

func (b *tarball) file(name string, content []byte) {
	b.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content)
}

func (b *tarball) bytes() ([]byte, error) {
	if err := b.tar.Close(); err != nil {
		return nil, fmt.Errorf("write tar: %w", err)
	}
	return b.buffer.Bytes(), nil
}
