package hosttest

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// RunVolumes runs the part of the suite that is about volumes alone. open is called once a test; it may give the
// same folders each time.
func RunVolumes(t *testing.T, open func(t *testing.T) host.Volumes) {
	for _, name := range slices.Sorted(maps.Keys(folderTests)) {
		t.Run(name, func(t *testing.T) {
			folderTests[name](&bench{T: t, volumes: open(t), id: "t" + strconv.FormatInt(serial.Add(1), 10)})
		})
	}
}

// volumeTests are folderTests, and those that take containers.
var volumeTests = func() map[string]func(*bench) {
	tests := maps.Clone(folderTests)
	maps.Copy(tests, mountTests)
	return tests
}()

var mountTests = map[string]func(*bench){
	"containers see what lies beside volumes": func(b *bench) {
		uid := "uid-" + b.id
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) }) // after the containers are gone
		pod := b.create(b.sandbox())
		file := []fleet.File{{Path: "conf/key", Data: []byte("1"), Mode: 0o400}}
		b.must(b.volumes.Write(uid, "secret", host.Written{Secret: true, Files: file, Content: "one"}))
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		key, err := b.volumes.SubPath(uid, "app-0", b.volumes.Path(uid, "secret", true), "conf/key")
		b.must(err)
		part, err := b.volumes.SubPath(uid, "app-1", b.volumes.Path(uid, "scratch", false), "new/deep")
		b.must(err)
		message, err := b.volumes.Message(uid, "app")
		b.must(err)
		c := b.container(pod, "app", "seq", "cat /key", "write /part/x y", "write /message end", "cat /scratch/new/deep/x /message")
		c.Mounts = []host.Mount{
			{Source: key, Target: "/key", ReadOnly: true}, {Source: part, Target: "/part"}, {Source: message, Target: "/message"},
			{Source: b.volumes.Path(uid, "scratch", false), Target: "/scratch"},
		}
		if c := b.ended(b.start(c)); c.ExitCode != 0 {
			b.Fatalf("it ended with %d", c.ExitCode)
		}
	},
}

