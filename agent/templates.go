package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// templates keeps pod templates as written, by their hash, on disk: a pod goes on being looked after when its
// commit cannot be rendered any more, and an old ReplicaSet can be run again. What is read is defaulted by
// the Skerry that reads it.
type templates struct {
	dir string

	mu    sync.Mutex
	cache map[fleet.Hash]*corev1.PodTemplateSpec // defaulted; read-only
}

func newTemplates(dataDir string) *templates {
	return &templates{dir: filepath.Join(dataDir, "templates"), cache: map[fleet.Hash]*corev1.PodTemplateSpec{}}
}

func (t *templates) file(hash fleet.Hash) string { return filepath.Join(t.dir, string(hash)+".json") }

// keep writes the templates of objects that are not there yet.
func (t *templates) keep(objects []fleet.Object) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fmt.Errorf("keep templates: %w", err)
	}
	for _, o := range objects {
		if o.Template == nil {
			continue
		}
		if _, err := os.Stat(t.file(o.Hash)); err == nil {
			continue
		}
		if err := writeFile(t.file(o.Hash), fleet.CanonicalTemplate(o.Template)); err != nil {
			return fmt.Errorf("keep template of %s: %w", o.ID, err)
		}
	}
	return nil
}

// get returns the defaulted templates of those hashes that are to be had, and forgets all others in memory.
func (t *templates) get(want map[fleet.Hash]bool) map[fleet.Hash]*corev1.PodTemplateSpec {
	t.mu.Lock()
	defer t.mu.Unlock()
	got := make(map[fleet.Hash]*corev1.PodTemplateSpec, len(want))
	for hash := range want {
		if known := t.cache[hash]; known != nil {
			got[hash] = known
		} else if read, err := t.read(hash); err == nil {
			got[hash] = read
		}
	}
	t.cache = got
	return got
}

func (t *templates) read(hash fleet.Hash) (*corev1.PodTemplateSpec, error) {
	raw, err := os.ReadFile(t.file(hash))
	if err != nil {
		return nil, err
	}
	var template corev1.PodTemplateSpec
	if err := json.Unmarshal(raw, &template); err != nil {
		return nil, fmt.Errorf("template %s: %w", hash, err)
	}
	if is := fleet.HashTemplate(&template); is != hash {
		return nil, fmt.Errorf("template %s has the hash %s: it was changed on disk", hash, is)
	}
	manifest.DefaultTemplate(&template)
	return &template, nil
}

// prune removes what nothing refers to.
func (t *templates) prune(keep map[fleet.Hash]bool) error {
	entries, err := os.ReadDir(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var faults []error
	for _, e := range entries {
		hash, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || keep[fleet.Hash(hash)] {
			continue
		}
		faults = append(faults, os.Remove(filepath.Join(t.dir, e.Name())))
	}
	return errors.Join(faults...)
}

// used are the hashes that an assignment and desired objects refer to.
func used(a fleet.Assignment, d fleet.Desired) map[fleet.Hash]bool {
	hashes := map[fleet.Hash]bool{}
	for i := range a.Slots {
		hashes[a.Slots[i].Want] = true
		for _, next := range a.Slots[i].Next {
			hashes[next] = true
		}
	}
	for i := range a.Sets {
		hashes[a.Sets[i].Want] = true
	}
	for i := range a.Jobs { // a run that has no pod just now goes on with its own, whatever its CronJob has by then
		hashes[a.Jobs[i].Want] = true
	}
	for _, o := range d.Objects {
		if o.Template != nil {
			hashes[o.Hash] = true
		}
	}
	return hashes
}

// writeFile replaces a file as a whole: after a crash there is the old one or the new one.
func writeFile(name string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
