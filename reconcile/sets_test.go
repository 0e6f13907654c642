package reconcile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

func mapOf(name, value string) fleet.Object {
	return objectOf(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string]string{"key": value}})
}

func secretOf(name, value string) fleet.Object {
	return objectOf(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string][]byte{"key": []byte(value)}})
}

// users is what each way of using a ConfigMap or Secret makes of a pod.
var users = []struct {
	name string
	kind string
	use  func(s *corev1.PodSpec, optional bool)
}{
	{"a volume", fleet.KindConfigMap, func(s *corev1.PodSpec, optional bool) {
		s.Volumes = []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}}}}
	}},
	{"a secret volume", fleet.KindSecret, func(s *corev1.PodSpec, optional bool) {
		s.Volumes = []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "conf", Optional: &optional}}}}
	}},
	{"a projection", fleet.KindConfigMap, func(s *corev1.PodSpec, optional bool) {
		s.Volumes = []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}},
		}}}}}
	}},
	{"a projected secret", fleet.KindSecret, func(s *corev1.PodSpec, optional bool) {
		s.Volumes = []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}},
		}}}}}
	}},
	{"all variables", fleet.KindConfigMap, func(s *corev1.PodSpec, optional bool) {
		s.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}}}
	}},
	{"all variables of a secret", fleet.KindSecret, func(s *corev1.PodSpec, optional bool) {
		s.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Optional: &optional}}}
	}},
	{"a variable", fleet.KindConfigMap, func(s *corev1.PodSpec, optional bool) {
		s.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "key", Optional: &optional}}}}
	}},
	{"a secret variable of an initial container", fleet.KindSecret, func(s *corev1.PodSpec, optional bool) {
		s.InitContainers = []corev1.Container{{Name: "one", Image: "i:1", Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}, Key: "key", Optional: &optional,
		}}}}}}
	}},
}

func conf(kind, value string) fleet.Object {
	if kind == fleet.KindSecret {
		return secretOf("conf", value)
	}
	return mapOf("conf", value)
}

// configured is a workload of a kind that uses conf, and follows it where on is "true".
func configured(kind, on string, optional bool, use func(*corev1.PodSpec, bool)) fleet.Object {
	var o fleet.Object
	switch kind {
	case fleet.KindStatefulSet:
		o = statefulOf("x", 2, "a:1", func(s *appsv1.StatefulSet) { use(&s.Spec.Template.Spec, optional) })
	case fleet.KindDaemonSet:
		o = daemonOf("x", "a:1", func(s *appsv1.DaemonSet) { use(&s.Spec.Template.Spec, optional) })
	default:
		o = deploymentOf("x", 2, "a:1", func(d *appsv1.Deployment) { use(&d.Spec.Template.Spec, optional) })
	}
	if on == "" {
		return o
	}
	return saying(o, fleet.AnnotationRestartOnConfig, on)
}

func TestRestartOnConfig(t *testing.T) {
	for _, kind := range []string{fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet} {
		for _, u := range users {
			t.Run(kind+" "+u.name, func(t *testing.T) {
				on := func(value string, optional bool) []fleet.Object {
					return []fleet.Object{configured(kind, "true", optional, u.use), conf(u.kind, value)}
				}
				c := newCrowd(t, 2, on("one", false)...).settle()
				id := c.desired.Objects[len(c.desired.Objects)-1].ID
				for _, o := range c.desired.Objects {
					if o.Template != nil {
						id = o.ID
					}
				}
				c.wantHas(id, "a:1×2")
				before := c.uids()
				same := func(what string) {
					t.Helper()
					if d := gocmp.Diff(before, c.uids()); d != "" {
						t.Errorf("%s: restarted: %s", what, d)
					}
					before = c.uids()
				}
				rolled := func(what string) {
					t.Helper()
					if slices.ContainsFunc(c.uids(), func(uid string) bool { return slices.Contains(before, uid) }) {
						t.Errorf("%s: not all were restarted\n%s", what, c)
					}
					before = c.uids()
					c.wantHas(id, "a:1×2")
				}
				c.push(on("one", false)...).settle()
				same("nothing changed")
				c.push(append(on("one", false), mapOf("other", "x"))...).settle()
				same("another map")
				c.loseStore().settle()
				same("the store is lost")
				c.push(on("two", false)...).settle()
				rolled("changed")
				c.loseStore().settle()
				same("the store is lost after a change")
				c.push(configured(kind, "true", false, u.use)).settle()
				same("it is missing")
				c.push(on("two", false)...).settle()
				same("it is back as it was")
				c.push(on("three", false)...).settle()
				rolled("changed again")
				c.push(on("two", false)...).settle()
				rolled("back to what it was")
				c.push(configured(kind, "false", false, u.use), conf(u.kind, "two")).settle()
				same("switched off")
				c.push(configured(kind, "", false, u.use), conf(u.kind, "four")).settle()
				same("changed while it is off")
			})
		}
	}
}

