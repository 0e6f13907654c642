package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// drawDesired is any commit of a small repository: Deployments, a ReplicaSet and Pods, some bad.
func drawDesired(t *rapid.T, faults bool) fleet.Desired {
	images := []string{"hello:1", "hello:2", "hello:3"}
	if faults {
		images = append(images, "bad:1")
	}
	image := rapid.SampledFrom(images)
	objects := []fleet.Object{}
	for _, name := range []string{"web", "api"} {
		if rapid.IntRange(0, 5).Draw(t, "absent") == 0 && faults {
			continue
		}
		objects = append(objects, deploymentOf(name, rapid.Int32Range(0, 5).Draw(t, "replicas"), image.Draw(t, "image"), func(d *appsv1.Deployment) {
			surge, down := intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "surge")), intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "unavailable"))
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &down}
			d.Spec.Template.Spec.InitContainers = drawInitial(t)
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			case 1:
				d.Spec.MinReadySeconds = 5
			}
		}))
	}
	if rapid.Bool().Draw(t, "set") {
		objects = append(objects, replicaSetOf("set", rapid.Int32Range(0, 3).Draw(t, "replicas"), image.Draw(t, "image")))
	}
	if rapid.Bool().Draw(t, "pod") {
		objects = append(objects, podOf("bare", image.Draw(t, "image"), func(p *corev1.Pod) {
			p.Spec.HostNetwork = rapid.Bool().Draw(t, "shape")
			p.Spec.InitContainers = drawInitial(t)
		}))
	}
	return desiredOf(objects...)
}

// drawInitial is what comes before a pod's other containers: mostly nothing, else what ends and what goes on.
func drawInitial(t *rapid.T) []corev1.Container {
	if rapid.IntRange(0, 2).Draw(t, "initial") > 0 {
		return nil
	}
	goesOn := corev1.ContainerRestartPolicyAlways
	list := []corev1.Container{{Name: "one", Image: "i:1"}, {Name: "side", Image: "i:1", RestartPolicy: &goesOn}, {Name: "two", Image: "i:1"}}
	return list[:rapid.IntRange(1, len(list)).Draw(t, "how many")]
}

// checked decides and holds the decision to what must always be true of one.
func (m *machine) checked(t *rapid.T) Decision {
	in := m.input()
	d := Decide(in)
	again := in
	again.Previous = d.Next
	if twice := Decide(again); twice.Changed {
		t.Fatalf("deciding again changes:\n%s", gocmp.Diff(d.Next, twice.Next))
	}
	if !d.Changed && !gocmp.Equal(d.Next, in.Previous) {
		t.Fatalf("not changed, and yet:\n%s", gocmp.Diff(in.Previous, d.Next))
	}
	if other := Decide(shuffled(in)); encode(other) != encode(d) {
		t.Fatalf("another order gives another decision:\n%s", gocmp.Diff(d, other))
	}
	had := map[string]fleet.Slot{}
	for _, s := range in.Previous.Slots {
		had[s.UID] = s
	}
	reports := map[string]*fleet.PodReport{}
	for i := range in.Reports {
		for j := range in.Reports[i].Pods {
			reports[in.Reports[i].Pods[j].UID] = &in.Reports[i].Pods[j]
		}
	}
	running := map[fleet.PodID]int{}
	for _, s := range d.Next.Slots {
		before, known := had[s.UID]
		if known && before.Goal == fleet.Drain && s.Goal == fleet.Run {
			t.Fatalf("%s is called back", s.Pod)
		}
		if running[s.Pod]++; running[s.Pod] > 1 {
			t.Fatalf("two slots are called %s", s.Pod)
		}
		delete(had, s.UID)
	}
	for _, s := range had { // released
		if s.Goal != fleet.Drain || len(in.Reports) == 0 || in.Reports[0].Epoch < s.Epoch || reports[s.UID] != nil {
			t.Fatalf("%s was forgotten although it may be there", s.Pod)
		}
	}
	for object, dep := range fleet.Each[*appsv1.Deployment](in.Desired) {
		rolls(t, in, d.Next, object, dep, reports)
	}
	return d
}

