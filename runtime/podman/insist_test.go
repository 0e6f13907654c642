package podman

import (
	"errors"
	"testing"
)

func TestInsist(t *testing.T) {
	race := errors.New("sending SIGKILL to container x: container state improper: stopped")
	other := errors.New("no space left on device")
	for name, c := range map[string]struct {
		answers []error
		calls   int
		want    error
	}{
		"it goes well":               {[]error{nil}, 1, nil},
		"it ended meanwhile":         {[]error{race, nil}, 2, nil},
		"two ended meanwhile":        {[]error{race, race, nil}, 3, nil},
		"it says so for ever":        {[]error{race, race, race, race, race}, 4, race},
		"something else is wrong":    {[]error{other, nil}, 1, other},
		"something else comes after": {[]error{race, other, nil}, 2, other},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := insist(func() error { calls++; return c.answers[calls-1] })
			if calls != c.calls || !errors.Is(err, c.want) {
				t.Errorf("%d calls and %v, want %d and %v", calls, err, c.calls, c.want)
			}
		})
	}
}
