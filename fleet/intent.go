package fleet

import (
	"cmp"
	"time"
)

// IntentVerb is what an intent asks for.
type IntentVerb string

// The verbs. Scale, Pause and Resume, Suspend and Unsuspend stand for a field of the object's and hold until Git says
// something else of that field than it said when they were given; so does Undo for the template. Restart and Trigger are
// done once. Cordon, Drain and Uncordon are of nodes and hold until the next of them.
const (
	Scale     IntentVerb = "scale"     // Replicas
	Pause     IntentVerb = "pause"     // a Deployment's rollout
	Resume    IntentVerb = "resume"    // it goes on, past the pause of a canary and past a fault of it
	Restart   IntentVerb = "restart"   // every pod is replaced, as a rollout
	Undo      IntentVerb = "undo"      // back to revision Number; 0: the one before
	Suspend   IntentVerb = "suspend"   // a CronJob or Job
	Unsuspend IntentVerb = "unsuspend" // it goes on
	Trigger   IntentVerb = "trigger"   // a CronJob runs once, now
	Cordon    IntentVerb = "cordon"    // a node gets no pods any more
	DrainNode IntentVerb = "drain"     // and those that it has go elsewhere, as budgets allow
	Uncordon  IntentVerb = "uncordon"  // it gets pods again
)

// Intent is an operator's wish that is not in Git. It is data: who, when, what.
type Intent struct {
	Object   ObjectID   `json:"object"`
	Source   SourceName `json:"source"` // that the object came from
	Verb     IntentVerb `json:"verb"`
	Replicas int32      `json:"replicas,omitempty"`
	Number   int64      `json:"number,omitempty"`
	Author   string     `json:"author"`
	At       time.Time  `json:"at"`
	// Git is what Git said of the field when the intent was given, as reconcile.FieldOf has it.
	Git string `json:"git,omitempty"`
}

// Field is which field of its object an intent stands for: of those for one field only the newest counts.
func (i Intent) Field() string {
	switch i.Verb {
	case Scale:
		return "spec.replicas"
	case Pause, Resume:
		return "spec.paused"
	case Suspend, Unsuspend:
		return "spec.suspend"
	case Cordon, DrainNode, Uncordon:
		return "spec.unschedulable"
	case Undo:
		return "spec.template"
	case Restart, Trigger:
		return string(i.Verb)
	default:
		return string(i.Verb)
	}
}

// Compare orders intents by object, field, time and author.
func (i Intent) Compare(o Intent) int {
	return cmp.Or(i.Object.Compare(o.Object), cmp.Compare(i.Field(), o.Field()), i.At.Compare(o.At), cmp.Compare(i.Author, o.Author))
}

// Equal reports whether two intents are the same: of one author, at one time, for one thing.
func (i Intent) Equal(o Intent) bool {
	at := i.At.Equal(o.At)
	i.At, o.At = time.Time{}, time.Time{}
	return at && i == o
}