// rolls checks a Deployment's limits: they are of what is assigned, and of what was reported available.
func rolls(t *rapid.T, in FleetInput, next fleet.Assignment, object fleet.Object, dep *appsv1.Deployment, reports map[string]*fleet.PodReport) {
	replicas := *dep.Spec.Replicas
	surge, unavailable := workload.Fenceposts(dep)
	minReady := time.Duration(dep.Spec.MinReadySeconds) * time.Second
	count := func(a fleet.Assignment) (total, available int32) {
		for _, s := range a.Slots {
			if s.Controller != object.ID || s.Goal != fleet.Run {
				continue
			}
			total++
			if r := reports[s.UID]; r != nil {
				if since, ready := r.ReadySince(); ready && (minReady == 0 || !in.Now.Before(since.Add(minReady))) {
					available++
				}
			}
		}
		return total, available
	}
	_, before := count(in.Previous)
	total, available := count(next)
	var sized int32 // what its sets were to have, also those pods that found no place yet
	for _, s := range in.Previous.Sets {
		if s.Owner == object.ID {
			sized += s.Replicas
		}
	}
	if total > max(replicas+surge, sized) { // a surge that was made smaller in the midst lets nobody go
		t.Fatalf("%s: %d pods of %d+%d", object.ID, total, replicas, surge)
	}
	scaled := slices.ContainsFunc(in.Previous.Sets, func(s fleet.Set) bool {
		return s.Owner == object.ID && ((s.Replicas > 0 && s.Recorded != replicas) || s.MinReady != dep.Spec.MinReadySeconds)
	})
	// Scaling takes in proportion, whatever that means for the available ones: Kubernetes does, too. An old set
	// keeps the MinReady that it was made with.
	if dep.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || scaled {
		return
	}
	if need := min(before, replicas-unavailable); available < need {
		t.Fatalf("%s: %d available, were %d, need %d", object.ID, available, before, need)
	}
}

func shuffled(in FleetInput) FleetInput {
	r := rand.New(rand.NewSource(7))
	in.Reports = slices.Clone(in.Reports)
	for i := range in.Reports {
		in.Reports[i].Pods = slices.Clone(in.Reports[i].Pods)
		r.Shuffle(len(in.Reports[i].Pods), func(a, b int) {
			in.Reports[i].Pods[a], in.Reports[i].Pods[b] = in.Reports[i].Pods[b], in.Reports[i].Pods[a]
		})
	}
	slices.Reverse(in.Reports)
	in.Previous.Slots, in.Previous.Sets = slices.Clone(in.Previous.Slots), slices.Clone(in.Previous.Sets)
	r.Shuffle(len(in.Previous.Sets), func(a, b int) {
		in.Previous.Sets[a], in.Previous.Sets[b] = in.Previous.Sets[b], in.Previous.Sets[a]
	})
	slices.SortFunc(in.Previous.Sets, func(a, b fleet.Set) int { return a.ID.Compare(b.ID) })
	return in
}

func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(raw)
}

// onlyOurs holds a plan to what must be true of any.
func (m *machine) onlyOurs(t *rapid.T, plan NodePlan) {
	slots, there := map[string]bool{}, map[string]bool{}
	for _, s := range m.stored.Slots {
		slots[s.UID] = true
	}
	for _, o := range m.host.Pods {
		there[o.UID] = true
	}
	for _, chain := range plan.Chains {
		for _, s := range chain.Steps {
			if !slots[s.UID] && (there[s.UID] || s.Verb != fleet.Clean) {
				t.Fatalf("a step for a pod without a slot: %s", s)
			}
			if s.UID != chain.UID {
				t.Fatalf("a step of %s in the chain of %s", s.UID, chain.UID)
			}
		}
	}
}

