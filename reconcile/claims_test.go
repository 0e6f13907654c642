package reconcile

import (
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// holder is a fleet on paper of which only volumes and the pods of StatefulSets count. Pods do at once what they should, but
// those that drain stay while lingering is set.
type holder struct {
	FleetInput
	lingering bool
	silent    bool // no node has reported
}

// want replaces what the source home holds; others keep what they have.
func (h *holder) want(objects ...fleet.Object) {
	h.wantFrom("home", objects...)
}

func (h *holder) wantFrom(source fleet.SourceName, objects ...fleet.Object) {
	kept := slices.DeleteFunc(slices.Clone(h.Desired.Objects), func(o fleet.Object) bool { return o.Source == source })
	for _, o := range objects {
		o.Source = source
		kept = append(kept, o)
	}
	before := h.Desired
	h.Desired = desiredOf(kept...)
	if before.Revisions != nil {
		h.Desired.Revisions = before.Revisions
	}
	h.Desired.Revisions[source] = "r1"
}

// hold makes an object one of which nothing is known but that it is there.
func (h *holder) hold(kind, name string) {
	h.Desired.Held = map[fleet.ObjectID]string{{Kind: kind, Namespace: "shop", Name: name}: "broken file"}
}

// volumes are those that the machine has from now on.
func (h *holder) volumes(names ...string) {
	h.Reports = []fleet.NodeReport{{Node: "alpha"}}
	for _, name := range names {
		h.Reports[0].Claims = append(h.Reports[0].Claims, fleet.ObservedClaim{Claim: fleet.ClaimID{Namespace: "shop", Name: name}, Source: "home"})
	}
}

// decide decides until it is at rest, and returns the claims that go.
func (h *holder) decide(t *testing.T) string {
	t.Helper()
	for range 10 {
		in := h.FleetInput
		report := h.Reports[0]
		report.Epoch, report.Pods = in.Previous.Epoch, nil
		for _, s := range in.Previous.Slots {
			if s.Goal == fleet.Run || h.lingering {
				report.Pods = append(report.Pods, fleet.PodReport{Identity: s.Identity})
			}
		}
		in.Reports = []fleet.NodeReport{report}
		if h.silent {
			in.Reports = nil
		}
		d := Decide(in)
		again := in
		again.Previous = d.Next
		if d := Decide(again); d.Changed {
			t.Fatalf("deciding again changes something:\n%+v\n%+v", again.Previous, d.Next)
		}
		h.Previous = d.Next
		if !d.Changed {
			break
		}
	}
	var names []string
	for _, u := range h.Previous.Unclaimed {
		names = append(names, u.Claim.Name)
	}
	return strings.Join(names, " ")
}

// pruned is a claim that says of itself what is to become of its volume; "" is silence.
func pruned(name, prune string) fleet.Object {
	o := claimOf(name)
	if prune != "" {
		o.Value.(*corev1.PersistentVolumeClaim).Annotations = map[string]string{fleet.AnnotationPrune: prune}
	}
	return o
}

// setOf is a StatefulSet whose pods come and go at once and that has claims called data and, for the rest, what change says.
func setOf(name string, replicas int32, change ...func(*appsv1.StatefulSet)) fleet.Object {
	v := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Template: templateOf("hello:1"), PodManagementPolicy: appsv1.ParallelPodManagement,
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
	}}
	for _, f := range change {
		f(v)
	}
	template := v.Spec.Template.DeepCopy()
	return fleet.Object{
		ID:     fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: name},
		Source: "home", Revision: "r1", Value: v, Template: template, Hash: fleet.HashTemplate(template),
	}
}

func retention(deleted, scaled appsv1.PersistentVolumeClaimRetentionPolicyType) func(*appsv1.StatefulSet) {
	return func(v *appsv1.StatefulSet) {
		v.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: deleted, WhenScaled: scaled}
	}
}

func pruning(v *appsv1.StatefulSet) {
	v.Spec.VolumeClaimTemplates[0].Annotations = map[string]string{fleet.AnnotationPrune: "true"}
}

func from(ordinal int32) func(*appsv1.StatefulSet) {
	return func(v *appsv1.StatefulSet) { v.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: ordinal} }
}

