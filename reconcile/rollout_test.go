package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// workloadOf is what a source would make of a workload.
func workloadOf(kind string, v runtime.Object, template *corev1.PodTemplateSpec) fleet.Object {
	m := v.(metav1.Object)
	return fleet.Object{
		ID: fleet.ObjectID{Kind: kind, Namespace: m.GetNamespace(), Name: m.GetName()}, Source: "home", Revision: "r1", Value: v,
		Template: template.DeepCopy(), Hash: fleet.HashTemplate(template),
	}
}

func statefulOf(name string, replicas int32, image string, change ...func(*appsv1.StatefulSet)) fleet.Object {
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Template: templateOf(image), PodManagementPolicy: appsv1.OrderedReadyPodManagement,
	}}
	for _, f := range change {
		f(s)
	}
	return workloadOf(fleet.KindStatefulSet, s, &s.Spec.Template)
}

func daemonOf(name, image string, change ...func(*appsv1.DaemonSet)) fleet.Object {
	s := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.DaemonSetSpec{Template: templateOf(image)}}
	for _, f := range change {
		f(s)
	}
	return workloadOf(fleet.KindDaemonSet, s, &s.Spec.Template)
}

// saying is an object with annotations, keys and values in turn.
func saying(o fleet.Object, pairs ...string) fleet.Object {
	o.Value = o.Value.DeepCopyObject()
	m := o.Value.(metav1.Object)
	m.SetAnnotations(with(m.GetAnnotations(), pairs...))
	return o
}

// crowd is a fleet on paper for Decide alone: nodes that do as they are told in their own time, and reports that come late.
type crowd struct {
	t       rapid.TB
	desired fleet.Desired
	commits int
	nodes   []fleet.NodeName
	stored  fleet.Assignment
	intents []fleet.Intent
	hosts   map[fleet.NodeName]*paper
	known   map[fleet.NodeName]*fleet.Node // what the store says of the nodes
	said    map[fleet.NodeName]fleet.NodeReport
	images  map[fleet.Hash]string
	specs   map[fleet.Hash]*corev1.PodTemplateSpec
	bad     map[string]bool // images whose pods never become ready
	now     time.Time
	stay    time.Duration
	last    Decision
	lost    bool // decisions are not committed
	story   []string
}

// paper is one node's machine.
type paper struct {
	epoch  uint64
	pods   map[string]*fleet.PodReport // by UID
	slow   bool                        // pods take their time to go
	silent bool                        // it runs, and says and hears nothing
	claims map[fleet.ClaimID]bool      // that have a volume here; nil: there are never any
}

func newCrowd(t rapid.TB, nodes int, objects ...fleet.Object) *crowd {
	c := &crowd{
		t: t, hosts: map[fleet.NodeName]*paper{}, said: map[fleet.NodeName]fleet.NodeReport{}, images: map[fleet.Hash]string{}, bad: map[string]bool{}, now: start,
		known: map[fleet.NodeName]*fleet.Node{}, specs: map[fleet.Hash]*corev1.PodTemplateSpec{},
	}
	for i := range nodes {
		name := fleet.NodeName([]string{"alpha", "beta", "gamma", "delta"}[i])
		c.nodes = append(c.nodes, name)
		c.hosts[name] = &paper{pods: map[string]*fleet.PodReport{}}
		c.known[name] = &fleet.Node{Name: name, Labels: map[string]string{corev1.LabelHostname: string(name)}}
	}
	c.push(objects...)
	return c
}

// push is another commit with these objects and nothing else.
func (c *crowd) push(objects ...fleet.Object) *crowd {
	c.commits++
	revision := fleet.Revision(fmt.Sprintf("r%d", c.commits))
	for i := range objects {
		objects[i].Revision = revision
		if objects[i].Template != nil {
			c.images[objects[i].Hash] = objects[i].Template.Spec.Containers[0].Image
			c.specs[objects[i].Hash] = objects[i].Template
		}
	}
	for _, o := range objects {
		raw, _ := json.Marshal(o.Value)
		text := string(raw)
		if at := strings.Index(text, `"template"`); at > 0 && o.Template != nil {
			text = text[:at] + "…" + o.Template.Spec.Containers[0].Image + "…" + text[strings.Index(text, `"containers"`):]
		}
		c.story = append(c.story, fmt.Sprintf("  push %s %s: %s", revision, o.ID, text))
	}
	rollback := c.desired.Rollback
	c.desired = desiredOf(objects...)
	c.desired.Revisions["home"], c.desired.Rollback = revision, rollback
	return c
}