// TestHistories runs fleets through random commits, crashes, lost decisions and late reports.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		m.bad["bad:1"] = true
		m.want(drawDesired(rt, true))
		if rapid.Bool().Draw(rt, "settled") {
			m.want(drawDesired(rt, false))
			m.settle()
		}
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			m.now = m.now.Add(time.Duration(rapid.IntRange(0, 15).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 9).Draw(rt, "event") {
			case 0, 1:
				m.want(drawDesired(rt, true))
			case 2: // a container dies
				if n := len(m.host.Pods); n > 0 {
					m.end(m.host.Pods[rapid.IntRange(0, n-1).Draw(rt, "victim")].UID, "web", 1)
				}
			case 3: // somebody removes a pod
				if n := len(m.host.Pods); n > 0 {
					at := rapid.IntRange(0, n-1).Draw(rt, "victim")
					m.host.Pods = slices.Delete(slices.Clone(m.host.Pods), at, at+1)
				}
			case 4: // a source or an object cannot be read
				switch rapid.IntRange(0, 2).Draw(rt, "trouble") {
				case 0:
					m.desired.Objects, m.desired.Revisions = nil, nil
				case 1:
					m.desired.Objects = nil
					m.desired.Held = map[fleet.ObjectID]string{{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"}: "broken"}
				}
			}
			plan := m.plan()
			m.onlyOurs(rt, plan)
			if rapid.IntRange(0, 3).Draw(rt, "late") > 0 {
				m.said = []fleet.NodeReport{plan.Report}
			}
			if d := m.checked(rt); d.Changed && rapid.IntRange(0, 4).Draw(rt, "lost") > 0 {
				m.stored = d.Next
			}
			plan = m.plan()
			m.onlyOurs(rt, plan)
			for _, chain := range plan.Chains {
				for _, s := range chain.Steps[:rapid.IntRange(0, len(chain.Steps)).Draw(rt, "cut")] {
					m.take(s)
				}
			}
		}
		m.bad = nil // a ReplicaSet's pods keep a bad image for ever
		m.want(drawDesired(rt, false))
		m.settle()
		if waiting := m.view().Waiting(); len(waiting) > 0 {
			rt.Fatalf("at rest, and yet waiting for %v\n%s", waiting, m)
		}
		if plan := m.plan(); len(plan.Chains) > 0 {
			rt.Fatalf("at rest, and yet %v", plan.Chains)
		}
	})
}

// A lost store costs nothing: what runs and is as desired is neither stopped nor made again.
func TestLostStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		for range rapid.IntRange(1, 3).Draw(rt, "commits") {
			m.want(drawDesired(rt, false))
			m.settle()
		}
		before, epoch := m.uids(), m.stored.Epoch
		m.stored = fleet.Assignment{}
		m.said = []fleet.NodeReport{m.plan().Report}
		m.stored = m.checked(rt).Next
		if len(m.plan().Chains) > 0 {
			rt.Fatalf("a plan after the store was lost at epoch %d: %v", epoch, m.plan().Chains)
		}
		m.settle()
		if d := gocmp.Diff(before, m.uids()); d != "" {
			rt.Fatalf("pods changed:\n%s", d)
		}
	})
}

// Losing the store in the midst of a rollout does not take more pods than the rollout may.
func TestLostStoreDuringARollout(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		m.bad["bad:1"] = true
		n := rapid.Int32Range(1, 12).Draw(rt, "replicas")
		m.want(desiredOf(deploymentOf("web", n, "hello:1")))
		m.settle()
		m.want(desiredOf(deploymentOf("web", n, "bad:1")))
		for range rapid.IntRange(0, 5).Draw(rt, "passes") {
			m.pass()
			m.now = m.now.Add(time.Second)
		}
		m.stored = fleet.Assignment{}
		for range 5 {
			m.pass()
			m.now = m.now.Add(time.Second)
			_, unavailable := workload.Fenceposts(m.desired.Objects[0].Value.(*appsv1.Deployment))
			if good := slices.DeleteFunc(m.running(), func(image string) bool { return image != "hello:1" }); len(good) < int(n-unavailable) {
				rt.Fatalf("%d of %d good pods are left", len(good), n)
			}
		}
	})
}

