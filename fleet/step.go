package fleet

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Verb is one thing that can be done to a host.
type Verb string

// The verbs. Each is safe to repeat after a crash in its midst.
const (
	Pull     Verb = "pull"     // have an image, by its pull policy
	Volume   Verb = "volumes"  // write the pod's volumes; what is right already is not touched
	Sandbox  Verb = "sandbox"  // create and start the pod with its namespaces
	Start    Verb = "start"    // create and start a container
	Hook     Verb = "hook"     // run the postStart hook of a container that was started just now; kill it when that fails
	Stop     Verb = "stop"     // preStop hook, TERM, then KILL after Grace; all of the pod's running containers when none is named
	Retire   Verb = "retire"   // keep a dead container as the previous one, out of its successor's way
	Remove   Verb = "remove"   // remove a container, by force
	Rename   Verb = "rename"   // give a container its name back
	Unpause  Verb = "unpause"  // thaw a container
	Limit    Verb = "limit"    // put a container's cgroup limits back
	Teardown Verb = "teardown" // remove the pod with all its containers, by force
	Clean    Verb = "clean"    // remove the pod's volumes that live and die with it
	Reclaim  Verb = "reclaim"  // remove the volume of a claim that is no more
)

// Step is one action on a host. It is plain data: specs and secrets are looked up when it is carried out.
type Step struct {
	Verb      Verb
	Pod       PodID
	UID       string
	Container string // name in the pod; empty for steps on the pod as a whole
	ID        string // Podman's, of the pod or container acted on; empty for what does not exist yet
	Image     string
	Policy    corev1.PullPolicy
	Grace     time.Duration
	Last      []string // for Stop of a whole pod: containers that wait for all others, and end one after another
	Attempt   int
	Backoff   time.Duration
	Content   Volumes // for Volume: what will lie there
	Past      Past    // for Sandbox: what ran in the one before it
	Claim     ClaimID // for Reclaim, with ID as the volume's name
	Why       string  // a short phrase for people; may be empty
}

// String is the step as diff and logs show it.
func (s Step) String() string {
	var b strings.Builder
	b.WriteString(string(s.Verb))
	b.WriteByte(' ')
	switch {
	case s.Verb == Reclaim:
		b.WriteString(s.Claim.String())
	case s.Pod == (PodID{}): // a pod that is no more, of which something is left
		b.WriteString(s.UID)
	default:
		b.WriteString(s.Pod.String())
	}
	if s.Container != "" {
		b.WriteByte('/')
		b.WriteString(s.Container)
	}
	switch s.Verb {
	case Pull, Start:
		fmt.Fprintf(&b, " image %s", s.Image)
	case Hook:
		b.WriteString(" postStart")
	case Stop:
		fmt.Fprintf(&b, " within %s", s.Grace)
		if len(s.Last) > 0 {
			fmt.Fprintf(&b, ", %s last", strings.Join(s.Last, ", "))
		}
	}
	if s.Why != "" {
		fmt.Fprintf(&b, " (%s)", s.Why)
	}
	return b.String()
}

// Chain is what one pod needs now: its steps run one after another, chains beside one another. When a step
// on a container fails, the rest of that container's steps is skipped; when a step on the pod fails, the
// rest of the chain is.
type Chain struct {
	Pod   PodID
	UID   string
	Goal  Goal
	Steps []Step
}