func (c *crowd) input() FleetInput {
	in := FleetInput{Desired: c.desired, Previous: c.stored, Intents: c.intents, Templates: c.specs, Stay: c.stay, Now: c.now}
	for _, name := range c.nodes {
		in.Nodes = append(in.Nodes, *c.known[name])
		if r, ok := c.said[name]; ok {
			in.Reports = append(in.Reports, r)
		}
	}
	return in
}

// decide decides, holds the decision to what must always be true, and commits it.
func (c *crowd) decide() bool {
	c.t.Helper()
	in := c.input()
	d := Decide(in)
	c.check(in, d)
	c.last = d
	if c.lost {
		return d.Changed
	}
	if d.Changed {
		c.stored = roundTrip(c.t, d.Next)
	}
	c.intents = slices.DeleteFunc(slices.Clone(c.intents), func(i fleet.Intent) bool { return slices.Contains(d.Dropped, i) })
	return d.Changed
}

// roundTrip is an assignment as the store gives it back.
func roundTrip(t rapid.TB, a fleet.Assignment) fleet.Assignment {
	t.Helper()
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var b fleet.Assignment
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *crowd) check(in FleetInput, d Decision) {
	c.t.Helper()
	again := in
	again.Previous = roundTrip(c.t, d.Next)
	for i := 0; ; i++ {
		twice := Decide(again)
		if !twice.Changed {
			break
		}
		if !c.hampered(d) || i == 4 {
			c.t.Fatalf("deciding again changes:\n%s\n%s", gocmp.Diff(again.Previous, twice.Next, cmpopts.EquateEmpty()), c)
		}
		again.Previous = roundTrip(c.t, twice.Next)
	}
	if !d.Changed && !gocmp.Equal(d.Next, in.Previous, cmpopts.EquateEmpty()) {
		c.t.Fatalf("not changed, and yet:\n%s", gocmp.Diff(in.Previous, d.Next, cmpopts.EquateEmpty()))
	}
	mixed := shuffled(in)
	mixed.Intents = slices.Clone(in.Intents)
	slices.Reverse(mixed.Intents)
	if other := Decide(mixed); encode(other) != encode(d) {
		c.t.Fatalf("another order gives another decision:\n%s", gocmp.Diff(d, other, cmpopts.EquateEmpty()))
	}
	c.limits(in, d)
	had := map[string]fleet.Slot{}
	for _, s := range in.Previous.Slots {
		had[s.UID] = s
	}
	alive := map[fleet.PodID]int{} // whatever anybody knows of it
	for _, h := range c.hosts {
		for _, p := range h.pods {
			alive[p.Pod]++
		}
	}
	names, runs := map[fleet.PodID]int{}, map[fleet.PodID]int{}
	for _, s := range d.Next.Slots {
		names[s.Pod]++
		if s.Goal == fleet.Run {
			runs[s.Pod]++
		}
	}
	seats := map[fleet.ObjectID]map[fleet.NodeName]int{}
	for _, s := range d.Next.Slots {
		before, known := had[s.UID]
		if known && before.Goal == fleet.Drain && s.Goal == fleet.Run {
			c.t.Fatalf("%s is called back", s.Pod)
		}
		if runs[s.Pod] > 1 {
			c.t.Fatalf("two slots called %s should run\n%s", s.Pod, c)
		}
		isNew := !known && s.Created.Equal(in.Now) && s.Epoch == in.Previous.Epoch+1 && !c.exists(s.UID)
		if isNew && (names[s.Pod] > 1 || (s.Owner.Kind == fleet.KindStatefulSet && alive[s.Pod] > 0)) {
			c.t.Fatalf("%s is made while there is one of that name\n%s", s.Pod, c)
		}
		if s.Owner.Kind == fleet.KindDaemonSet && s.Goal == fleet.Run {
			if seats[s.Owner] == nil {
				seats[s.Owner] = map[fleet.NodeName]int{}
			}
			if r := c.reported(s.UID); r == nil || !r.Terminal() {
				seats[s.Owner][s.Seat()]++
			}
		}
	}
	for owner, nodes := range seats {
		most := 1
		if v, ok := fleet.Lookup[*appsv1.DaemonSet](in.Desired, owner); ok && v.Spec.UpdateStrategy.RollingUpdate != nil && v.Spec.UpdateStrategy.RollingUpdate.MaxSurge != nil {
			most = 2
		}
		for node, n := range nodes {
			if was := c.runsOn(in.Previous, owner, node); n > max(most, was) {
				c.t.Fatalf("%s has %d pods on %s\n%s", owner, n, node, c)
			}
		}
	}
}

