// Package volume is what pods see of a machine's files: files from ConfigMaps and Secrets, scratch space, paths
// of the machine and single paths of volumes. Disk is one root below the agent's data folder, Memory another that
// is made sure to be a tmpfs; secrets and scratch in memory lie below that alone.
//
// Folders in Memory whose names begin with a dot are the agent's own.
//
// A pod's folder is ROOT/<uid>/<volume>. A written volume is, as in Kubernetes, links to ..data, which is a
// link to a folder named after the content, so that what lies there can be told without reading it and a new
// set appears at once. Beside the volumes lie .messages, what containers say at their end, and .mounts, where
// single paths of volumes are mounted.
//
// A container may rearrange what it can write to at any moment. So below a volume nothing is done by path:
// each step is taken from an open folder to what lies in it, links are not followed by the kernel, and what is
// changed or mounted is the very file that was looked at. Nothing that is mounted is ever emptied.
//
// Tests that need mounts run in scripts/lab; the part of hosttest's suite that is about volumes is among them.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Store implements host.Volumes.
type Store struct {
	Disk   string // absolute
	Memory string // absolute; becomes a tmpfs when it is not on one

	once   sync.Once
	mountE error
}

var _ host.Volumes = (*Store)(nil)

// Path is where a volume lies.
func (s *Store) Path(uid, volume string, memory bool) string {
	if memory {
		return filepath.Join(s.Memory, uid, volume)
	}
	return filepath.Join(s.Disk, uid, volume)
}

// tmpfsMagic is what statfs says of a tmpfs.
const tmpfsMagic = 0x01021994

// Prepare makes sure that Memory is a tmpfs. Nothing secret is written before that.
func (s *Store) Prepare() error {
	s.once.Do(func() {
		if s.mountE = os.MkdirAll(s.Memory, 0o700); s.mountE != nil {
			return
		}
		var st syscall.Statfs_t
		if s.mountE = syscall.Statfs(s.Memory, &st); s.mountE != nil || st.Type == tmpfsMagic {
			return
		}
		if err := syscall.Mount("tmpfs", s.Memory, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0700"); err != nil {
			s.mountE = fmt.Errorf("%s must lie in memory, and no tmpfs can be mounted there: %w", s.Memory, err)
		}
	})
	return s.mountE
}

// checkUID refuses what would lead to the root itself, out of it, or to the agent's own folders in it.
func checkUID(uid string) error {
	if uid == "" || uid[0] == '.' || strings.ContainsRune(uid, filepath.Separator) {
		return fmt.Errorf("pod UID %q is no name for a folder", uid)
	}
	return nil
}

// What is in a pod's folder and is no volume. Volumes' names are DNS labels, which have no dots.
const (
	mountsDir   = ".mounts"   // in memory
	messagesDir = ".messages" // on disk
)

// checkKey refuses what is no name for a file, or one of ours.
func checkKey(key string) error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	if key == "" || key[0] == '.' || strings.ContainsFunc(key, odd) {
		return fmt.Errorf("key %q is no name for a file", key)
	}
	return nil
}

// podDir makes a pod's folder. Containers see single volumes of it, never the folder itself.
func (s *Store) podDir(uid string, memory bool) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	root := s.Disk
	if memory {
		root = s.Memory
		if err := s.Prepare(); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(root, uid), 0o711)
}

// List has an entry for each pod that has a folder, on disk or in memory.
func (s *Store) List() (map[string]fleet.Volumes, error) {
	all := map[string]fleet.Volumes{}
	for _, root := range []string{s.Disk, s.Memory} {
		pods, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, p := range pods {
			if !p.IsDir() || strings.HasPrefix(p.Name(), ".") {
				continue
			}
			if all[p.Name()] == nil {
				all[p.Name()] = fleet.Volumes{}
			}
			volumes, err := os.ReadDir(filepath.Join(root, p.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
				return nil, err
			}
			for _, v := range volumes {
				if strings.HasPrefix(v.Name(), ".") {
					continue // no volume
				}
				if set, err := os.Readlink(filepath.Join(root, p.Name(), v.Name(), dataLink)); err == nil {
					all[p.Name()][v.Name()] = fleet.Hash(strings.TrimPrefix(set, ".."))
				}
			}
		}
	}
	return all, nil
}

// Remove removes all folders of a pod.
func (s *Store) Remove(uid string) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	memory, disk := filepath.Join(s.Memory, uid), filepath.Join(s.Disk, uid)
	// A scratch volume with a limit is a mount of its own. What else is mounted below, a path of another volume or
	// something of a container's, is somebody else's: it is let go of, and not emptied.
	for _, dir := range []string{memory, disk} {
		if err := detach(dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(memory), os.RemoveAll(disk))
}
