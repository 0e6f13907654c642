package podman

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestHungServiceHoldsUpNobodyElse: a call without a deadline waits for a service that accepts and does not
// answer, and one with a deadline gives up at its own.
func TestHungServiceHoldsUpNobodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan struct{}, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			accepted <- struct{}{}
		}
	}()
	m := New("unix://" + path)
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- m.Watch(watching, func() {}, func(string) {}) }()
	<-accepted
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	looked := make(chan error, 1)
	go func() {
		_, err := m.Look(short)
		looked <- err
	}()
	select {
	case err := <-looked:
		if err == nil {
			t.Error("a look at a service that does not answer succeeded")
		}
	case <-time.After(10 * time.Second):
		t.Error("a look is held up by a watch")
	}
	stop()
	if err := <-watched; err == nil {
		t.Error("a watch that never began ended well")
	}
}