// Cutting any plan after any step and planning anew gets there all the same.
func TestCutPlans(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t)
		m.want(drawDesired(rt, false))
		m.settle()
		m.want(drawDesired(rt, false))
		for range rapid.IntRange(1, 20).Draw(rt, "rounds") {
			m.said = []fleet.NodeReport{m.plan().Report}
			m.decide()
			for _, chain := range m.plan().Chains {
				for _, s := range chain.Steps[:rapid.IntRange(0, len(chain.Steps)).Draw(rt, "cut")] {
					m.take(s)
				}
			}
		}
		m.settle()
		if waiting := m.view().Waiting(); len(waiting) > 0 || len(m.plan().Chains) > 0 {
			rt.Fatalf("waiting for %v, steps %v", waiting, m.plan().Chains)
		}
	})
}

// drawKinds is any commit of all kinds that roll, good and bad, with all that may be said of them.
func drawKinds(t *rapid.T) []fleet.Object {
	var objects []fleet.Object
	image := func() string {
		return rapid.SampledFrom([]string{"a:1", "a:2", "a:3", "bad:1", "bad:2"}).Draw(t, "image")
	}
	said := func(o fleet.Object) fleet.Object {
		switch rapid.IntRange(0, 5).Draw(t, "said") {
		case 0:
			return saying(o, fleet.AnnotationOnFailure, fleet.OnFailureRollback)
		case 1:
			return saying(o, fleet.AnnotationRestartOnConfig, "true")
		}
		return o
	}
	absent := func() bool { return rapid.IntRange(0, 7).Draw(t, "absent") == 0 }
	if !absent() {
		deadline := int32(600)
		o := said(deploymentOf("web", rapid.Int32Range(0, 6).Draw(t, "replicas"), image(), func(d *appsv1.Deployment) {
			surge, down := intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "surge")), intstr.FromInt32(rapid.Int32Range(0, 2).Draw(t, "unavailable"))
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &down}
			d.Spec.ProgressDeadlineSeconds = &deadline
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			case 1:
				d.Spec.MinReadySeconds = 5
			case 2:
				d.Spec.Paused = true
			}
			d.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}
		}))
		switch rapid.IntRange(0, 4).Draw(t, "web says") {
		case 0:
			o = saying(o, fleet.AnnotationSteps, rapid.SampledFrom([]string{"1, pause 1m, 50%", "1", "25%, pause", "pause 10s"}).Draw(t, "steps"))
		case 1:
			o = saying(o, fleet.AnnotationDependsOn, rapid.SampledFrom([]string{"StatefulSet/db", "DaemonSet/log", "StatefulSet/db, DaemonSet/log"}).Draw(t, "on"))
		}
		objects = append(objects, o)
	}
	if !absent() {
		objects = append(objects, said(statefulOf("db", rapid.Int32Range(0, 3).Draw(t, "replicas"), image(), func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32)}
			*s.Spec.UpdateStrategy.RollingUpdate.Partition = rapid.SampledFrom([]int32{0, 0, 0, 1, 2}).Draw(t, "partition")
			switch rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0:
				s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
			case 1:
				s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
			case 2:
				s.Spec.MinReadySeconds = 5
			case 3:
				s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 1}
			}
		})))
	}
	if !absent() {
		objects = append(objects, said(daemonOf("log", image(), func(s *appsv1.DaemonSet) {
			one, none := intstr.FromInt32(1), intstr.FromInt32(0)
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: &one, MaxUnavailable: &none}
			case 1:
				s.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
			case 2:
				s.Spec.MinReadySeconds = 5
			}
		})))
	}
	objects = append(objects, drawPlacing(t, objects)...)
	if !absent() {
		objects = append(objects, mapOf("conf", rapid.SampledFrom([]string{"one", "two"}).Draw(t, "conf")))
	}
	if rapid.IntRange(0, 7).Draw(t, "stranger") == 0 {
		objects = append(objects, podOf("db-1", "a:1"))
	}
	return objects
}

