package podman

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/skerry-dev/skerry/runtime/host"
)

// shipment is a transfer that a test has in its hand.
type shipment struct {
	begun atomic.Int32
	ended atomic.Int32 // without being asked to
	over  chan error
	tell  func(done, total int64)
}

func newShipment() *shipment { return &shipment{over: make(chan error)} }

func (s *shipment) start(ctx context.Context, progress func(done, total int64)) error {
	s.begun.Add(1)
	s.tell = progress
	select {
	case err := <-s.over:
		return err
	case <-ctx.Done():
		s.ended.Add(1)
		return ctx.Err()
	}
}

func TestTransfersAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all transfers
		s, results := newShipment(), make(chan error, 3)
		var heard [3]atomic.Int64
		for i := range 3 {
			go func() {
				results <- all.join(t.Context(), "a", func(done, _ int64) { heard[i].Store(done) }, s.start)
			}()
		}
		synctest.Wait()
		s.tell(7, 10)
		broken := errors.New("broken")
		s.over <- broken
		for range 3 {
			if err := <-results; !errors.Is(err, broken) {
				t.Errorf("one got %v", err)
			}
		}
		for i := range heard {
			if n := heard[i].Load(); n != 7 {
				t.Errorf("%d heard of %d", i, n)
			}
		}
		if n := s.begun.Load(); n != 1 {
			t.Errorf("it began %d times", n)
		}
		// What is over is begun anew.
		go func() { results <- all.join(t.Context(), "a", nil, s.start) }()
		synctest.Wait()
		s.tell(1, 1) // to nobody
		s.over <- nil
		if err := <-results; err != nil || s.begun.Load() != 2 || len(all.all) != 0 {
			t.Errorf("again: %v, %d times, left %d", err, s.begun.Load(), len(all.all))
		}
	})
}

func TestTransferEndsWithItsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all transfers
		s, results := newShipment(), make(chan error, 2)
		var cancels []context.CancelFunc
		var late atomic.Int32
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			cancels = append(cancels, cancel)
			go func() {
				gone := false
				err := all.join(ctx, "a", func(int64, int64) {
					if gone {
						late.Add(1)
					}
				}, s.start)
				gone = true // the listener is not called any more, so this is nobody's race
				results <- err
			}()
			synctest.Wait()
		}
		cancels[0]() // who began it
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the first got %v", err)
		}
		synctest.Wait()
		s.tell(1, 2)
		if s.ended.Load() != 0 || late.Load() != 0 {
			t.Fatal("it ended with the first, or told who had gone")
		}
		cancels[1]()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the second got %v", err)
		}
		synctest.Wait()
		if s.ended.Load() != 1 || len(all.all) != 0 {
			t.Errorf("it goes on for nobody: %d, %d", s.ended.Load(), len(all.all))
		}
	})
}

// Somebody comes while a transfer that nobody wants any more is ending: it is not theirs.
func TestTransferThatIsEndingIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all transfers
		slow := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			first <- all.join(ctx, "a", nil, func(ctx context.Context, _ func(done, total int64)) error {
				<-ctx.Done()
				<-slow // it takes its time to end
				return ctx.Err()
			})
		}()
		synctest.Wait()
		cancel()
		<-first
		s, second := newShipment(), make(chan error, 1)
		go func() { second <- all.join(t.Context(), "a", nil, s.start) }()
		synctest.Wait()
		close(slow)
		synctest.Wait()
		if s.begun.Load() != 1 || len(all.all) != 1 {
			t.Fatalf("it began %d times, %d are under way", s.begun.Load(), len(all.all))
		}
		s.over <- nil
		if err := <-second; err != nil {
			t.Error(err)
		}
	})
}

func TestTransferKeys(t *testing.T) {
	me, you := host.Login{Username: "me", Password: "x"}, host.Login{Username: "you", Password: "x"}
	keys := map[string]string{}
	for name, key := range map[string]string{
		"nobody": transferKey("a:1", nil), "me": transferKey("a:1", []host.Login{me}), "you": transferKey("a:1", []host.Login{you}),
		"me, then you": transferKey("a:1", []host.Login{me, you}), "you, then me": transferKey("a:1", []host.Login{you, me}),
		"another password": transferKey("a:1", []host.Login{{Username: "me", Password: "y"}}), "a token": transferKey("a:1", []host.Login{{Username: "me", IdentityToken: "x"}}),
		"another image": transferKey("a:2", []host.Login{me}),
	} {
		if other, taken := keys[key]; taken {
			t.Errorf("%s and %s share a transfer", name, other)
		}
		keys[key] = name
	}
	if again := transferKey("a:1", []host.Login{{Username: "me", Password: "x"}}); keys[again] != "me" {
		t.Error("the same is not the same")
	}
}