// limits holds a decision to what Deployments may have and must keep, by what was reported (promise 6).
func (c *crowd) limits(in FleetInput, d Decision) {
	c.t.Helper()
	desired := Effective(in.Desired, in.Intents, nil)
	for object, v := range fleet.Each[*appsv1.Deployment](desired) {
		minReady := time.Duration(v.Spec.MinReadySeconds) * time.Second
		seen := map[string]bool{}
		count := func(slots []fleet.Slot) (total, available int32) {
			for _, s := range slots {
				if s.Controller != object.ID || s.Goal != fleet.Run {
					continue
				}
				r := c.reported(s.UID)
				seen[s.UID] = true
				total++
				available += workload.Count([]workload.Member{{Slot: s, Report: r}}, minReady, in.Now).Available
			}
			return total, available
		}
		had, before := count(in.Previous.Slots)
		sized := int32(0) // what could not be made yet, no node being there, is made as it was sized then where the Deployment is held
		for _, s := range in.Previous.Sets {
			if s.Owner == object.ID {
				sized += s.Replicas
			}
		}
		had = max(had, sized)
		for _, r := range in.Reports { // those that the store has forgotten
			for i := range r.Pods {
				if p := &r.Pods[i]; p.Controller == object.ID && !slices.ContainsFunc(in.Previous.Slots, func(s fleet.Slot) bool { return s.UID == p.UID }) {
					had++
				}
			}
		}
		total, available := count(d.Next.Slots)
		replicas := *v.Spec.Replicas
		surge, unavailable := workload.Fenceposts(v)
		if total > max(replicas+surge, had) {
			c.t.Fatalf("%s: %d pods of %d+%d, had %d\n%s", object.ID, total, replicas, surge, had, c)
		}
		scaled := slices.ContainsFunc(in.Previous.Sets, func(s fleet.Set) bool {
			return s.Owner == object.ID && ((s.Replicas > 0 && s.Recorded != replicas) || s.MinReady != v.Spec.MinReadySeconds)
		})
		if v.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || scaled || v.Spec.Paused {
			continue // a scaling takes in proportion, whatever serves, and so does a pause with another surge: Kubernetes does, too
		}
		driven, preempted := c.driven(in, d, object.ID)
		if need := min(before-driven, replicas-unavailable) - preempted; available < need {
			c.t.Fatalf("%s: %d available, were %d, need %d\n%s", object.ID, available, before, need, c)
		}
	}
}

// hampered reports whether nodes are lost or pods have none: some rollouts take a few looks then to come to rest.
func (c *crowd) hampered(d Decision) bool {
	for _, n := range c.known {
		if n.Down != "" {
			return true
		}
	}
	return slices.ContainsFunc(append(slices.Clone(d.Next.Slots), c.stored.Slots...), func(s fleet.Slot) bool { return s.Node == "" })
}

// driven counts the pods of a Deployment that a taint or a drain has just driven from their nodes, which its rollout knows of, and
// those that more important pods took the place of when it had decided already: no rollout has a say in either.
func (c *crowd) driven(in FleetInput, d Decision, id fleet.ObjectID) (driven, preempted int32) {
	leaves := map[string]bool{}
	for _, s := range d.Next.Slots {
		leaves[s.UID] = s.Goal == fleet.Drain
	}
	for _, s := range in.Previous.Slots {
		if s.Goal != fleet.Run || s.Controller != id || !leaves[s.UID] {
			continue
		}
		strained := slices.ContainsFunc(d.Next.Strains, func(t fleet.Strain) bool { return t.Node == s.Node })
		drained := slices.ContainsFunc(in.Intents, func(i fleet.Intent) bool { return i.Verb == fleet.DrainNode && i.Object == nodeID(s.Node) })
		switch {
		case strained || drained:
			driven++
		case slices.ContainsFunc(d.Notes, func(n fleet.Note) bool { return n.About == s.Pod.Object() && strings.HasPrefix(n.Text, "preempted") }):
			preempted++
		}
	}
	return driven, preempted
}

