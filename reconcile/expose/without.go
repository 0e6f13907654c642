package expose

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Without says of each Service and NetworkPolicy what is missing of it where Services are served at node ports alone, in order; nothing
// where they are served whole.
func Without(desired fleet.Desired, settings fleet.NetworkSettings) []fleet.Note {
	if settings.Without == "" {
		return nil
	}
	var notes []fleet.Note
	note := func(id fleet.ObjectID, format string, args ...any) {
		notes = append(notes, fleet.Note{About: id, Text: fmt.Sprintf(format, args...) + ": " + settings.Without})
	}
	for o, svc := range fleet.Each[*corev1.Service](desired) {
		switch {
		case slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return hasNodePort(svc, p) }):
			note(o.ID, "it is reached at its node ports alone, not by its name or at an address of its own")
		default:
			note(o.ID, "nobody reaches it by its name or at an address of its own")
		}
	}
	for o := range fleet.Each[*networkingv1.NetworkPolicy](desired) {
		note(o.ID, "it holds nobody back")
	}
	slices.SortFunc(notes, fleet.Note.Compare)
	return notes
}
