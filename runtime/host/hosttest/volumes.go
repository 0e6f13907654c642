package hosttest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Volumes are a machine's folders in memory. Their calls are counted, failed and stalled by the Host.
type Volumes struct {
	host *Host

	mu    sync.Mutex
	all   map[string]map[string]*folder // by pod UID, then volume or what lies beside them
	paths map[string]pathKind
	owned map[string]int64 // groups that were given paths
}

type folder struct {
	written bool
	memory  bool
	limit   int64
	content fleet.Hash
	files   []fleet.File
	group   *int64 // of a written volume
	shows   string // of a sub-path: what was mounted there
}

// What lies beside a pod's volumes, and begins with one of these.
const (
	mounts   = ".mounts/"
	messages = ".messages/"
)

type pathKind = corev1.HostPathType

var _ host.Volumes = (*Volumes)(nil)

// ofVolumes are the verbs that need no Podman.
var ofVolumes = map[string]bool{"Write": true, "Scratch": true, "HostPath": true, "List": true, "Remove": true, "Own": true, "SubPath": true, "Message": true}

// The roots of Path.
const (
	diskRoot   = "/disk"
	memoryRoot = "/memory"
)

// Path is where a volume lies.
func (v *Volumes) Path(uid, volume string, memory bool) string {
	if memory {
		return path.Join(memoryRoot, uid, volume)
	}
	return path.Join(diskRoot, uid, volume)
}

// call is Host.call for something that needs the volumes' lock.
func (v *Volumes) call(verb, about string, do func() error) error {
	return v.host.call(context.Background(), verb, about, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		return do()
	})
}

func checkUID(uid string) error {
	if uid == "" || uid[0] == '.' || strings.ContainsRune(uid, '/') {
		return fmt.Errorf("pod UID %q is no name for a folder", uid)
	}
	return nil
}

// Write makes files the content of a written volume.
func (v *Volumes) Write(uid, volume string, w host.Written) error {
	return v.call("Write", uid+" "+volume, func() error {
		if err := checkUID(uid); err != nil {
			return err
		}
		if f := v.all[uid][volume]; f != nil && f.written && f.content == w.Content {
			return nil
		}
		next := &folder{written: true, memory: w.Secret, content: w.Content}
		if w.Group != nil {
			group := *w.Group
			next.group = &group
		}
		for _, f := range w.Files {
			if clean := path.Clean(f.Path); !filepath.IsLocal(f.Path) || clean == "." || strings.HasPrefix(clean, "..") {
				return fmt.Errorf("write volume %s: path %q leads out of the volume", volume, f.Path)
			}
			f.Data = slices.Clone(f.Data)
			next.files = append(next.files, f)
		}
		v.put(uid, volume, next)
		return nil
	})
}

func (v *Volumes) put(uid, volume string, f *folder) {
	if v.all[uid] == nil {
		v.all[uid] = map[string]*folder{}
	}
	v.all[uid][volume] = f
}

// Scratch makes an empty folder.
func (v *Volumes) Scratch(uid, volume string, memory bool, limit int64) error {
	return v.call("Scratch", uid+" "+volume, func() error {
		if err := checkUID(uid); err != nil {
			return err
		}
		if v.all[uid][volume] == nil {
			v.put(uid, volume, &folder{memory: memory, limit: limit})
		}
		return nil
	})
}

// HostPath makes sure of a path of the machine.
func (v *Volumes) HostPath(name string, kind corev1.HostPathType) error {
	return v.call("HostPath", name, func() error {
		is, there := v.paths[name]
		switch kind {
		case corev1.HostPathUnset:
			return nil
		case corev1.HostPathDirectoryOrCreate:
			kind = corev1.HostPathDirectory
		case corev1.HostPathFileOrCreate:
			kind = corev1.HostPathFile
		default:
			if !there {
				return fmt.Errorf("hostPath of type %s: %w", kind, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist})
			}
		}
		if !there {
			v.paths[name], is = kind, kind
		}
		if is != kind {
			return fmt.Errorf("hostPath %s is a %s, not a %s", name, is, kind)
		}
		return nil
	})
}