func template(name string) func(*appsv1.StatefulSet) {
	return func(v *appsv1.StatefulSet) { v.Spec.VolumeClaimTemplates[0].Name = name }
}

// TestUnclaimed: which volumes go, and which stay because nobody said that they should go, or nobody can know.
func TestUnclaimed(t *testing.T) {
	const keep, remove = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	type moment struct {
		happens func(h *holder)
		want    string // claims whose volumes go
	}
	is := func(objects ...fleet.Object) moment { return moment{happens: func(h *holder) { h.want(objects...) }} }
	isAnd := func(want string, objects ...fleet.Object) moment {
		return moment{happens: func(h *holder) { h.want(objects...) }, want: want}
	}
	nothing := func(want string) moment { return moment{happens: func(h *holder) { h.want() }, want: want} }
	then := func(want string, happens func(h *holder)) moment { return moment{happens: happens, want: want} }
	four := []string{"data-web-0", "data-web-1", "data-web-2", "data-web-3"}
	for _, test := range []struct {
		name    string
		volumes []string // "data" unless something else is said
		moments []moment
	}{
		// Claims that are objects.
		{"said so", nil, []moment{is(pruned("data", "true")), nothing("data")}},
		{"said nothing", nil, []moment{is(pruned("data", "")), nothing("")}},
		{"said no", nil, []moment{is(pruned("data", "false")), nothing("")}},
		{"another said so", nil, []moment{is(pruned("data", ""), pruned("other", "true")), nothing("")}},
		{"it has no volume", []string{"other"}, []moment{is(pruned("data", "true")), nothing("")}},
		{"its volume is gone", nil, []moment{is(pruned("data", "true")), nothing("data"), then("", func(h *holder) { h.volumes() })}},
		{"a volume of that name that came later is kept", nil, []moment{
			is(pruned("data", "true")), nothing("data"), then("", func(h *holder) { h.volumes() }), then("", func(h *holder) { h.volumes("data") }),
		}},
		{"it comes back", nil, []moment{is(pruned("data", "true")), nothing("data"), is(pruned("data", "true")), nothing("data")}},
		{"it comes back and says nothing", nil, []moment{is(pruned("data", "true")), nothing("data"), is(pruned("data", "")), nothing("")}},
		{"taken back before it goes", nil, []moment{is(pruned("data", "true")), is(pruned("data", "")), nothing("")}},
		{"said later", nil, []moment{is(pruned("data", "")), is(pruned("data", "true")), nothing("data")}},
		{"the memory is lost", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.want(); h.Previous = fleet.Assignment{} }),
		}},
		{"held", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.want(); h.hold(fleet.KindPersistentVolumeClaim, "data") }),
			then("data", func(h *holder) { h.Desired.Held = nil }),
		}},
		{"another is held", nil, []moment{
			is(pruned("data", "true")), then("data", func(h *holder) { h.want(); h.hold(fleet.KindPersistentVolumeClaim, "other") }),
		}},
		{"its source is not read", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.Desired = fleet.Desired{} }), nothing("data"),
		}},
		{"another source is read", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.Desired = fleet.Desired{}; h.wantFrom("other"); delete(h.Desired.Revisions, "home") }),
		}},
		{"it moved to a source that is not read", nil, []moment{ // what its volume says of its source is what was true when it was made
			is(pruned("data", "true")), then("", func(h *holder) { h.wantFrom("other", pruned("data", "true")); h.want() }),
			then("", func(h *holder) { h.want() }),
			then("", func(h *holder) { h.wantFrom("other"); delete(h.Desired.Revisions, "other") }),
			then("data", func(h *holder) { h.wantFrom("other") }),
		}},
		{"its source is abandoned", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.want(); h.Desired.Abandoned = map[fleet.SourceName]bool{"home": true} }),
		}},
		{"before a node has spoken", nil, []moment{
			is(pruned("data", "true")), then("", func(h *holder) { h.silent = true; h.want() }), then("data", func(h *holder) { h.silent = false }),
			then("data", func(h *holder) { h.silent = true }), then("", func(h *holder) { h.want(pruned("data", "true")) }),
		}},
		{"of a name that a StatefulSet gives", []string{"data-web-0"}, []moment{
			is(pruned("data-web-0", "true"), setOf("web", 0)), is(setOf("web", 0)), nothing("data-web-0"),
		}},

		// Claims of StatefulSets.
		{"scaled down, to be kept", four, []moment{is(setOf("web", 4, retention(remove, keep))), is(setOf("web", 2, retention(remove, keep)))}},
		{"scaled down, nothing said", four, []moment{is(setOf("web", 4)), is(setOf("web", 0))}},
		{"scaled down, its claims said so", four, []moment{is(setOf("web", 4, pruning)), is(setOf("web", 2, pruning))}},
		{"scaled down and up again", four, []moment{
			is(setOf("web", 4, retention(keep, remove))), isAnd("data-web-2 data-web-3", setOf("web", 2, retention(keep, remove))),
			isAnd("data-web-3", setOf("web", 3, retention(keep, remove))), is(setOf("web", 4, retention(keep, remove))),
		}},
		{"scaled down with pods that take their time", four, []moment{
			is(setOf("web", 4, retention(keep, remove))),
			then("data-web-2 data-web-3", func(h *holder) { h.lingering = true; h.want(setOf("web", 2, retention(keep, remove))) }),
			then("data-web-2 data-web-3", func(h *holder) { h.lingering = false }),
		}},
		{"scaled down, and then to be kept", four, []moment{
			is(setOf("web", 4, retention(keep, remove))), isAnd("data-web-2 data-web-3", setOf("web", 2, retention(keep, remove))),
			is(setOf("web", 2, retention(keep, keep))), is(setOf("web", 2, retention(keep, remove))),
		}},
		{"scaled down while volumes were kept", four, []moment{
			is(setOf("web", 4)), is(setOf("web", 2)), is(setOf("web", 2, retention(keep, remove))),
			isAnd("data-web-1", setOf("web", 1, retention(keep, remove))),
		}},
		{"volumes of one that was before", four, []moment{
			is(setOf("web", 4)), nothing(""), is(setOf("web", 1, retention(remove, remove))), nothing("data-web-0"),
		}},
		{"scaled down before a node has spoken", four, []moment{
			is(setOf("web", 4, retention(keep, remove))), isAnd("data-web-2 data-web-3", setOf("web", 2, retention(keep, remove))),
			then("data-web-2 data-web-3", func(h *holder) { h.silent = true }), then("data-web-2 data-web-3", func(h *holder) { h.silent = false }),
		}},
		{"the memory is lost after scaling down", four, []moment{
			is(setOf("web", 4, retention(keep, remove))), isAnd("data-web-2 data-web-3", setOf("web", 2, retention(keep, remove))),
			then("", func(h *holder) { h.Previous.Unclaimed = nil }),
		}},
		{"from another ordinal", four, []moment{
			is(setOf("web", 2, retention(keep, remove), from(1))), isAnd("data-web-1", setOf("web", 1, retention(keep, remove), from(2))),
		}},
		{"scaled down before its volumes were seen", []string{}, []moment{
			is(setOf("web", 2, retention(keep, remove))), then("", func(h *holder) { h.lingering = true; h.want(setOf("web", 1, retention(keep, remove))) }),
			then("data-web-1", func(h *holder) { h.lingering = false; h.volumes("data-web-0", "data-web-1") }),
		}},
		{"scaled down, a claim with an object of its own", four, []moment{
			is(setOf("web", 4, retention(keep, remove)), claimOf("data-web-3")), isAnd("data-web-2", setOf("web", 2, retention(keep, remove)), claimOf("data-web-3")),
		}},
		{"scaled down, a claim whose own object is held", four, []moment{
			is(setOf("web", 4, retention(keep, remove)), claimOf("data-web-3")), then("data-web-2", func(h *holder) {
				h.want(setOf("web", 2, retention(keep, remove)))
				h.hold(fleet.KindPersistentVolumeClaim, "data-web-3")
			}),
		}},
		{"deleted, nothing said", four, []moment{is(setOf("web", 4)), nothing("")}},
		{"deleted, to be kept", four, []moment{is(setOf("web", 4, retention(keep, remove))), nothing("")}},
		{"deleted", four, []moment{is(setOf("web", 4, retention(remove, keep))), nothing(strings.Join(four, " "))}},
		{"deleted, its claims said so", four, []moment{is(setOf("web", 4, pruning)), nothing(strings.Join(four, " "))}},
		{"deleted after it was scaled down", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), is(setOf("web", 0, retention(remove, keep))), nothing(strings.Join(four, " ")),
		}},
		{"deleted, and comes back", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), nothing(strings.Join(four, " ")), is(setOf("web", 1)), nothing(""),
		}},
		{"deleted with pods that take their time", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), then(strings.Join(four, " "), func(h *holder) { h.lingering = true; h.want() }),
			then(strings.Join(four, " "), func(h *holder) { h.lingering = false }),
			then("data-web-2", func(h *holder) { h.volumes("data-web-2") }), then("", func(h *holder) { h.volumes() }),
			then("", func(h *holder) { h.volumes(four...) }),
		}},
		{"deleted before its volumes were seen", []string{}, []moment{
			is(setOf("web", 1, retention(remove, keep))), then("", func(h *holder) { h.lingering = true; h.want() }),
			then("data-web-0", func(h *holder) { h.lingering = false; h.volumes("data-web-0") }),
		}},
		{"deleted before a node has spoken", four, []moment{
			is(setOf("web", 2, retention(remove, keep))), then("", func(h *holder) { h.silent = true; h.want() }),
			then("data-web-0 data-web-1", func(h *holder) { h.silent = false }),
		}},
		{"deleted before a node has spoken, and after it was scaled down", four, []moment{
			is(setOf("web", 2, retention(remove, keep))), is(setOf("web", 0, retention(remove, keep))),
			then("", func(h *holder) { h.silent = true; h.want() }), then("data-web-0 data-web-1", func(h *holder) { h.silent = false }),
		}},
		{"deleted, and the policy taken back before", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), is(setOf("web", 4)), nothing(""),
		}},
		{"deleted, and it is held", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), then("", func(h *holder) { h.want(); h.hold(fleet.KindStatefulSet, "web") }),
		}},
		{"deleted, and its source is not read", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), then("", func(h *holder) { h.Desired = fleet.Desired{} }),
		}},
		{"deleted, and its source is abandoned", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), then("", func(h *holder) { h.want(); h.Desired.Abandoned = map[fleet.SourceName]bool{"home": true} }),
			nothing(""),
		}},
		{"deleted, and the memory is lost", four, []moment{
			is(setOf("web", 4, retention(remove, keep))), then("", func(h *holder) { h.want(); h.Previous = fleet.Assignment{} }),
		}},
		{"deleted, a claim with an object of its own", four, []moment{
			is(setOf("web", 2, retention(remove, keep)), claimOf("data-web-1")), isAnd("data-web-0", claimOf("data-web-1")),
		}},
		{"deleted, names that look alike", []string{
			"data-web-01", "data-web--1", "data-web-1x", "data-web-x1", "data-web-", "data-web", "data-web-1-0", "data-web-+1", "data-web-99999999999", "data-web-18446744073709551617", "xdata-web-1", "data-web-1",
		}, []moment{is(setOf("web", 3, retention(remove, keep))), nothing("data-web-1")}},
		{"deleted, and another begins alike", []string{"data-web-0", "data-web-1", "data-web-1-0", "data-web-1-1"}, []moment{
			is(setOf("web", 2, retention(remove, keep)), setOf("web-1", 2)), isAnd("data-web-0 data-web-1", setOf("web-1", 2)),
		}},
		{"another begins alike and is deleted", []string{"data-web-0", "data-web-1", "data-web-1-0", "data-web-1-1"}, []moment{
			is(setOf("web", 2), setOf("web-1", 2, retention(remove, keep))), isAnd("data-web-1-0 data-web-1-1", setOf("web", 2)),
		}},
		{"deleted, and another's are called the same", []string{"data-web-x-0"}, []moment{ // data-web of x, and data of web-x
			is(setOf("x", 1, template("data-web"), retention(remove, keep)), setOf("web-x", 0)), is(setOf("web-x", 0)),
		}},
		{"another template", []string{"data-web-0", "log-web-0"}, []moment{is(setOf("web", 1, retention(remove, keep))), nothing("data-web-0")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &holder{FleetInput: FleetInput{Nodes: []fleet.Node{alpha}, Now: start}}
			if test.volumes == nil {
				test.volumes = []string{"data"}
			}
			h.volumes(test.volumes...)
			for i, m := range test.moments {
				m.happens(h)
				if got := h.decide(t); got != m.want {
					t.Fatalf("after %d: %q goes, want %q; remembered are %+v", i, got, m.want, h.Previous.Prunable)
				}
			}
		})
	}
}

