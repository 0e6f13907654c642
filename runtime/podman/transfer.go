package podman

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"

	"github.com/skerry-dev/skerry/runtime/host"
)

// transfers are pulls under way. Whoever wants what is already on its way waits for it, and is told how far it is.
type transfers struct {
	mu  sync.Mutex
	all map[string]*transfer
}

type transfer struct {
	done   chan struct{}
	err    error // valid once done is closed
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners map[int]func(done, total int64)
	next      int
}

// transferKey tells transfers apart: of the same image as somebody else is another.
func transferKey(image string, logins []host.Login) string {
	raw, err := json.Marshal(logins)
	if err != nil {
		return image
	}
	sum := sha256.Sum256(raw)
	return image + " " + hex.EncodeToString(sum[:])
}

// join waits for the transfer with that key, which it starts if there is none. It ends when the last one who waits
// is gone. progress may be nil, and is not called any more when join returns.
func (t *transfers) join(
	ctx context.Context, key string, progress func(done, total int64),
	start func(ctx context.Context, progress func(done, total int64)) error,
) error {
	one, leave := t.enter(ctx, key, progress, start)
	defer leave()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *transfers) enter(
	ctx context.Context, key string, progress func(done, total int64),
	start func(ctx context.Context, progress func(done, total int64)) error,
) (one *transfer, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one = t.all[key]
	if one == nil {
		if t.all == nil {
			t.all = map[string]*transfer{}
		}
		free, cancel := context.WithCancel(context.WithoutCancel(ctx))
		one = &transfer{done: make(chan struct{}), cancel: cancel, listeners: map[int]func(done, total int64){}}
		t.all[key] = one
		go func() {
			one.err = start(free, one.tell)
			t.mu.Lock()
			if t.all[key] == one {
				delete(t.all, key)
			}
			t.mu.Unlock()
			close(one.done)
			cancel()
		}()
	}
	id := one.listen(progress)
	return one, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.unlisten(id) == 0 { // nobody wants it any more
			one.cancel()
			if t.all[key] == one {
				delete(t.all, key)
			}
		}
	}
}

func (t *transfer) listen(progress func(done, total int64)) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	t.next++
	t.listeners[t.next] = progress
	return t.next
}

// unlisten returns how many are left.
func (t *transfer) unlisten(id int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, id)
	return len(t.listeners)
}

func (t *transfer) tell(done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, listener := range t.listeners {
		listener(done, total)
	}
}
