package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// claimant is a node with the volume of the claim shop/data, which was the source home's and is given up.
func claimant() NodeInput {
	id := fleet.ClaimID{Namespace: "shop", Name: "data"}
	return NodeInput{
		Node: alpha, Now: start, Desired: desiredOf(),
		Assignment: fleet.Assignment{Unclaimed: []fleet.Disposable{{Claim: id, Source: "home"}}},
		Host:       fleet.Host{Claims: []fleet.ObservedClaim{{Claim: id, PodmanName: "shop_data", Source: "home"}}},
	}
}

func claimOf(name string) fleet.Object {
	o := objectOf(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}})
	o.ID.Kind = fleet.KindPersistentVolumeClaim
	return o
}

// uses adds a slot whose pod mounts a claim.
func uses(in *NodeInput, name string, goal fleet.Goal, node fleet.NodeName) {
	template := templateOf("hello:1")
	template.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
	}}}
	defaultSpec(&template.Spec)
	hash := fleet.HashTemplate(&template)
	if in.Templates == nil {
		in.Templates = map[fleet.Hash]*corev1.PodTemplateSpec{}
	}
	in.Templates[hash] = &template
	id := fleet.PodID{Namespace: "shop", Name: fmt.Sprintf("p%d", len(in.Assignment.Slots))}
	in.Assignment.Slots = append(in.Assignment.Slots, fleet.Slot{Identity: fleet.Identity{Pod: id, UID: id.Name, Want: hash, Source: "home", Created: start}, Node: node, Goal: goal, Drained: start})
}

