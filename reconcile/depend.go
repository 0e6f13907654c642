package reconcile

import (
	"fmt"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
)

// standing is how far a workload is, for those that depend on it.
type standing struct {
	ready  bool
	failed string // how it failed, as the end of a sentence; empty when it may still become ready
	waits  bool   // for somebody: it does not go on by itself
}

// stands notes how far a workload is. What was rolled back runs, but is not what its dependants wait for.
func (d *decider) stands(id fleet.ObjectID, done bool, r fleet.Rollout) {
	s := standing{ready: done}
	switch {
	case r.Bad != (fleet.Bad{}):
		s = standing{failed: "which was rolled back from revision " + r.Bad.Revision.Short(), waits: done}
	case r.Canary.Fault != "", !done && r.Reason == reasonExceeded:
		s.failed = "whose rollout failed"
	}
	d.standings[id] = s
}

// dependsOn are what an object waits for before it starts or rolls.
func dependsOn(o fleet.Object) []fleet.ObjectID {
	text := annotation(o, fleet.AnnotationDependsOn)
	if text == "" {
		return nil
	}
	ids, _ := fleet.ParseDependsOn(text, o.ID.Namespace) // it was checked when it was read
	return ids
}

// hold says what a workload waits for before it may start or roll; empty for nothing.
func (d *decider) hold(o fleet.Object) string {
	var reasons []string
	for _, id := range dependsOn(o) {
		_, desired := d.in.Desired.Find(id)
		s, decided := d.standings[id]
		what := id.Kind + "/" + id.Name
		switch {
		case s.ready:
		case !desired:
			reasons = append(reasons, what+", which is not there")
		case !decided:
			reasons = append(reasons, what+", which waits for this one in turn")
		case s.failed != "":
			reasons = append(reasons, what+", "+s.failed)
		case id.Kind == fleet.KindJob:
			reasons = append(reasons, what+" to be complete")
		default:
			reasons = append(reasons, what+" to be ready")
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return fmt.Sprintf("waits for %s (%s)", strings.Join(reasons, ", and for "), fleet.AnnotationDependsOn)
}

// inOrder are the objects to decide on: what others wait for comes before them, else the order is that of their IDs. In a
// circle, which only several sources together can make, somebody is first.
func (d *decider) inOrder() []fleet.Object {
	objects := d.in.Desired.Objects
	var list []fleet.Object
	seen := make(map[fleet.ObjectID]bool, len(objects))
	var visit func(o fleet.Object)
	visit = func(o fleet.Object) {
		if seen[o.ID] {
			return
		}
		seen[o.ID] = true
		for _, id := range dependsOn(o) {
			if on, ok := d.in.Desired.Find(id); ok {
				visit(on)
			}
		}
		list = append(list, o)
	}
	for _, o := range objects {
		if o.Template != nil {
			visit(o)
		}
	}
	return list
}