func (c *crowd) runsOn(a fleet.Assignment, owner fleet.ObjectID, node fleet.NodeName) (n int) {
	for _, s := range a.Slots {
		if s.Owner == owner && s.Seat() == node && s.Goal == fleet.Run {
			n++
		}
	}
	return n
}

func (c *crowd) exists(uid string) bool {
	for _, h := range c.hosts {
		if h.pods[uid] != nil {
			return true
		}
	}
	return false
}

// reported is what was said of a pod last.
func (c *crowd) reported(uid string) *fleet.PodReport {
	for _, r := range c.said {
		for i := range r.Pods {
			if r.Pods[i].UID == uid {
				return &r.Pods[i]
			}
		}
	}
	return nil
}

// act lets a node do what is assigned; it reports whether there was anything to do.
func (c *crowd) act(name fleet.NodeName) bool {
	h, acted := c.hosts[name], false
	if h.silent {
		return false
	}
	h.epoch = c.stored.Epoch
	for _, s := range c.stored.Slots {
		_, has := h.pods[s.UID]
		switch {
		case s.Node != name:
		case s.Goal == fleet.Run && !has:
			h.pods[s.UID] = &fleet.PodReport{Identity: s.Identity, Status: corev1.PodStatus{Phase: corev1.PodPending}}
			acted = true
			for _, template := range s.Claims {
				if id := (fleet.ClaimID{Namespace: s.Pod.Namespace, Name: claimName(template, s.Pod)}); h.claims != nil {
					h.claims[id] = true
				}
			}
		case s.Goal == fleet.Drain && has && !h.slow:
			delete(h.pods, s.UID)
			acted = true
		}
	}
	return acted
}

// live lets a node's pending pods start.
func (c *crowd) live(name fleet.NodeName) bool {
	lived := false
	for _, p := range c.hosts[name].pods {
		if p.Status.Phase == corev1.PodPending {
			c.becomes(p, corev1.PodRunning, !c.bad[c.images[p.Want]])
			lived = true
		}
	}
	return lived
}

func (c *crowd) becomes(p *fleet.PodReport, phase corev1.PodPhase, ready bool) {
	_, was := p.ReadySince()
	p.Status.Phase = phase
	switch {
	case !ready:
		p.Status.Conditions = nil
	case !was:
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: c.now}}}
	}
	if p.Terminal() {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Time{Time: c.now}}}}}
	}
}

// say lets a node report.
func (c *crowd) say(name fleet.NodeName) {
	h := c.hosts[name]
	if h.silent {
		return
	}
	r := fleet.NodeReport{Node: name, Epoch: h.epoch, At: c.now}
	for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
		r.Pods = append(r.Pods, fleet.PodReport{Identity: h.pods[uid].Identity, Status: *h.pods[uid].Status.DeepCopy()})
	}
	slices.SortFunc(r.Pods, func(a, b fleet.PodReport) int { return a.Pod.Compare(b.Pod) })
	for _, id := range slices.SortedFunc(maps.Keys(h.claims), fleet.ClaimID.Compare) {
		r.Claims = append(r.Claims, fleet.ObservedClaim{Claim: id})
	}
	c.said[name] = r
}

// lose has the fleet lose sight of a node, which runs on.
func (c *crowd) lose(name fleet.NodeName) *crowd {
	c.known[name].Down, c.hosts[name].silent = "nothing was heard of it", true
	delete(c.said, name)
	return c
}

// regain has it back: it says first what it has.
func (c *crowd) regain(name fleet.NodeName) *crowd {
	c.known[name].Down, c.hosts[name].silent = "", false
	c.say(name)
	return c
}

