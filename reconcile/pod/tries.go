package pod

import (
	"maps"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Backoff is a series of waits: Start, then doubling up to Max.
type Backoff struct{ Start, Max time.Duration }

// The series of semantics 2.2 and 2.5, and a quicker one for what a machine refuses now and may allow soon.
var (
	CrashBackoff = Backoff{Start: 10 * time.Second, Max: 300 * time.Second}
	ImageBackoff = Backoff{Start: 10 * time.Second, Max: 300 * time.Second}
	hostBackoff  = Backoff{Start: time.Second, Max: 2 * time.Minute}
)

// after is the wait after the nth failure in a row.
func (b Backoff) after(failures int) time.Duration {
	wait := b.Start
	for ; failures > 1 && wait < b.Max; failures-- {
		wait *= 2
	}
	return min(wait, b.Max)
}

// next is the wait that follows a wait.
func (b Backoff) next(wait time.Duration) time.Duration {
	if wait <= 0 {
		return b.Start
	}
	return min(2*wait, b.Max)
}

// Failure is how a step failed.
type Failure struct {
	Text     string // what went wrong, for people
	Reason   string // why a container waits, in Kubernetes' word; empty: what the verb implies
	Conflict bool   // a name or port was taken: whoever has it may let go soon
}

// The reasons that a Failure may have.
const (
	NeverPull   = "ErrImageNeverPull"
	InvalidName = "InvalidImageName"
	ConfigError = "CreateContainerConfigError" // what the pod asks for cannot be made: it is asked again soon
)

// Attempt is what failed the last times and left no trace in Podman.
type Attempt struct {
	Failure
	Verb     fleet.Verb
	Image    string // for Pull and Start: what it was tried with
	Failures int    // in a row
	Last     time.Time
}

// NotBefore is when it may be tried again.
func (a Attempt) NotBefore() time.Time {
	series := hostBackoff
	switch {
	case a.Conflict, a.Reason == ConfigError:
	case a.Verb == fleet.Pull:
		series = ImageBackoff
	case a.Verb == fleet.Start:
		series = CrashBackoff
	}
	return a.Last.Add(series.after(a.Failures))
}

// reason is why a container waits for another attempt, in Kubernetes' words.
func (a Attempt) reason() string {
	switch {
	case a.Reason != "":
		return a.Reason
	case a.Verb == fleet.Pull && a.Failures == 1:
		return "ErrImagePull"
	case a.Verb == fleet.Pull:
		return "ImagePullBackOff"
	default:
		return "RunContainerError"
	}
}

// Tries are what failed lately of one pod, by container, "" for the pod as a whole.
type Tries map[string]Attempt

// Failed returns the tries after a step failed. It counts up when the same was tried before.
func (t Tries) Failed(s fleet.Step, f Failure, now time.Time) Tries {
	a := Attempt{Failure: f, Verb: s.Verb, Image: s.Image, Failures: 1, Last: now}
	if before := t[s.Container]; before.Verb == s.Verb && before.Image == s.Image {
		a.Failures = before.Failures + 1
	}
	return t.with(s.Container, a)
}

// Worked returns the tries after a step went well. What failed before is forgotten when that very thing works,
// or what it was for.
func (t Tries) Worked(s fleet.Step, now time.Time) Tries {
	before, failed := t[s.Container]
	switch {
	case s.Verb == fleet.Limit:
		// Limits that do not show where they are read would be put back for ever: each time is waited for longer.
		return t.with(s.Container, Attempt{Verb: s.Verb, Failures: before.Failures + 1, Last: now})
	case failed && (before.Verb == s.Verb || s.Verb == fleet.Start || s.Verb == fleet.Sandbox):
		t = maps.Clone(t)
		delete(t, s.Container)
	}
	return t
}

func (t Tries) with(container string, a Attempt) Tries {
	t = maps.Clone(t)
	if t == nil {
		t = Tries{}
	}
	t[container] = a
	return t
}
