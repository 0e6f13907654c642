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
	all   map[string]map[string]*folder // by pod UID, then volume
	paths map[string]pathKind
}

type folder struct {
	written bool
	memory  bool
	limit   int64
	content fleet.Hash
	files   []fleet.File
}

type pathKind = corev1.HostPathType

var _ host.Volumes = (*Volumes)(nil)

// ofVolumes are the verbs that need no Podman.
var ofVolumes = map[string]bool{"Write": true, "Scratch": true, "HostPath": true, "List": true, "Remove": true}

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

// Write puts files into a written volume.
func (v *Volumes) Write(uid, volume string, secret bool, files []fleet.File, content fleet.Hash) error {
	return v.call("Write", uid+" "+volume, func() error {
		if err := checkUID(uid); err != nil {
			return err
		}
		if f := v.all[uid][volume]; f != nil && f.written && f.content == content {
			return nil
		}
		next := &folder{written: true, memory: secret, content: content}
		for _, f := range files {
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
	if _, ok := v.paths[name]; ok {
		return true
	}
	for _, root := range []string{diskRoot, memoryRoot} {
		if rest, ok := strings.CutPrefix(name, root+"/"); ok {
			uid, volume, _ := strings.Cut(rest, "/")
			f := v.all[uid][volume]
			return f != nil && f.memory == (root == memoryRoot)
		}
	}
	return false
}

// String is one line a volume, without the content of files.
func (v *Volumes) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, uid := range slices.Sorted(maps.Keys(v.all)) {
		for _, name := range slices.Sorted(maps.Keys(v.all[uid])) {
			f := v.all[uid][name]
			fmt.Fprintf(&b, "volume %s", v.Path(uid, name, f.memory))
			for _, file := range f.files {
				fmt.Fprintf(&b, " %s", file.Path)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
