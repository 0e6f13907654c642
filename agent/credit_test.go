package agent

import (
	"testing"
	"time"
)

func TestCredit(t *testing.T) {
	const ms = time.Millisecond
	at := time.Unix(1000, 0)
	c := credit{left: lookCredit, at: at}
	spend := func(after, took, want time.Duration) {
		t.Helper()
		at = at.Add(after)
		if got := c.spend(took, at); got != want {
			t.Errorf("a look of %s after %s is rested for %s, want %s", took, after, got, want)
		}
	}
	for range 10 { // a quiet host may be looked at again and again
		spend(250*ms, 250*ms, leastRest)
	}
	spend(250*ms, 200*ms, 300*ms)           // until the credit is gone
	spend(0, 10*time.Second, mostRest)      // Podman's locks were somebody else's
	spend(4*time.Second, 100*ms, leastRest) // and are paid for by a rest, not for minutes
	spend(time.Hour, 100*ms, leastRest)
}
