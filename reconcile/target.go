package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/workload"
)

// annotation is an object's own; empty where it has none of that name.
func annotation(o fleet.Object, name string) string {
	m, err := meta.Accessor(o.Value)
	if err != nil {
		return ""
	}
	return m.GetAnnotations()[name]
}

// rollsBack reports whether a workload goes back when a rollout fails.
func (d *decider) rollsBack(o fleet.Object) bool {
	if say := annotation(o, fleet.AnnotationOnFailure); say != "" {
		return say == fleet.OnFailureRollback
	}
	return d.in.Desired.Rollback[o.Source]
}

// target is what a workload should run, by Git and by what operators asked for.
func (d *decider) target(o fleet.Object, sets []fleet.Set) workload.Target {
	t := workload.Target{Want: o.Hash, From: o.Revision}
	if annotation(o, fleet.AnnotationRestartOnConfig) == "true" {
		t.Stamp.Config = configOf(d.in.Desired, o.ID.Namespace, &o.Template.Spec)
	}
	if undo, ok := d.asked(o.ID, fleet.Undo); ok {
		at := slices.IndexFunc(sets, func(s fleet.Set) bool { return s.Number == undo.Number || slices.Contains(s.Former, undo.Number) })
		if at >= 0 {
			for i := range sets { // one that was restarted since goes on
				if sets[i].Want == sets[at].Want && sets[i].Stamp.Restarted.After(undo.At) && sets[i].Stamp.Restarted.After(sets[at].Stamp.Restarted) {
					at = i
				}
			}
			t = workload.Of(&sets[at])
		} else {
			d.note(o.ID, "there is no revision %d to go back to: it runs what Git says", undo.Number)
		}
	}
	if restart, ok := d.asked(o.ID, fleet.Restart); ok && restart.At.After(t.Stamp.Restarted) {
		t.Set, t.Stamp.Restarted = fleet.ObjectID{}, restart.At.UTC()
	}
	return t
}

// forgetDone drops intents of a workload that have been done: a restart that the rollout goes to, a resume that nothing waits
// for.
func (d *decider) forgetDone(id fleet.ObjectID, waits bool) {
	target, ok := d.sets[d.rollouts[id].Target]
	for _, i := range d.intents[id] {
		switch i.Verb {
		case fleet.Restart:
			if ok && !target.Stamp.Restarted.Before(i.At) {
				d.drop(i)
			}
		case fleet.Resume:
			if i.Git == "false" && !waits {
				d.drop(i)
			}
		}
	}
}

// configOf hashes the ConfigMaps and Secrets that a template uses. It is empty while one of them that must be
// there is not known: what cannot start is no reason to stop what runs.
//
// The hash stands in labels and in the store. It is cut to 32 bits, so that nobody can tell from it what a Secret holds who
// could not guess it otherwise.
func configOf(desired fleet.Desired, namespace string, spec *corev1.PodSpec) fleet.Hash {
	sum := sha256.New()
	for _, use := range configUses(spec) {
		object, ok := desired.Find(fleet.ObjectID{Kind: use.kind, Namespace: namespace, Name: use.name})
		switch {
		case ok:
		case use.optional:
			continue
		default:
			return ""
		}
		var content any
		switch v := object.Value.(type) {
		case *corev1.ConfigMap:
			content = []any{use.kind, use.name, v.Data, v.BinaryData}
		case *corev1.Secret:
			content = []any{use.kind, use.name, v.Data}
		}
		raw, err := json.Marshal(content)
		if err != nil {
			return ""
		}
		_, _ = sum.Write(raw)
		_, _ = sum.Write([]byte{0})
	}
	return fleet.Hash(hex.EncodeToString(sum.Sum(nil)[:4]))
}

// configUse is a ConfigMap or Secret that a template uses.
type configUse struct {
	kind, name string
	optional   bool
}

// configUses are the ConfigMaps and Secrets of a template, in order, each once; optional where it is everywhere.
func configUses(spec *corev1.PodSpec) []configUse {
	must := map[configUse]bool{}
	use := func(kind, name string, optional *bool) {
		if name != "" {
			u := configUse{kind: kind, name: name}
			must[u] = must[u] || optional == nil || !*optional
		}
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.ConfigMap != nil {
			use(fleet.KindConfigMap, v.ConfigMap.Name, v.ConfigMap.Optional)
		}
		if v.Secret != nil {
			use(fleet.KindSecret, v.Secret.SecretName, v.Secret.Optional)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				use(fleet.KindConfigMap, s.ConfigMap.Name, s.ConfigMap.Optional)
			}
			if s.Secret != nil {
				use(fleet.KindSecret, s.Secret.Name, s.Secret.Optional)
			}
		}
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, f := range c.EnvFrom {
			if f.ConfigMapRef != nil {
				use(fleet.KindConfigMap, f.ConfigMapRef.Name, f.ConfigMapRef.Optional)
			}
			if f.SecretRef != nil {
				use(fleet.KindSecret, f.SecretRef.Name, f.SecretRef.Optional)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				use(fleet.KindConfigMap, r.Name, r.Optional)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				use(fleet.KindSecret, r.Name, r.Optional)
			}
		}
	}
	var uses []configUse
	for u, needed := range must {
		u.optional = !needed
		uses = append(uses, u)
	}
	slices.SortFunc(uses, func(a, b configUse) int {
		return fleet.ObjectID{Kind: a.kind, Name: a.name}.Compare(fleet.ObjectID{Kind: b.kind, Name: b.name})
	})
	return uses
}