// pass is one round of all; it reports whether anything happened.
func (c *crowd) pass() bool {
	c.t.Helper()
	changed := false
	for _, n := range c.nodes {
		changed = c.act(n) || changed
		c.say(n)
	}
	for _, n := range c.nodes {
		changed = c.live(n) || changed
		c.say(n)
	}
	return c.decide() || changed
}

// settle goes on until nothing is left to do, also by time, within a quarter of an hour of it.
func (c *crowd) settle() *crowd {
	c.t.Helper()
	end := c.now.Add(15 * time.Minute)
	for range 2000 {
		if c.pass() {
			c.now = c.now.Add(time.Second)
			continue
		}
		wake := c.last.WakeAt
		if wake.IsZero() || wake.After(end) {
			return c
		}
		if !wake.After(c.now) {
			c.t.Fatalf("wakes at %s, which is not after %s", wake, c.now)
		}
		c.now = wake
	}
	c.t.Fatalf("does not settle:\n%s", c)
	return nil
}

// loseStore leaves what nodes say.
func (c *crowd) loseStore() *crowd {
	c.stored = fleet.Assignment{}
	for _, n := range c.nodes {
		c.hosts[n].epoch = 0 // agents have read that there is none
		delete(c.said, n)
		c.say(n)
	}
	return c
}

// String is what there is, a line a pod.
func (c *crowd) String() string {
	var b strings.Builder
	for _, line := range c.story {
		fmt.Fprintf(&b, "* %s\n", line)
	}
	for _, s := range c.stored.Slots {
		fmt.Fprintf(&b, "%s on %s: %s of %s, made %s\n", s.Pod, s.Node, s.Goal, c.images[s.Want], s.Created.Format("15:04:05"))
	}
	for _, n := range c.nodes {
		for _, p := range c.hosts[n].pods {
			_, ready := p.ReadySince()
			fmt.Fprintf(&b, "  %s has %s of %s: %s, ready %t\n", n, p.Pod, c.images[p.Want], p.Status.Phase, ready)
		}
	}
	for _, n := range c.last.Notes {
		fmt.Fprintf(&b, "  note on %s: %s\n", n.About, n.Text)
	}
	return b.String()
}

// has counts the pods of a workload that should run, as image×number.
func (c *crowd) has(id fleet.ObjectID) string {
	n := map[string]int{}
	for _, s := range c.stored.Slots {
		if s.Goal == fleet.Run && (s.Owner == id || s.Controller == id) {
			n[c.images[s.Want]]++
		}
	}
	var parts []string
	for _, image := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s×%d", image, n[image]))
	}
	return strings.Join(parts, " ")
}

func (c *crowd) wantHas(id fleet.ObjectID, want string) {
	c.t.Helper()
	if got := c.has(id); got != want {
		c.t.Errorf("%s has %q, want %q\n%s", id, got, want, c)
	}
}

// uids are all pods that should run.
func (c *crowd) uids() []string {
	var list []string
	for _, s := range c.stored.Slots {
		if s.Goal == fleet.Run {
			list = append(list, s.Pod.String()+" "+s.UID)
		}
	}
	return list
}

func (c *crowd) notes(about fleet.ObjectID) string {
	var list []string
	for _, n := range c.last.Notes {
		if n.About == about {
			list = append(list, n.Text)
		}
	}
	return strings.Join(list, "; ")
}

func (c *crowd) wantNote(about fleet.ObjectID, text string) {
	c.t.Helper()
	if got := c.notes(about); !strings.Contains(got, text) {
		c.t.Errorf("no note %q on %s in %q", text, about, got)
	}
}

func (c *crowd) rollout(id fleet.ObjectID) fleet.Rollout {
	for _, r := range c.stored.Rollouts {
		if r.ID == id {
			return r
		}
	}
	return fleet.Rollout{}
}

// pods are the machines' own pods of a workload, in the order of their names.
func (c *crowd) pods(id fleet.ObjectID) []*fleet.PodReport {
	var list []*fleet.PodReport
	for _, h := range c.hosts {
		for _, p := range h.pods {
			if p.Owner == id || p.Controller == id {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, func(a, b *fleet.PodReport) int { return a.Pod.Compare(b.Pod) })
	return list
}

var (
	webID = fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "web"}
	dbID  = fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: "db"}
	logID = fleet.ObjectID{Kind: fleet.KindDaemonSet, Namespace: "shop", Name: "log"}
)

