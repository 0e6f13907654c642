package hosttest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// pull pulls by name and policy alone.
func (b *bench) pull(image string, policy corev1.PullPolicy) error {
	return b.Pull(b.Context(), host.Pull{Image: image, Policy: policy})
}

var imageTests = map[string]func(*bench){
	"a local image": func(b *bench) {
		b.must(b.pull(b.image, corev1.PullNever))
		b.must(b.pull(b.image, corev1.PullIfNotPresent))
		b.is(b.pull(b.image, corev1.PullAlways), errOther) // it is in no registry
		b.must(b.pull(b.image, corev1.PullNever))          // and still here
	},
	"an image that is nowhere": func(b *bench) {
		b.is(b.pull("localhost/no-such-image:1", corev1.PullNever), host.ErrNeverPulled)
		b.is(b.pull("localhost/no-such-image:1", corev1.PullIfNotPresent), errOther)
	},
	"references that are none": func(b *bench) {
		for _, image := range []string{"", "UPPER/Case", "UPPER:tag!", "a b", "x:bad tag", "http://x/y", "-x", "x@sha256:zz"} {
			for _, policy := range []corev1.PullPolicy{corev1.PullAlways, corev1.PullNever, corev1.PullIfNotPresent} {
				b.is(b.pull(image, policy), host.ErrImageName)
			}
		}
	},
	"users": func(b *bench) {
		repository, _, _ := strings.Cut(b.image, ":")
		for image, want := range map[string]string{
			b.image: "", repository + ":user": "app", repository + ":uid": "1000", repository + ":uidgid": "1000:2000",
		} {
			if user, err := b.ImageUser(b.Context(), image); user != want || err != nil {
				b.Errorf("of %s it is %q, %v; want %q", image, user, err, want)
			}
		}
	},
	"names": func(b *bench) {
		names, err := b.ImageNames(b.Context())
		if err != nil || !slices.Contains(names, fleet.ImageName(b.image)) || !slices.IsSorted(names) {
			b.Errorf("%s is not among %v, %v", fleet.ImageName(b.image), names, err)
		}
	},
	"user of an image that is not there": func(b *bench) {
		_, err := b.ImageUser(b.Context(), "localhost/no-such-image:1")
		b.is(err, host.ErrNotFound)
	},
}

// registry is the machine's Registry, or the test is skipped.
func (b *bench) registry() Registry {
	b.Helper()
	r, ok := b.Host.(Registry)
	if !ok {
		b.Skip("there is no registry beside this machine")
	}
	return r
}

// offer is Registry.Offer under a name of this test.
func (b *bench) offer(login *host.Login) string {
	b.Helper()
	image, err := b.registry().Offer("suite/"+b.id, login)
	b.must(err)
	return image
}

var registryTests = map[string]func(*bench){
	"policies": func(b *bench) {
		image := b.offer(nil)
		b.is(b.pull(image, corev1.PullNever), host.ErrNeverPulled)
		b.must(b.pull(image, corev1.PullIfNotPresent))
		b.must(b.pull(image, corev1.PullNever))
		b.must(b.pull(image, corev1.PullIfNotPresent))
		if n := b.registry().Transfers(image); n != 1 {
			b.Errorf("%d transfers", n)
		}
		b.must(b.pull(image, corev1.PullAlways))
	},
	"progress is told": func(b *bench) {
		image := b.offer(nil)
		var mu sync.Mutex
		var last [2]int64
		b.must(b.Pull(b.Context(), host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Progress: func(done, total int64) {
			mu.Lock()
			defer mu.Unlock()
			if done < 0 || done > total {
				b.Errorf("%d of %d", done, total)
			}
			last = [2]int64{done, total}
		}}))
		mu.Lock()
		defer mu.Unlock()
		if last[0] == 0 || last[0] != last[1] {
			b.Errorf("in the end %d of %d", last[0], last[1])
		}
	},
	"logins are tried in turn": func(b *bench) {
		good := host.Login{Username: "me", Password: "open sesame"}
		image := b.offer(&good)
		bad := []host.Login{{Username: "me", Password: "wrong"}, {Username: "you", Password: "open sesame"}}
		for _, logins := range [][]host.Login{nil, bad} {
			err := b.Pull(b.Context(), host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Logins: logins})
			b.is(err, errOther)
			if text := err.Error(); !strings.Contains(text, "unauthorized") && !strings.Contains(text, "authentication required") ||
				strings.Contains(text, "wrong") || strings.Contains(text, "sesame") {
				b.Errorf("with %d logins it says %v", len(logins), err)
			}
		}
		b.is(b.pull(image, corev1.PullNever), host.ErrNeverPulled)
		b.must(b.Pull(b.Context(), host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Logins: append(bad, good)}))
		b.must(b.pull(image, corev1.PullNever))
	},
	"callers share a transfer": func(b *bench) {
		image := b.offer(nil)
		release := b.registry().Hold(image)
		begun, results := make(chan struct{}, 8), make(chan error)
		told := make(chan struct{}, 1)
		go func() {
			results <- b.Pull(b.Context(), host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Progress: func(int64, int64) {
				select {
				case told <- struct{}{}:
				default:
				}
			}})
		}()
		<-told // it is under way: whoever comes now joins it
		for range 2 {
			go func() {
				begun <- struct{}{}
				results <- b.pull(image, corev1.PullIfNotPresent)
			}()
		}
		ctx, cancel := context.WithCancel(b.Context())
		impatient := make(chan error)
		go func() {
			begun <- struct{}{}
			impatient <- b.Pull(ctx, host.Pull{Image: image, Policy: corev1.PullIfNotPresent})
		}()
		for range 3 {
			<-begun
		}
		cancel()
		if err := <-impatient; !errors.Is(err, context.Canceled) {
			b.Errorf("who went got %v", err)
		}
		release()
		for range 3 {
			b.must(<-results)
		}
		if n := b.registry().Transfers(image); n != 1 {
			b.Errorf("%d transfers", n)
		}
	},
	"a transfer ends with its last caller": func(b *bench) {
		image := b.offer(nil)
		release := b.registry().Hold(image)
		ctx, cancel := context.WithCancel(b.Context())
		told, result := make(chan struct{}, 1), make(chan error)
		go func() {
			result <- b.Pull(ctx, host.Pull{Image: image, Policy: corev1.PullIfNotPresent, Progress: func(int64, int64) {
				select {
				case told <- struct{}{}:
				default:
				}
			}})
		}()
		<-told // it is under way
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			b.Errorf("it got %v", err)
		}
		release()
		b.is(b.pull(image, corev1.PullNever), host.ErrNeverPulled)
		b.must(b.pull(image, corev1.PullIfNotPresent))
	},
}

// The machine in memory is beside its own Registry.
var _ Registry = (*Host)(nil)
