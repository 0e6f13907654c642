package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// cache is a file of what was last known, for a start while nothing answers.
type cache struct {
	file string
	bell chan struct{}

	mu      sync.Mutex
	pending touched
	written time.Time
}

// How long changes wait to be written: those of reports are many, and worth little.
const (
	cacheSoon  = 500 * time.Millisecond
	cacheLater = time.Minute
)

// cached is what the file holds.
type cached struct {
	Version int                        `json:"version"`
	Keys    map[string]json.RawMessage `json:"keys"`
}

const cacheVersion = 1

func newCache(file string) *cache { return &cache{file: file, bell: make(chan struct{}, 1)} }

// read returns what was kept; nothing when there is no file.
func (c *cache) read() (map[string]json.RawMessage, error) {
	raw, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	var kept cached
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, fmt.Errorf("read cache %s: %w", c.file, err)
	}
	if kept.Version != cacheVersion {
		return nil, fmt.Errorf("read cache %s: it is of version %d", c.file, kept.Version)
	}
	return kept.Keys, nil
}

// write replaces the file, whole or not at all.
func (c *cache) write(keys map[string]json.RawMessage) (err error) {
	raw, err := json.Marshal(cached{cacheVersion, keys})
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(c.file), "."+filepath.Base(c.file)+"-*") // is 0600
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.file)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// touch says that there is something to write.
func (c *cache) touch(t touched) {
	c.mu.Lock()
	c.pending.add(t)
	c.mu.Unlock()
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

// due is when to write; false: nothing is to be.
func (c *cache) due() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.pending.others:
		return c.written.Add(cacheSoon), true
	case c.pending.reports:
		return c.written.Add(cacheLater), true
	default:
		return time.Time{}, false
	}
}

// keepCache writes the file after changes, and in the end.
func (s *Store) keepCache() {
	c := s.cache
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			if _, due := c.due(); due {
				s.writeCache()
			}
			return
		case <-c.bell:
		case <-timer.C:
		}
		at, due := c.due()
		if !due {
			continue
		}
		if left := time.Until(at); left > 0 {
			timer.Reset(left)
			continue
		}
		s.writeCache()
	}
}

func (s *Store) writeCache() {
	c := s.cache
	c.mu.Lock()
	c.pending, c.written = touched{}, time.Now()
	c.mu.Unlock()
	if err := c.write(s.remembered()); err != nil {
		s.cfg.Log.Warn("cache of the fleet's store is not written", "err", err)
	}
}

// remembered is what the cache keeps of the mirror: not who leads, and not the report of the node itself, which ends with it.
func (s *Store) remembered() map[string]json.RawMessage {
	own := map[string]bool{segment(s.cfg.Node): true}
	s.session.mu.Lock()
	for node := range s.session.said {
		own[segment(node)] = true
	}
	s.session.mu.Unlock()
	return s.mirror.keys(own)
}

// keys are all keys with their values, but for the leader's and reports of some.
func (m *mirror) keys(without map[string]bool) map[string]json.RawMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]json.RawMessage{}
	for area, keys := range maps.All(m.areas) {
		if area == leaderArea {
			continue
		}
		for rest, e := range keys {
			all[joinKey(area, rest)] = e.value
		}
	}
	for node, keys := range m.reports {
		if without[node] || keys.head == nil {
			continue
		}
		all[reportsArea+"/"+node+"/head"] = keys.head.value
		for rest, e := range keys.pods {
			all[reportsArea+"/"+node+"/"+rest] = e.value
		}
	}
	return all
}