func trio(image string) []fleet.Object {
	return []fleet.Object{deploymentOf("web", 3, image), statefulOf("db", 2, image), daemonOf("log", image)}
}

func TestAllKindsRoll(t *testing.T) {
	c := newCrowd(t, 3, trio("a:1")...).settle()
	c.push(trio("a:2")...).settle()
	c.wantHas(webID, "a:2×3")
	c.wantHas(dbID, "a:2×2")
	c.wantHas(logID, "a:2×3")
	for i := range 3 {
		c.now = c.now.Add(time.Duration(i+7) * time.Minute)
		if c.pass() {
			t.Errorf("at rest, and yet\n%s", c)
		}
	}
	before := c.uids()
	c.push(trio("a:2")...).settle() // the same once more
	if d := gocmp.Diff(before, c.uids()); d != "" {
		t.Error(d)
	}
	c.push().settle()
	if len(c.stored.Slots)+len(c.stored.Sets)+len(c.stored.Rollouts) > 0 {
		t.Errorf("left are %+v", c.stored)
	}
}

// TestLostStoreOfAFleet: what runs and is as desired is left alone, whoever speaks first.
func TestLostStoreOfAFleet(t *testing.T) {
	settled := func(t *testing.T) *crowd { return newCrowd(t, 3, trio("a:1")...).settle() }
	spread := func(c *crowd) { // as if pods had been placed all over
		for i := range c.stored.Slots {
			s := &c.stored.Slots[i]
			if s.Owner.Kind == fleet.KindDaemonSet {
				continue
			}
			p := c.hosts[s.Node].pods[s.UID]
			delete(c.hosts[s.Node].pods, s.UID)
			s.Node = c.nodes[i%len(c.nodes)]
			c.hosts[s.Node].pods[s.UID] = p
		}
		c.settle()
	}
	t.Run("all speak", func(t *testing.T) {
		c := settled(t)
		spread(c)
		before := c.uids()
		c.loseStore().settle()
		if d := gocmp.Diff(before, c.uids()); d != "" {
			t.Error(d)
		}
	})
	for _, first := range []string{"alpha", "beta", "gamma"} {
		t.Run("first "+first, func(t *testing.T) {
			c := settled(t)
			spread(c)
			before := c.uids()
			c.loseStore()
			said := c.said
			c.said = map[fleet.NodeName]fleet.NodeReport{}
			c.decide()
			c.said[fleet.NodeName(first)] = said[fleet.NodeName(first)]
			c.decide()
			c.said = said
			c.decide()
			c.settle()
			if d := gocmp.Diff(before, c.uids()); d != "" {
				t.Errorf("pods changed:\n%s", d)
			}
		})
	}
	t.Run("in the middle of an update of all", func(t *testing.T) {
		for passes := range 12 {
			c := settled(t).push(trio("a:2")...)
			for range passes {
				c.pass()
				c.now = c.now.Add(time.Second)
			}
			c.loseStore().settle()
			c.wantHas(webID, "a:2×3")
			c.wantHas(dbID, "a:2×2")
			c.wantHas(logID, "a:2×3")
		}
	})
}

// A StatefulSet's pod on a node that is cut off is not made elsewhere (semantics 18.10).
func TestCutOffNode(t *testing.T) {
	c := newCrowd(t, 2, statefulOf("db", 2, "a:1"), deploymentOf("web", 2, "a:1")).settle()
	for i := range c.stored.Slots { // db-1 is on beta
		if s := &c.stored.Slots[i]; s.Pod.Name == "db-1" {
			c.hosts["beta"].pods[s.UID] = c.hosts[s.Node].pods[s.UID]
			delete(c.hosts[s.Node].pods, s.UID)
			s.Node = "beta"
		}
	}
	c.settle()
	c.hosts["beta"].silent = true
	before := c.uids()
	c.now = c.now.Add(time.Hour)
	c.settle()
	if d := gocmp.Diff(before, c.uids()); d != "" {
		t.Error(d)
	}
	c.push(statefulOf("db", 2, "a:2"), deploymentOf("web", 2, "a:1")).settle()
	if p := c.pods(dbID); len(p) != 2 || c.images[p[1].Want] != "a:1" {
		t.Errorf("while beta is cut off\n%s", c)
	}
	delete(c.said, "beta") // the store forgot, too, that it ever spoke
	c.settle()
	c.hosts["beta"].silent = false
	c.settle()
	c.wantHas(dbID, "a:2×2")
}

