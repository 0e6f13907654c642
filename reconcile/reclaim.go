package reconcile

import (
	"fmt"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// reclaim removes volumes whose claims are gone from the sources, where the claim's storage class had said so when
// the volume was made. One that a pod uses waits for that pod's end; every other volume is kept (semantics 2.7).
func (p *planner) reclaim(slots []fleet.Slot) {
	config := pod.Config{Desired: p.in.Desired}
	var used map[fleet.ClaimID]bool
	for _, c := range p.in.Host.Claims {
		_, wanted := config.Claim(c.Claim.Namespace, c.Claim.Name)
		if !c.Reclaim || wanted || !p.in.Desired.Known(c.Source, c.Claim.Object()) {
			continue // what could not be read is not gone
		}
		if used == nil {
			used = p.claimsUsed(slots)
		}
		key := ClaimKey(c)
		failed := p.in.Attempts[key][""]
		switch {
		case p.in.Busy[key]:
		case used[c.Claim]:
			p.plan.Report.Notes = append(p.plan.Report.Notes, fleet.Note{
				About: c.Claim.Object(), Text: "its claim is gone: the volume is removed when no pod uses it any more",
			})
		case p.in.Now.Before(failed.NotBefore()):
			p.plan.WakeAt = fleet.Earliest(p.plan.WakeAt, failed.NotBefore())
			p.plan.Report.Notes = append(p.plan.Report.Notes, fleet.Note{
				About: c.Claim.Object(), Text: fmt.Sprintf("its claim is gone, and its volume cannot be removed: %s", failed.Text),
			})
		default:
			p.plan.Chains = append(p.plan.Chains, fleet.Chain{UID: key, Goal: fleet.Drain, Steps: []fleet.Step{{
				Verb: fleet.Reclaim, UID: key, Claim: c.Claim, ID: c.PodmanName, Why: "its claim is gone",
			}}})
		}
	}
}

// ClaimKey stands for a claim's volume where pods have their UIDs: no UID has a slash.
func ClaimKey(c fleet.ObservedClaim) string { return "claim/" + c.PodmanName }

// claimsUsed are the claims of all pods on the node, those that are about to go among them.
func (p *planner) claimsUsed(slots []fleet.Slot) map[fleet.ClaimID]bool {
	used := map[fleet.ClaimID]bool{}
	for i := range slots {
		template := p.in.Templates[slots[i].Want]
		if template == nil {
			continue
		}
		for j := range template.Spec.Volumes {
			if c := template.Spec.Volumes[j].PersistentVolumeClaim; c != nil {
				used[fleet.ClaimID{Namespace: slots[i].Pod.Namespace, Name: c.ClaimName}] = true
			}
		}
	}
	return used
}
