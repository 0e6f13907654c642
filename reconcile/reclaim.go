package reconcile

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// reclaim removes volumes that nobody claims any more, as the assignment says. One that a pod uses waits for that pod's end;
// a pod that comes while one is being removed waits for that end in turn (reclaiming).
func (p *planner) reclaim(slots []fleet.Slot) {
	var used *usedClaims
	for _, c := range p.in.Host.Claims {
		if !MayGo(p.in.Assignment, p.in.Desired, c.Claim) {
			continue
		}
		if used == nil {
			used = p.claimsUsed(slots)
		}
		key := ClaimKey(c)
		failed := p.in.Attempts[key][""]
		switch {
		case p.in.Busy[key]:
		case used.has(c.Claim):
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

// reclaiming says which of a pod's volumes is just being removed, whoever wants it by now; empty when none is. A pod that
// began in the midst of it would run on a volume that Podman makes by itself, or lose what it wrote.
func (p *planner) reclaiming(spec *corev1.Pod) string {
	for i := range spec.Spec.Volumes {
		c := spec.Spec.Volumes[i].PersistentVolumeClaim
		if c == nil {
			continue
		}
		id := fleet.ClaimID{Namespace: spec.Namespace, Name: c.ClaimName}
		if p.in.Busy[ClaimKey(fleet.ObservedClaim{PodmanName: fleet.PodmanClaim(id)})] {
			return fmt.Sprintf("volume %s: what was kept for the claim %s is being removed", spec.Spec.Volumes[i].Name, c.ClaimName)
		}
	}
	return ""
}

// ClaimKey stands for a claim's volume where pods have their UIDs: no UID has a slash.
func ClaimKey(c fleet.ObservedClaim) string { return "claim/" + c.PodmanName }

// usedClaims are the claims that pods have. Of a pod whose template is not known all claims of its namespace may be.
type usedClaims struct {
	claims  map[fleet.ClaimID]bool
	unknown map[string]bool // namespaces
}

func (u *usedClaims) has(id fleet.ClaimID) bool { return u.claims[id] || u.unknown[id.Namespace] }

// claimsUsed are those of all pods on the node, those that are about to go among them.
func (p *planner) claimsUsed(slots []fleet.Slot) *usedClaims {
	used := &usedClaims{claims: map[fleet.ClaimID]bool{}, unknown: map[string]bool{}}
	slotted := map[string]bool{}
	for i := range slots {
		slotted[slots[i].UID] = true
		used.add(slots[i].Pod.Namespace, PodOf(slots[i], p.in.Templates[slots[i].Want]))
	}
	for i := range p.in.Host.Pods {
		if o := &p.in.Host.Pods[i]; !slotted[o.UID] {
			used.add(o.Pod.Namespace, PodOf(fleet.Slot{Identity: o.Identity}, p.in.Templates[o.Want]))
		}
	}
	return used
}

func (u *usedClaims) add(namespace string, pod *corev1.Pod) {
	if pod == nil {
		u.unknown[namespace] = true
		return
	}
	for i := range pod.Spec.Volumes {
		if c := pod.Spec.Volumes[i].PersistentVolumeClaim; c != nil {
			u.claims[fleet.ClaimID{Namespace: namespace, Name: c.ClaimName}] = true
		}
	}
}