// Own gives a path to a group. It is only noted.
func (v *Volumes) Own(name string, group int64, _ bool) error {
	return v.call("Own", name, func() error {
		if group < 0 {
			return fmt.Errorf("%d is no group", group)
		}
		if !v.has(name) {
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if v.owned == nil {
			v.owned = map[string]int64{}
		}
		v.owned[name] = group
		return nil
	})
}

// SubPath mounts a path below a volume's root, or of a path that was added. All that is below is a folder.
func (v *Volumes) SubPath(uid, key, root, below string) (at string, err error) {
	err = v.call("SubPath", uid+" "+key, func() error {
		if err := errors.Join(checkUID(uid), checkKey(key)); err != nil {
			return err
		}
		if path.IsAbs(below) || slices.Contains(strings.Split(below, "/"), "..") {
			return fmt.Errorf("subPath %s leads out of the volume", below)
		}
		if !v.has(root) {
			return fmt.Errorf("find subPath %s: %w", below, &fs.PathError{Op: "open", Path: root, Err: fs.ErrNotExist})
		}
		at = v.Path(uid, mounts+key, true)
		v.put(uid, mounts+key, &folder{memory: true, shows: path.Join(root, below)})
		return nil
	})
	return at, err
}

// Message makes an empty file.
func (v *Volumes) Message(uid, key string) (at string, err error) {
	err = v.call("Message", uid+" "+key, func() error {
		if err := errors.Join(checkUID(uid), checkKey(key)); err != nil {
			return err
		}
		at = v.Path(uid, messages+key, false)
		v.put(uid, messages+key, &folder{})
		return nil
	})
	return at, err
}

func checkKey(key string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}
	if key == "" || key[0] == '.' || strings.ContainsFunc(key, odd) {
		return fmt.Errorf("key %q is no name for a file", key)
	}
	return nil
}

// Owner is the group that a path was given to.
func (v *Volumes) Owner(name string) (group int64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	group, ok = v.owned[name]
	return group, ok
}

// Shows is what SubPath mounted at a path.
func (v *Volumes) Shows(name string) (source string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.at(name); f != nil && f.shows != "" {
		return f.shows, true
	}
	return "", false
}

// AddPath puts a file, folder, socket or device on the machine.
func (v *Volumes) AddPath(name string, kind corev1.HostPathType) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.paths[name] = kind
}

// List has an entry for each pod that has a folder.
func (v *Volumes) List() (all map[string]fleet.Volumes, err error) {
	err = v.call("List", "", func() error {
		all = map[string]fleet.Volumes{}
		for uid, folders := range v.all {
			all[uid] = fleet.Volumes{}
			for name, f := range folders {
				if f.written {
					all[uid][name] = f.content
				}
			}
		}
		return nil
	})
	return all, err
}

// Remove removes all folders of a pod.
func (v *Volumes) Remove(uid string) error {
	return v.call("Remove", uid, func() error {
		if err := checkUID(uid); err != nil {
			return err
		}
		for name, f := range v.all[uid] {
			delete(v.owned, v.Path(uid, name, f.memory))
		}
		delete(v.all, uid)
		return nil
	})
}

// Files are the files of a written volume as a pod sees them now, and whether they are held in memory only.
func (v *Volumes) Files(uid, volume string) (files []fleet.File, memory bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.all[uid][volume]
	if f == nil || !f.written {
		return nil, false, errors.New("no such written volume")
	}
	for _, file := range f.files {
		file.Data = slices.Clone(file.Data)
		files = append(files, file)
	}
	return files, f.memory, nil
}

// there reports whether a path exists that a container is to see.
func (v *Volumes) there(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.has(name)
}

func (v *Volumes) has(name string) bool {
	_, ok := v.paths[name]
	return ok || v.at(name) != nil || v.inWritten(name)
}

// inWritten reports whether a path is that of a file in a volume that was written.
func (v *Volumes) inWritten(name string) bool {
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if f := v.at(name[:at]); f != nil && f.written {
			return slices.ContainsFunc(f.files, func(file fleet.File) bool { return file.Path == name[at+1:] })
		}
	}
	return false
}

// at is what lies at a path in a pod's folder.
func (v *Volumes) at(name string) *folder {
	for _, root := range []string{diskRoot, memoryRoot} {
		if rest, ok := strings.CutPrefix(name, root+"/"); ok {
			uid, volume, _ := strings.Cut(rest, "/")
			if f := v.all[uid][volume]; f != nil && f.memory == (root == memoryRoot) {
				return f
			}
		}
	}
	return nil
}

// String is one line a volume, sub-path and message, without the content of files, and one a path that was given
// to a group.
func (v *Volumes) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, uid := range slices.Sorted(maps.Keys(v.all)) {
		for _, name := range slices.Sorted(maps.Keys(v.all[uid])) {
			f := v.all[uid][name]
			what := "volume"
			switch {
			case strings.HasPrefix(name, mounts):
				what = "subPath"
			case strings.HasPrefix(name, messages):
				what = "message"
			}
			fmt.Fprintf(&b, "%s %s", what, v.Path(uid, name, f.memory))
			if f.shows != "" {
				fmt.Fprintf(&b, " of %s", f.shows)
			}
			if f.group != nil {
				fmt.Fprintf(&b, " group %d", *f.group)
			}
			for _, file := range f.files {
				fmt.Fprintf(&b, " %s", file.Path)
			}
			b.WriteByte('\n')
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.owned)) {
		fmt.Fprintf(&b, "path %s group %d\n", name, v.owned[name])
	}
	return b.String()
}
