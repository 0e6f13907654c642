package etcd

import (
	"context"
	"sync"
)

// watchers are those who want to hear of changes.
type watchers struct {
	mu    sync.Mutex
	bells map[int]func()
	next  int
}

func (w *watchers) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, bell := range w.bells {
		bell()
	}
}

// Watch calls bell after changes. It must not call Watch.
func (s *Store) Watch(ctx context.Context, bell func()) error {
	w := &s.watchers
	w.mu.Lock()
	if w.bells == nil {
		w.bells = map[int]func(){}
	}
	id := w.next
	w.next++
	w.bells[id] = bell
	bell()
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	delete(w.bells, id)
	w.mu.Unlock()
	return ctx.Err()
}