// The same nodes in another order give the same decision.
func TestNodesInAnyOrder(t *testing.T) {
	c := newCrowd(t, 3, trio("a:1")...)
	for _, n := range c.nodes {
		c.say(n)
	}
	in := c.input()
	want := Decide(in)
	slices.Reverse(in.Nodes)
	if d := gocmp.Diff(want.Next.Slots, Decide(in).Next.Slots); d != "" {
		t.Error(d)
	}
}

// TestKindsMove: pods follow their object to another source; when it is deleted there they must go.
func TestKindsMove(t *testing.T) {
	for _, object := range []fleet.Object{statefulOf("db", 2, "a:1"), daemonOf("log", "a:1"), deploymentOf("web", 2, "a:1")} {
		t.Run(object.ID.Kind, func(t *testing.T) {
			c := newCrowd(t, 2, object).settle()
			before := c.uids()
			moved := object
			moved.Source, moved.Revision = "other", "o1"
			c.desired.Objects, c.desired.Revisions = []fleet.Object{moved}, map[fleet.SourceName]fleet.Revision{"other": "o1"}
			c.settle()
			if d := gocmp.Diff(before, c.uids()); d != "" {
				t.Errorf("moving touches pods: %s", d)
			}
			for _, s := range c.stored.Sets {
				if s.Source != "other" || s.From != "o1" {
					t.Errorf("the template of %s is looked for in %s at %s", s.ID, s.Source, s.From)
				}
			}
			c.desired.Objects = nil
			c.settle()
			if len(c.stored.Slots)+len(c.stored.Sets)+len(c.stored.Rollouts) > 0 {
				t.Errorf("deleted there, and left are %d slots, %d sets, %d rollouts\n%s", len(c.stored.Slots), len(c.stored.Sets), len(c.stored.Rollouts), c)
			}
		})
	}
}

// Where a template can be read stays true of old revisions, too, when their object moves.
func TestOldRevisionsMove(t *testing.T) {
	for _, of := range []func(image string) fleet.Object{
		func(image string) fleet.Object { return deploymentOf("web", 2, image) },
		func(image string) fleet.Object { return statefulOf("db", 2, image) },
		func(image string) fleet.Object { return daemonOf("log", image) },
	} {
		c := newCrowd(t, 2, of("a:1")).settle()
		c.push(of("a:2")).settle()
		moved := of("a:2")
		moved.Source, moved.Revision = "other", "o1"
		c.desired.Objects = []fleet.Object{moved}
		c.desired.Revisions = map[fleet.SourceName]fleet.Revision{"home": "r3", "other": "o1"}
		c.settle()
		for _, s := range c.stored.Sets {
			if (s.Source == "other") != (s.From == "o1") {
				t.Errorf("the template of %s (%s) is looked for in %s at %s", s.ID, c.images[s.Want], s.Source, s.From)
			}
		}
		c.desired.Objects = nil
		c.settle()
		if len(c.stored.Slots)+len(c.stored.Sets)+len(c.stored.Rollouts) > 0 {
			t.Errorf("deleted there, and left are %d slots, %d sets, %d rollouts", len(c.stored.Slots), len(c.stored.Sets), len(c.stored.Rollouts))
		}
	}
}

// A stranger's pod has the name of a StatefulSet's.
func TestStatefulSetAndAStrangersName(t *testing.T) {
	c := newCrowd(t, 1, podOf("db-1", "b:1"))
	c.settle()
	c.push(podOf("db-1", "b:1"), statefulOf("db", 3, "a:1")).settle()
	c.wantHas(dbID, "a:1×1")
	c.wantNote(dbID, "another pod has its name")
	c.hosts["alpha"].slow = true
	c.push(statefulOf("db", 3, "a:1"))
	for range 5 {
		c.pass()
	}
	c.wantHas(dbID, "a:1×1") // the stranger is still going
	c.hosts["alpha"].slow = false
	c.settle()
	c.wantHas(dbID, "a:1×3")
}

