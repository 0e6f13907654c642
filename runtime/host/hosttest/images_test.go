package hosttest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

// missing is a pull of what is not there.
func missing(image string, logins ...host.Login) host.Pull {
	return host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Logins: logins}
}

func TestTransfersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.Publish("web:1", time.Minute)
		began := time.Now()
		results := make(chan error)
		for i := range 3 {
			go func() {
				time.Sleep(time.Duration(i) * 10 * time.Second)
				results <- h.Pull(t.Context(), missing("web:1"))
			}()
		}
		for range 3 {
			if err := <-results; err != nil || time.Since(began) != time.Minute {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		}
		if n := h.Transfers("web:1"); n != 1 {
			t.Errorf("%d transfers", n)
		}
	})
}

func TestTransferEndsWithItsLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.Publish("web:1", time.Minute)
		results := make(chan error)
		for i := range 2 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*10*time.Second)
				defer cancel()
				results <- h.Pull(ctx, missing("web:1"))
			}()
		}
		for range 2 {
			if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
		if err := h.Pull(t.Context(), host.Pull{Image: "web:1", Policy: corev1.PullNever}); !errors.Is(err, host.ErrNeverPulled) {
			t.Errorf("it came all the same: %v", err)
		}
		release := h.Hold("web:1")
		go func() { results <- h.Pull(t.Context(), missing("web:1")) }()
		time.Sleep(time.Hour)
		if n := h.Transfers("web:1"); n != 2 {
			t.Errorf("%d transfers", n)
		}
		release()
		release()
		if err := <-results; err != nil {
			t.Error(err)
		}
	})
}

func TestTransfersNeedPodman(t *testing.T) {
	for name, cut := range map[string]func(h *hosttest.Host){"crash": (*hosttest.Host).Down, "power cut": (*hosttest.Host).Reboot} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := hosttest.New()
				h.Publish("web:1", time.Minute)
				result := make(chan error)
				go func() { result <- h.Pull(t.Context(), missing("web:1")) }()
				time.Sleep(time.Second)
				cut(h)
				if err := <-result; !errors.Is(err, host.ErrUnavailable) {
					t.Error(err)
				}
				h.Up()
				if err := h.Pull(t.Context(), missing("web:1")); err != nil || h.Transfers("web:1") != 2 {
					t.Errorf("%v; %d transfers", err, h.Transfers("web:1"))
				}
			})
		})
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.Publish("web:1", 40*time.Second)
		began := time.Now()
		type at struct{ After, Done, Total int64 }
		var told []at
		pull := missing("web:1")
		pull.Progress = func(done, total int64) { told = append(told, at{int64(time.Since(began).Seconds()), done, total}) }
		if err := h.Pull(t.Context(), pull); err != nil {
			t.Fatal(err)
		}
		const mib = 1 << 20
		want := []at{{0, 0, 4 * mib}, {10, mib, 4 * mib}, {20, 2 * mib, 4 * mib}, {30, 3 * mib, 4 * mib}, {40, 4 * mib, 4 * mib}}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		told = nil
		if err := h.Pull(t.Context(), pull); err != nil || told != nil {
			t.Errorf("of what is here: %v, %v", told, err)
		}
	})
}

func TestLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New()
		h.Publish("web:1", 0)
		h.Protect("web:1", host.Login{Username: "me", Password: "yes"})
		wrong, right := host.Login{Username: "me", Password: "no"}, host.Login{Username: "me", Password: "yes"}
		for _, logins := range [][]host.Login{nil, {wrong}, {{IdentityToken: "yes"}}} {
			err := h.Pull(t.Context(), missing("web:1", logins...))
			if err == nil || !strings.Contains(err.Error(), "unauthorized: authentication required") {
				t.Errorf("%v: %v", logins, err)
			}
		}
		if err := h.Pull(t.Context(), missing("web:1", wrong, right)); err != nil || h.Transfers("web:1") != 1 {
			t.Errorf("%v; %d transfers", err, h.Transfers("web:1"))
		}
	})
}