var folderTests = map[string]func(*bench){
	"what was written is listed": func(b *bench) {
		uid := "uid-" + b.id
		list := func() fleet.Volumes {
			b.Helper()
			all, err := b.volumes.List()
			b.must(err)
			return all[uid]
		}
		if got := list(); got != nil {
			b.Fatalf("before: %v", got)
		}
		file := []fleet.File{{Path: "sub/a", Data: []byte("1"), Mode: 0o400}}
		b.must(b.volumes.Write(uid, "config", host.Written{Files: file, Content: "one"}))
		b.must(b.volumes.Write(uid, "secret", host.Written{Secret: true, Files: file, Content: "two"}))
		b.must(b.volumes.Write(uid, "none", host.Written{Secret: true, Content: "empty"}))
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		b.must(b.volumes.Scratch(uid, "memory", true, 1<<20))
		if diff := cmp.Diff(fleet.Volumes{"config": "one", "secret": "two", "none": "empty"}, list()); diff != "" {
			b.Fatal(diff)
		}
		b.must(b.volumes.Write(uid, "config", host.Written{Files: file, Content: "three"}))
		b.must(b.volumes.Write(uid, "secret", host.Written{Secret: true, Files: file, Content: "two"}))
		if diff := cmp.Diff(fleet.Volumes{"config": "three", "secret": "two", "none": "empty"}, list()); diff != "" {
			b.Fatal(diff)
		}
		b.must(b.volumes.Remove(uid))
		if got := list(); got != nil {
			b.Fatalf("after: %v", got)
		}
		b.must(b.volumes.Remove(uid))
	},
	"a pod with scratch alone is listed": func(b *bench) {
		uid := "uid-" + b.id
		b.must(b.volumes.Scratch(uid, "scratch", true, 0))
		all, err := b.volumes.List()
		b.must(err)
		if got, ok := all[uid]; !ok || len(got) != 0 {
			b.Fatalf("listed as %v, %v", got, ok)
		}
		b.must(b.volumes.Remove(uid))
	},
	"remove of what never was": func(b *bench) { b.must(b.volumes.Remove("no-such-uid")) },
	"paths that lead elsewhere": func(b *bench) {
		uid := "uid-" + b.id
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
		for _, path := range []string{"../a", "/a", "a/../../b", "..", ".", "", "..data", "..x/y"} {
			if err := b.volumes.Write(uid, "config", host.Written{Files: []fleet.File{{Path: path, Mode: 0o644}}, Content: "h"}); err == nil {
				b.Errorf("wrote to %q", path)
			}
		}
		for _, uid := range []string{"", "..", ".", "a/b", "/a"} {
			if b.volumes.Write(uid, "config", host.Written{Content: "h"}) == nil {
				b.Errorf("wrote for the pod %q", uid)
			}
			if b.volumes.Scratch(uid, "config", false, 0) == nil {
				b.Errorf("made scratch for the pod %q", uid)
			}
			if b.volumes.Remove(uid) == nil {
				b.Errorf("removed the pod %q", uid)
			}
			if _, err := b.volumes.Message(uid, "app"); err == nil {
				b.Errorf("made a message for the pod %q", uid)
			}
			if _, err := b.volumes.SubPath(uid, "app", "/", "etc"); err == nil {
				b.Errorf("made a sub-path for the pod %q", uid)
			}
		}
		all, err := b.volumes.List()
		b.must(err)
		if len(all[uid]) != 0 {
			b.Errorf("listed: %v", all[uid])
		}
	},
	"a group": func(b *bench) {
		uid := "uid-" + b.id
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
		group := int64(2345)
		file := []fleet.File{{Path: "a", Data: []byte("1"), Mode: 0o400}}
		b.must(b.volumes.Write(uid, "config", host.Written{Files: file, Content: "one", Group: &group}))
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		scratch := b.volumes.Path(uid, "scratch", false)
		for _, changedOnly := range []bool{false, true, false} {
			b.must(b.volumes.Own(scratch, group, changedOnly))
		}
		if b.volumes.Own(scratch, -1, false) == nil {
			b.Error("there is a group -1")
		}
		if b.volumes.Own(b.volumes.Path(uid, "none", false), group, false) == nil {
			b.Error("a folder that is not there has a group")
		}
	},
	"a pod with a message alone is listed": func(b *bench) {
		uid := "uid-" + b.id
		at, err := b.volumes.Message(uid, "app")
		b.must(err)
		again, err := b.volumes.Message(uid, "app")
		b.must(err)
		other, err := b.volumes.Message(uid, "app-1_x.y")
		b.must(err)
		if at != again || at == other {
			b.Errorf("they lie at %s, %s and %s", at, again, other)
		}
		all, err := b.volumes.List()
		b.must(err)
		if got, ok := all[uid]; !ok || len(got) != 0 {
			b.Errorf("listed as %v, %v", got, ok)
		}
		b.must(b.volumes.Remove(uid))
		all, err = b.volumes.List()
		b.must(err)
		if got, ok := all[uid]; ok {
			b.Errorf("after it was removed: %v", got)
		}
	},
	"sub-paths": func(b *bench) {
		uid := "uid-" + b.id
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		root := b.volumes.Path(uid, "scratch", false)
		seen := map[string]string{}
		for key, below := range map[string]string{"app-0": "new/deep", "app-1": "", "app-2": ".", "app-3": "./new//deep/", "app-4": "a..b"} {
			at, err := b.volumes.SubPath(uid, key, root, below)
			b.must(err)
			if seen[at] != "" {
				b.Errorf("%q and %q lie at %s", key, seen[at], at)
			}
			seen[at] = key
			again, err := b.volumes.SubPath(uid, key, root, below)
			b.must(err)
			if at != again {
				b.Errorf("%q lies at %s, and then at %s", key, at, again)
			}
		}
		for _, below := range []string{"..", "../x", "a/../../x", "a/..", "/", "/etc"} {
			if at, err := b.volumes.SubPath(uid, "bad", root, below); err == nil {
				b.Errorf("%q is at %s", below, at)
			}
		}
		if at, err := b.volumes.SubPath(uid, "bad", b.volumes.Path(uid, "none", false), "a"); err == nil {
			b.Errorf("what is below nothing is at %s", at)
		}
		all, err := b.volumes.List()
		b.must(err)
		if got, ok := all[uid]; !ok || len(got) != 0 {
			b.Errorf("listed as %v, %v", got, ok)
		}
	},
	"keys": func(b *bench) {
		uid := "uid-" + b.id
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		for _, key := range []string{"", ".", "..", ".x", "a/b", "/a", "a b", "a\n", "ä", "a\x00"} {
			if at, err := b.volumes.Message(uid, key); err == nil {
				b.Errorf("the message %q is at %s", key, at)
			}
			if at, err := b.volumes.SubPath(uid, key, b.volumes.Path(uid, "scratch", false), "a"); err == nil {
				b.Errorf("the sub-path %q is at %s", key, at)
			}
		}
	},
	"host paths": func(b *bench) {
		b.must(b.volumes.HostPath("/no/such/path", corev1.HostPathUnset))
		if b.volumes.HostPath("/no/such/path", corev1.HostPathDirectory) == nil {
			b.Error("a folder that is not there is one")
		}
		if b.volumes.HostPath("/no/such/path", corev1.HostPathFile) == nil {
			b.Error("a file that is not there is one")
		}
	},
}