func TestRestartOnConfigSwitchedOn(t *testing.T) {
	for _, kind := range []string{fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet} {
		t.Run(kind, func(t *testing.T) {
			use := users[0].use
			c := newCrowd(t, 2, configured(kind, "", false, use), mapOf("conf", "one")).settle()
			before := c.uids()
			c.push(configured(kind, "true", false, use), mapOf("conf", "one")).settle()
			if d := gocmp.Diff(before, c.uids()); d != "" {
				t.Errorf("switched on: restarted: %s", d)
			}
			c.loseStore().settle()
			if d := gocmp.Diff(before, c.uids()); d != "" {
				t.Errorf("switched on and the store lost: restarted: %s", d)
			}
			c.push(configured(kind, "true", false, use), mapOf("conf", "two")).settle()
			if slices.ContainsFunc(c.uids(), func(uid string) bool { return slices.Contains(before, uid) }) {
				t.Errorf("changed since: not all were restarted\n%s", c)
			}
		})
	}
	t.Run("in the middle of a rollout", func(t *testing.T) {
		use := users[0].use
		c := newCrowd(t, 1, configured(fleet.KindDeployment, "", false, use), mapOf("conf", "one")).settle()
		next := func(on string) fleet.Object {
			o := deploymentOf("x", 2, "a:2", func(d *appsv1.Deployment) { use(&d.Spec.Template.Spec, false) })
			if on == "" {
				return o
			}
			return saying(o, fleet.AnnotationRestartOnConfig, on)
		}
		c.push(next(""), mapOf("conf", "one"))
		c.pass()
		c.push(next("true"), mapOf("conf", "one")).settle()
		if len(c.stored.Sets) != 2 {
			t.Errorf("%d sets", len(c.stored.Sets))
		}
	})
	t.Run("missing at first, then there", func(t *testing.T) {
		use := users[0].use
		c := newCrowd(t, 1, configured(fleet.KindDeployment, "true", false, use)).settle()
		before := c.uids()
		c.push(configured(fleet.KindDeployment, "true", false, use), mapOf("conf", "one")).settle()
		if d := gocmp.Diff(before, c.uids()); d != "" {
			t.Errorf("its pods waited for it, and are restarted for it: %s", d)
		}
	})
	t.Run("an optional one comes", func(t *testing.T) {
		use := users[0].use
		c := newCrowd(t, 1, configured(fleet.KindDeployment, "true", true, use)).settle()
		before := c.uids()
		c.push(configured(fleet.KindDeployment, "true", true, use), mapOf("conf", "one")).settle()
		if slices.ContainsFunc(c.uids(), func(uid string) bool { return slices.Contains(before, uid) }) {
			t.Errorf("the pods run without it, and are not restarted\n%s", c)
		}
	})
	t.Run("a change that comes with a push is one rollout", func(t *testing.T) {
		use := users[0].use
		c := newCrowd(t, 1, configured(fleet.KindDeployment, "true", false, use), mapOf("conf", "one")).settle()
		o := saying(deploymentOf("x", 2, "a:2", func(d *appsv1.Deployment) { use(&d.Spec.Template.Spec, false) }), fleet.AnnotationRestartOnConfig, "true")
		c.push(o, mapOf("conf", "two")).settle()
		if len(c.stored.Sets) != 2 {
			t.Errorf("%d sets", len(c.stored.Sets))
		}
	})
	t.Run("pods of two configurations make room", func(t *testing.T) {
		with := func(on, image string, replicas int32) fleet.Object {
			o := deploymentOf("x", replicas, image, func(d *appsv1.Deployment) {
				users[0].use(&d.Spec.Template.Spec, false)
				d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
			})
			return saying(o, fleet.AnnotationRestartOnConfig, on)
		}
		c := newCrowd(t, 1)
		c.bad["bad:1"] = true
		c.push(with("true", "bad:1", 2), mapOf("conf", "one")).settle()
		c.push(with("false", "bad:1", 4), mapOf("conf", "two")).settle()
		c.push(with("true", "a:2", 1), mapOf("conf", "one"))
		c.decide()
		for _, s := range c.stored.Slots {
			if s.Goal == fleet.Run {
				t.Errorf("%s stays", s.Pod)
			}
		}
	})
	t.Run("beside a restart", func(t *testing.T) {
		use := users[0].use
		c := newCrowd(t, 1, configured(fleet.KindDeployment, "true", false, use), mapOf("conf", "one")).settle()
		id := fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "x"}
		i := c.asks(id, fleet.Restart)
		c.settle()
		c.push(configured(fleet.KindDeployment, "true", false, use), mapOf("conf", "two")).settle()
		for _, p := range c.pods(id) {
			if p.Stamp.Config == "" {
				t.Errorf("%s has the stamp %+v", p.Pod, p.Stamp)
			}
		}
		before := c.uids()
		c.intents = []fleet.Intent{i} // it was not deleted in time
		c.settle()
		if d := gocmp.Diff(before, c.uids()); d != "" {
			t.Logf("an old restart is done once more after a change of configuration: %s", d)
		}
	})
}