// drawPlacing gives some of the objects something that says where their pods may be, and says things of nodes.
func drawPlacing(t *rapid.T, objects []fleet.Object) []fleet.Object {
	for i := range objects {
		template := objects[i].Template
		if template == nil {
			continue
		}
		switch rapid.IntRange(0, 7).Draw(t, "placing") {
		case 0:
			asking("400m")(&template.Spec)
		case 1:
			asking("900m")(&template.Spec)
			ofClass("high")(&template.Spec)
		case 2:
			onlyOn("alpha")(&template.Spec)
		case 3:
			tolerating(corev1.Toleration{Key: "old", Operator: corev1.TolerationOpExists}, unreachableFor(5))(&template.Spec)
		}
		objects[i].Hash = fleet.HashTemplate(template)
	}
	said := []fleet.Object{classOf("high", 10)}
	switch rapid.IntRange(0, 7).Draw(t, "node") {
	case 0:
		said = append(said, nodeObject("alpha", withTaint("old", corev1.TaintEffectNoExecute)))
	case 1:
		said = append(said, nodeObject("beta", withTaint("old", corev1.TaintEffectNoSchedule)))
	case 2:
		said = append(said, nodeObject("beta", cordoned))
	case 3:
		said = append(said, budgetOf("one", 1))
	}
	return said
}

// befalls lets one thing happen to a fleet.
func (c *crowd) befalls(t *rapid.T) {
	node := rapid.SampledFrom(c.nodes).Draw(t, "node")
	h := c.hosts[node]
	event := rapid.SampledFrom([]string{
		"push", "intent", "act", "act", "live", "live", "say", "say", "say", "decide", "decide", "decide", "pass", "pass", "lost decision", "trouble", "trouble", "slow", "silent", "time", "lost store",
		"lost node", "lost node", "node intent",
	}).Draw(t, "event")
	c.story = append(c.story, fmt.Sprintf("%s %s on %s", c.now.Format("15:04:05"), event, node))
	switch event {
	case "push":
		c.push(drawKinds(t)...)
	case "intent":
		id := rapid.SampledFrom([]fleet.ObjectID{webID, dbID, logID}).Draw(t, "object")
		verb := rapid.SampledFrom([]fleet.IntentVerb{fleet.Scale, fleet.Pause, fleet.Resume, fleet.Restart, fleet.Restart, fleet.Undo}).Draw(t, "verb")
		if o, ok := c.desired.Find(id); ok && Heeds(o, verb) == nil {
			c.asks(id, verb, func(i *fleet.Intent) {
				switch verb {
				case fleet.Scale:
					i.Replicas = rapid.Int32Range(0, 6).Draw(t, "to")
				case fleet.Undo:
					i.Number = rapid.Int64Range(1, 5).Draw(t, "number")
				}
				c.story = append(c.story, fmt.Sprintf("  %s %s to %d, number %d", verb, id, i.Replicas, i.Number))
			})
		}
	case "act":
		c.act(node)
	case "live":
		c.live(node)
	case "say":
		c.say(node)
	case "decide":
		c.decide()
	case "pass":
		c.pass()
	case "lost decision":
		c.lost = true
		c.decide()
		c.lost = false
	case "trouble":
		uids := slices.Sorted(maps.Keys(h.pods))
		if len(uids) == 0 {
			return
		}
		p := h.pods[rapid.SampledFrom(uids).Draw(t, "pod")]
		what := rapid.IntRange(0, 3).Draw(t, "what")
		c.story = append(c.story, fmt.Sprintf("  %s: %d", p.Pod, what))
		switch {
		case p.Terminal():
		case what == 0:
			c.becomes(p, corev1.PodFailed, false)
		case what == 1:
			c.becomes(p, corev1.PodRunning, false)
		case what == 2:
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}}
		default:
			c.becomes(p, corev1.PodRunning, !c.bad[c.images[p.Want]])
		}
	case "slow":
		h.slow = !h.slow
	case "silent":
		if c.known[node].Down == "" {
			h.silent = !h.silent
		}
	case "lost node":
		if c.known[node].Down == "" {
			c.lose(node)
		} else {
			c.regain(node)
		}
	case "node intent":
		c.asks(nodeID(node), rapid.SampledFrom([]fleet.IntentVerb{fleet.Cordon, fleet.DrainNode, fleet.DrainNode, fleet.Uncordon}).Draw(t, "verb"))
		c.story = append(c.story, fmt.Sprintf("  %s", c.intents[len(c.intents)-1].Verb))
	case "time":
		c.now = c.now.Add(time.Duration(rapid.SampledFrom([]int{1, 5, 30, 70, 700}).Draw(t, "seconds")) * time.Second)
	case "lost store":
		if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
			c.loseStore()
		}
	}
}