// A StatefulSet that is deleted and comes back while its pods go waits for them.
func TestStatefulSetDeletedAndBack(t *testing.T) {
	c := newCrowd(t, 2, statefulOf("db", 2, "a:1")).settle()
	c.hosts["alpha"].slow = true
	c.push()
	for range 3 {
		c.pass()
	}
	c.push(statefulOf("db", 2, "a:2"))
	for range 5 {
		c.pass()
		c.now = c.now.Add(time.Second)
	}
	c.wantHas(dbID, "")
	c.hosts["alpha"].slow = false
	c.settle()
	c.wantHas(dbID, "a:2×2")
}

// TestOnFailure: the annotation beats the source; by default a failed rollout is held.
func TestOnFailure(t *testing.T) {
	for _, test := range []struct {
		name       string
		annotation string
		source     bool
		back       bool
	}{
		{"nothing said", "", false, false}, {"the source says so", "", true, true}, {"the workload says so", "rollback", false, true},
		{"the workload says otherwise", "hold", true, false}, {"both", "rollback", true, true}, {"hold", "hold", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := func(image string) []fleet.Object {
				list := trio(image)
				for i := range list {
					if test.annotation != "" {
						list[i] = saying(list[i], fleet.AnnotationOnFailure, test.annotation)
					}
					if d, ok := list[i].Value.(*appsv1.Deployment); ok {
						deadline := int32(600)
						d.Spec.ProgressDeadlineSeconds = &deadline
					}
				}
				return list
			}
			c := newCrowd(t, 2, objects("a:1")...)
			c.desired.Rollback = map[fleet.SourceName]bool{"home": test.source}
			c.settle()
			c.bad["a:2"] = true
			c.push(objects("a:2")...).settle()
			c.now = c.now.Add(20 * time.Minute)
			c.settle()
			for id, want := range map[fleet.ObjectID]string{webID: "a:1×3", dbID: "a:1×2", logID: "a:1×2"} {
				if back := c.has(id) == want; back != test.back {
					t.Errorf("%s went back: %t\n%s", id, back, c)
				}
				if marked := c.rollout(id).Bad != (fleet.Bad{}); marked != test.back {
					t.Errorf("%s is marked: %+v", id, c.rollout(id).Bad)
				}
			}
			if !test.back {
				return
			}
			stored := c.stored
			for range 4 { // by later decisions of another leader, too
				c.now = c.now.Add(23 * time.Minute)
				c.settle()
			}
			if c.stored.Epoch != stored.Epoch {
				t.Errorf("the epoch went from %d to %d:\n%s", stored.Epoch, c.stored.Epoch, gocmp.Diff(stored, c.stored))
			}
			delete(c.bad, "a:2")
			c.push(objects("a:2")...).settle()
			c.wantHas(webID, "a:2×3")
			c.wantHas(dbID, "a:2×2")
			c.wantHas(logID, "a:2×2")
		})
	}
}

// A decision that nobody committed is made again, the same.
func TestLostDecisions(t *testing.T) {
	c := newCrowd(t, 2, trio("a:1")...).settle()
	c.push(trio("a:2")...)
	for i := range 60 {
		c.lost = i%3 > 0
		c.pass()
		c.now = c.now.Add(time.Second)
	}
	c.wantHas(webID, "a:2×3")
	c.wantHas(dbID, "a:2×2")
	c.wantHas(logID, "a:2×2")
}

// A report of an epoch that a lost store had says nothing of slots that were drained since.
func TestReportsOfAnEpochThatWasLost(t *testing.T) {
	c := newCrowd(t, 1, deploymentOf("web", 1, "a:1")).settle()
	c.loseStore()
	r := c.said["alpha"]
	r.Epoch, r.Pods = 40, nil // from before, and somebody removed its pods
	clear(c.hosts["alpha"].pods)
	c.said["alpha"] = r
	c.decide()
	c.push()
	c.decide()
	if len(c.stored.Slots) != 1 {
		t.Errorf("a pod that alpha may just be making is forgotten\n%s", c)
	}
}