// Only what a template uses counts, and which kind of object it is.
func TestConfigOf(t *testing.T) {
	o := configured(fleet.KindDeployment, "true", false, users[0].use)
	of := func(objects ...fleet.Object) fleet.Hash {
		return configOf(desiredOf(append(objects, o)...), o.ID.Namespace, &o.Template.Spec)
	}
	one := of(mapOf("conf", "one"))
	if of(mapOf("conf", "one"), mapOf("other", "x"), secretOf("conf", "y")) != one {
		t.Error("what it does not use counts")
	}
	if of(mapOf("conf", "two")) == one {
		t.Error("a change does not count")
	}
	if of() != "" || of(secretOf("conf", "one")) != "" {
		t.Error("without it there must be no hash")
	}
	noted := mapOf("conf", "one")
	noted.Value.(*corev1.ConfigMap).Annotations, noted.Revision, noted.Line = map[string]string{"a": "b"}, "r9", 7
	if of(noted) != one {
		t.Error("an annotation or a moved file counts")
	}
	immutable := mapOf("conf", "one")
	yes := true
	immutable.Value.(*corev1.ConfigMap).Immutable = &yes
	if of(immutable) != one {
		t.Error("immutable counts")
	}
	plain := deploymentOf("x", 2, "a:1")
	of = func(objects ...fleet.Object) fleet.Hash {
		return configOf(desiredOf(append(objects, plain)...), plain.ID.Namespace, &plain.Template.Spec)
	}
	if of() != of(mapOf("conf", "one")) {
		t.Error("a template that uses nothing has a hash of something")
	}
}

// A Secret's content is nowhere but in 32 bits of a hash.
func TestConfigHashTellsLittle(t *testing.T) {
	const content = "correct horse battery staple"
	use := users[1].use
	c := newCrowd(t, 1, configured(fleet.KindDeployment, "true", false, use), secretOf("conf", content)).settle()
	c.now = c.now.Add(time.Minute)
	c.push(configured(fleet.KindDeployment, "true", false, use), secretOf("conf", content+"!")).settle()
	for _, p := range c.pods(fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: "x"}) {
		if raw, err := hex.DecodeString(string(p.Stamp.Config)); err != nil || len(raw) > 4 {
			t.Errorf("the stamp %q is no hash of 32 bits: %v", p.Stamp.Config, err)
		}
	}
	everything := encode(c.stored) + encode(c.last)
	for _, s := range c.stored.Slots {
		for k, v := range s.Labels() {
			everything += " " + k + "=" + v
		}
		everything += encode(PodOf(s, &corev1.PodTemplateSpec{}))
	}
	for _, text := range []string{content, content + "!"} {
		sum := sha256.Sum256([]byte(text))
		for _, secret := range []string{text, base64.StdEncoding.EncodeToString([]byte(text)), hex.EncodeToString(sum[:])[:16], hex.EncodeToString([]byte(text))} {
			if strings.Contains(everything, secret) {
				t.Errorf("%q stands in what is stored", secret)
			}
		}
	}
}
