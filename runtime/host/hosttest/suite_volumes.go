package hosttest

import (
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

var volumeTests = map[string]func(*bench){
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
		b.must(b.volumes.Write(uid, "config", false, file, "one"))
		b.must(b.volumes.Write(uid, "secret", true, file, "two"))
		b.must(b.volumes.Write(uid, "none", true, nil, "empty"))
		b.must(b.volumes.Scratch(uid, "scratch", false, 0))
		b.must(b.volumes.Scratch(uid, "memory", true, 1<<20))
		if diff := cmp.Diff(fleet.Volumes{"config": "one", "secret": "two", "none": "empty"}, list()); diff != "" {
			b.Fatal(diff)
		}
		b.must(b.volumes.Write(uid, "config", false, file, "three"))
		b.must(b.volumes.Write(uid, "secret", true, file, "two"))
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
			if err := b.volumes.Write(uid, "config", false, []fleet.File{{Path: path, Mode: 0o644}}, "h"); err == nil {
				b.Errorf("wrote to %q", path)
			}
		}
		for _, uid := range []string{"", "..", ".", "a/b", "/a"} {
			if b.volumes.Write(uid, "config", false, nil, "h") == nil {
				b.Errorf("wrote for the pod %q", uid)
			}
			if b.volumes.Scratch(uid, "config", false, 0) == nil {
				b.Errorf("made scratch for the pod %q", uid)
			}
			if b.volumes.Remove(uid) == nil {
				b.Errorf("removed the pod %q", uid)
			}
		}
		all, err := b.volumes.List()
		b.must(err)
		if len(all[uid]) != 0 {
			b.Errorf("listed: %v", all[uid])
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