// TestUnclaimedElsewhere: claims of the same name in another namespace are others.
func TestUnclaimedElsewhere(t *testing.T) {
	h := &holder{FleetInput: FleetInput{Nodes: []fleet.Node{alpha}, Now: start}}
	h.volumes("data", "data-web-0")
	for i := range h.Reports[0].Claims {
		h.Reports[0].Claims[i].Claim.Namespace = "default"
	}
	h.want(pruned("data", "true"), setOf("web", 1, pruning))
	h.decide(t)
	h.want()
	if got := h.decide(t); got != "" {
		t.Errorf("%s goes", got)
	}
}

// TestWithClaims: each pod of a StatefulSet has the claims that its templates make.
func TestWithClaims(t *testing.T) {
	names := func(d fleet.Desired) (list []string) {
		for o, claim := range fleet.Each[*corev1.PersistentVolumeClaim](d) {
			if claim.Name != o.ID.Name || claim.Namespace != o.ID.Namespace {
				t.Errorf("%s is called %s/%s", o.ID, claim.Namespace, claim.Name)
			}
			list = append(list, o.ID.Name+" "+claim.Annotations["by"])
		}
		if !slices.IsSortedFunc(d.Objects, func(a, b fleet.Object) int { return a.ID.Compare(b.ID) }) {
			t.Error("they are not in order")
		}
		return list
	}
	slot := func(set, pod string, claims ...string) fleet.Slot {
		return fleet.Slot{Identity: fleet.Identity{
			Pod: fleet.PodID{Namespace: "shop", Name: pod}, Owner: fleet.ObjectID{Kind: fleet.KindStatefulSet, Namespace: "shop", Name: set}, Claims: claims,
		}}
	}
	by := func(v *appsv1.StatefulSet) {
		v.Spec.VolumeClaimTemplates[0].Annotations = map[string]string{"by": "template"}
	}
	own := claimOf("data-web-0")
	own.Source = "other"
	for _, test := range []struct {
		name    string
		desired fleet.Desired
		slots   []fleet.Slot
		want    []string
	}{
		{"no pods", desiredOf(setOf("web", 2, by)), nil, nil},
		{"pods", desiredOf(setOf("web", 2, by)), []fleet.Slot{slot("web", "web-1", "data"), slot("web", "web-0", "data")}, []string{"data-web-0 template", "data-web-1 template"}},
		{"two pods of one name", desiredOf(setOf("web", 2, by)), []fleet.Slot{slot("web", "web-0", "data"), slot("web", "web-0", "data")}, []string{"data-web-0 template"}},
		{"a claim is there already", desiredOf(setOf("web", 2, by), own),
			[]fleet.Slot{slot("web", "web-0", "data"), slot("web", "web-1", "data")}, []string{"data-web-0 ", "data-web-1 template"}},
		{"a pod that was made without", desiredOf(setOf("web", 2, by)), []fleet.Slot{slot("web", "web-0")}, nil},
		{"the set is gone", desiredOf(setOf("other", 2, by)), []fleet.Slot{slot("web", "web-0", "data")}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := slices.Clone(test.desired.Objects)
			if d := gocmp.Diff(test.want, names(WithClaims(test.desired, test.slots))); d != "" {
				t.Error(d)
			}
			if d := gocmp.Diff(before, test.desired.Objects); d != "" {
				t.Errorf("what was handed in was changed: %s", d)
			}
		})
	}
}