// TestReclaim: a volume is removed only when it was decided that it goes, nothing speaks against it and no pod uses it.
func TestReclaim(t *testing.T) {
	claim := fleet.ObjectID{Kind: fleet.KindPersistentVolumeClaim, Namespace: "shop", Name: "data"}
	try := func(failures int, ago time.Duration) map[string]pod.Tries {
		return map[string]pod.Tries{"claim/shop_data": {"": {
			Verb: fleet.Reclaim, Failures: failures, Last: start.Add(-ago), Failure: pod.Failure{Text: "volume is being used"},
		}}}
	}
	for _, test := range []struct {
		name   string
		change func(in *NodeInput)
		gone   bool
		note   string
		wake   time.Duration
	}{
		{name: "its claim is gone", change: func(*NodeInput) {}, gone: true},
		{name: "its claim is there", change: func(in *NodeInput) { in.Desired = desiredOf(claimOf("data")) }},
		{name: "another claim is there", change: func(in *NodeInput) { in.Desired = desiredOf(claimOf("other")) }, gone: true},
		{name: "it is to be kept", change: func(in *NodeInput) { in.Assignment.Unclaimed = nil }},
		{name: "another is to go", change: func(in *NodeInput) { in.Assignment.Unclaimed[0].Claim.Name = "other" }},
		{name: "its source was not read yet", change: func(in *NodeInput) { in.Desired.Revisions = nil }},
		{name: "another source was read", change: func(in *NodeInput) { in.Assignment.Unclaimed[0].Source = "elsewhere" }},
		{name: "it was made for another source once", change: func(in *NodeInput) { in.Host.Claims[0].Source = "elsewhere" }, gone: true},
		{name: "its source was abandoned", change: func(in *NodeInput) { in.Desired.Abandoned = map[fleet.SourceName]bool{"home": true} }},
		{name: "its claim is held", change: func(in *NodeInput) { in.Desired.Held = map[fleet.ObjectID]string{claim: "broken file"} }},
		{name: "another claim is held", change: func(in *NodeInput) {
			in.Desired.Held = map[fleet.ObjectID]string{{Kind: fleet.KindPersistentVolumeClaim, Namespace: "shop", Name: "other"}: "broken file"}
		}, gone: true},
		{name: "a pod uses it", change: func(in *NodeInput) { uses(in, "data", fleet.Run, "alpha") }, note: "removed when no pod uses it"},
		{name: "a pod that is to go uses it", change: func(in *NodeInput) { uses(in, "data", fleet.Drain, "alpha") }, note: "removed when no pod uses it"},
		{name: "a pod uses another", change: func(in *NodeInput) { uses(in, "other", fleet.Run, "alpha") }, gone: true},
		{name: "a pod of a StatefulSet uses it by its template", change: func(in *NodeInput) {
			uses(in, "other", fleet.Drain, "alpha")
			s := &in.Assignment.Slots[0]
			s.Owner, s.Pod.Name, s.Claims = fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: "web"}, "web-0", []string{"data"}
			in.Host.Claims[0].Claim.Name, in.Assignment.Unclaimed[0].Claim.Name = "data-web-0", "data-web-0"
		}},
		{name: "a pod of another node uses one of that name", change: func(in *NodeInput) { uses(in, "data", fleet.Run, "beta") }, gone: true},
		{name: "a pod of another namespace uses one of that name", change: func(in *NodeInput) {
			uses(in, "data", fleet.Run, "alpha")
			in.Assignment.Slots[0].Pod.Namespace = "default"
		}, gone: true},
		{name: "it is being removed", change: func(in *NodeInput) { in.Busy = map[string]bool{"claim/shop_data": true} }},
		{name: "another is being removed", change: func(in *NodeInput) { in.Busy = map[string]bool{"claim/shop_other": true} }, gone: true},
		{name: "it could not be removed", change: func(in *NodeInput) { in.Attempts = try(3, time.Second) }, note: "cannot be removed: volume is being used", wake: 3 * time.Second},
		{name: "it may be tried again", change: func(in *NodeInput) { in.Attempts = try(3, 4*time.Second) }, gone: true},
		{name: "it could not be removed, and is desired again", change: func(in *NodeInput) {
			in.Attempts, in.Desired = try(3, time.Second), desiredOf(claimOf("data"))
		}},
		{name: "a draining pod is gone from the host, and not from the assignment", change: func(in *NodeInput) {
			uses(in, "data", fleet.Drain, "alpha")
			in.Host.Volumes = nil
		}, note: "removed when no pod uses it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := claimant()
			test.change(&in)
			plan := Plan(in)
			var got []fleet.Chain
			for _, c := range plan.Chains {
				if strings.HasPrefix(c.UID, "claim/") {
					got = append(got, c)
				}
			}
			var want []fleet.Chain
			if test.gone {
				want = []fleet.Chain{{UID: "claim/shop_data", Goal: fleet.Drain, Steps: []fleet.Step{{
					Verb: fleet.Reclaim, UID: "claim/shop_data", Claim: fleet.ClaimID{Namespace: "shop", Name: "data"}, ID: "shop_data", Why: "its claim is gone",
				}}}}
			}
			if d := gocmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			var notes []string
			for _, n := range plan.Report.Notes {
				if n.About == claim {
					notes = append(notes, n.Text)
				}
			}
			if (test.note == "") != (len(notes) == 0) || len(notes) > 1 || test.note != "" && !strings.Contains(notes[0], test.note) {
				t.Errorf("notes %q, want %q", notes, test.note)
			}
			if test.wake > 0 && !plan.WakeAt.Equal(start.Add(test.wake)) {
				t.Errorf("wakes at %s, want in %s", plan.WakeAt, test.wake)
			}
		})
	}
}

// Nobody knows what a pod uses whose template is not to be had: nothing of its namespace is removed under it.
func TestReclaimUnderAPodNobodyKnows(t *testing.T) {
	in := claimant()
	uses(&in, "data", fleet.Run, "alpha")
	o := fleet.ObservedPod{ID: "box", PodmanName: "shop_p0", Infra: fleet.Running, PodReport: fleet.PodReport{Identity: fleet.Identity{Pod: in.Assignment.Slots[0].Pod, UID: "p0", Want: in.Assignment.Slots[0].Want, Source: "home"}}}
	in.Host.Pods = []fleet.ObservedPod{o}
	slots, templates := in.Assignment.Slots, in.Templates
	for name, change := range map[string]func(){
		"its template is lost":      func() { in.Assignment.Slots, in.Templates = slots, nil },
		"no slot names it":          func() { in.Assignment.Slots, in.Templates = nil, templates },
		"neither slot nor template": func() { in.Assignment.Slots, in.Templates = nil, nil },
	} {
		change()
		for _, c := range Plan(in).Chains {
			if c.UID == "claim/shop_data" {
				t.Errorf("%s, and yet: %v", name, c.Steps)
			}
		}
	}
}