// TestFleetsAreSafe sends fleets through random histories: crowd.check holds every decision to the promises. When troubles end,
// the fleet gets to the last push and rests, and losing the store then costs nothing.
func TestFleetsAreSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCrowd(rt, rapid.IntRange(1, 4).Draw(rt, "nodes"))
		c.bad["bad:1"], c.bad["bad:2"] = true, true
		for _, n := range c.nodes {
			if rapid.Bool().Draw(rt, "small") {
				c.known[n].Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
			}
		}
		for _, n := range c.nodes {
			c.say(n)
		}
		for range rapid.IntRange(1, 6).Draw(rt, "chapters") {
			c.push(drawKinds(rt)...)
			for range rapid.IntRange(0, 25).Draw(rt, "events") {
				c.befalls(rt)
				if rapid.Bool().Draw(rt, "a second passes") {
					c.now = c.now.Add(time.Second)
				}
			}
		}
		c.bad = map[string]bool{}
		c.intents = nil
		for _, n := range c.nodes {
			if c.known[n].Down != "" {
				c.regain(n)
			}
		}
		for _, h := range c.hosts {
			h.slow, h.silent = false, false
			for _, p := range h.pods {
				if !p.Terminal() {
					c.becomes(p, corev1.PodRunning, true)
				}
			}
		}
		final := []fleet.Object{deploymentOf("web", 3, "a:9"), statefulOf("db", 2, "a:9"), daemonOf("log", "a:9")}
		c.push(final...)
		for range 3 {
			c.settle()
			c.now = c.now.Add(time.Hour)
		}
		c.settle()
		d := decide(c.input())
		for _, o := range final {
			if !d.standings[o.ID].ready {
				rt.Fatalf("%s does not get there: %+v\n%s", o.ID, c.rollout(o.ID), c)
			}
		}
		for id, want := range map[fleet.ObjectID]string{webID: "a:9×3", dbID: "a:9×2", logID: fmt.Sprintf("a:9×%d", len(c.nodes))} {
			if got := c.has(id); got != want {
				rt.Fatalf("%s has %s, want %s\n%s", id, got, want, c)
			}
		}
		c.now = c.now.Add(time.Hour)
		if c.pass() {
			rt.Fatalf("at rest, and yet it does something\n%s", c)
		}
		before := c.uids()
		c.loseStore().settle()
		if diff := gocmp.Diff(before, c.uids()); diff != "" {
			rt.Fatalf("the store was lost at rest, and pods changed:\n%s", diff)
		}
	})
}