// A pod that wants a volume while it is being removed waits until that is over: it gets another.
func TestNothingBeginsOnAVolumeThatIsBeingRemoved(t *testing.T) {
	in := claimant()
	in.Desired, in.Assignment.Unclaimed = desiredOf(claimOf("data")), nil
	uses(&in, "data", fleet.Run, "alpha")
	for busy, want := range map[string]string{"claim/shop_data": "volume data: what was kept for the claim data is being removed", "claim/shop_other": ""} {
		in.Busy = map[string]bool{busy: true}
		plan := Plan(in)
		began := slices.ContainsFunc(plan.Chains, func(c fleet.Chain) bool {
			return slices.ContainsFunc(c.Steps, func(s fleet.Step) bool { return s.Verb == fleet.Sandbox || s.Verb == fleet.Volume })
		})
		said := slices.ContainsFunc(plan.Report.Notes, func(n fleet.Note) bool { return n.Text == want })
		if began != (want == "") || said != (want != "") {
			t.Errorf("%s: it begins: %v, notes %v", busy, began, plan.Report.Notes)
		}
	}
}

// A volume that was removed is not asked for again, and Foresee comes to rest.
func TestForeseeReclaims(t *testing.T) {
	in := claimant()
	previous := fleet.Assignment{Prunable: in.Assignment.Unclaimed}
	seen := Foresee(ForesightInput{Desired: in.Desired, Previous: previous, Nodes: []fleet.Node{alpha}, Hosts: map[fleet.NodeName]fleet.Host{"alpha": in.Host}, Now: start})
	if !seen.Settled || len(seen.Steps) != 1 || seen.Steps[0].String() != "reclaim shop/data (its claim is gone)" {
		t.Errorf("settled %t, steps %v", seen.Settled, seen.Steps)
	}
	if len(in.Host.Claims) != 1 {
		t.Error("the host that was handed in was changed")
	}
}

// foreseen are the steps of a new pod with that spec, without pulls.
func foreseen(t *testing.T, change func(*corev1.Pod)) (steps []string, settled bool) {
	t.Helper()
	m := newMachine(t, podOf("bare", "hello:1", change))
	seen := Foresee(ForesightInput{Desired: m.desired, Nodes: []fleet.Node{alpha}, Templates: m.templates, Now: start})
	for _, s := range seen.Steps {
		if s.Verb != fleet.Pull {
			steps = append(steps, strings.TrimSpace(string(s.Verb)+" "+s.Container))
		}
	}
	return steps, seen.Settled
}

// TestForeseeStages: initial containers end, sidecars start and hooks work, on paper.
func TestForeseeStages(t *testing.T) {
	sidecar := corev1.ContainerRestartPolicyAlways
	probe := &corev1.Probe{FailureThreshold: 1, SuccessThreshold: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	for _, policy := range []corev1.RestartPolicy{"Always", "OnFailure", "Never"} {
		got, settled := foreseen(t, func(p *corev1.Pod) {
			p.Spec.RestartPolicy = policy
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: "i:1"}, {Name: "side", Image: "i:1", RestartPolicy: &sidecar, StartupProbe: probe}, {Name: "two", Image: "i:1"},
			}
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
			p.Spec.Containers[0].LivenessProbe = probe
		})
		want := []string{"sandbox", "start one", "start side", "start two", "start web", "hook web"}
		if d := gocmp.Diff(want, got); d != "" || !settled {
			t.Errorf("%s: settled %t %s", policy, settled, d)
		}
	}
}

// What diff shows is what a commit would do, and not what time will do to it afterwards.
func TestForeseeDoesNotWaitForDeadlines(t *testing.T) {
	got, settled := foreseen(t, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(3600)) })
	if d := gocmp.Diff([]string{"sandbox", "start web"}, got); d != "" || !settled {
		t.Errorf("settled %t %s", settled, d)
	}
}
