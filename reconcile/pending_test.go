package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-dev/skerry/fleet"
)

func asking(cpu string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
}

func ofClass(name string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.PriorityClassName = name }
}

func classOf(name string, value int32, change ...func(*schedulingv1.PriorityClass)) fleet.Object {
	v := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	for _, f := range change {
		f(v)
	}
	return fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindPriorityClass, Name: name}, Source: "home", Revision: "r1", Value: v}
}

// called is a Deployment of its own name, whose pods nobody takes for another's.
func called(name string, replicas int32, change ...func(*corev1.PodSpec)) fleet.Object {
	return deploymentOf(name, replicas, name+":1", func(d *appsv1.Deployment) {
		d.Spec.Template.Labels = map[string]string{"app": name}
		d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		for _, f := range change {
			f(&d.Spec.Template.Spec)
		}
	})
}

func idOf(name string) fleet.ObjectID {
	return fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "shop", Name: name}
}

// sized is a fleet whose nodes have so much to give.
func sized(t *testing.T, nodes int, cpu string, objects ...fleet.Object) *crowd {
	c := newCrowd(t, nodes, objects...)
	for _, n := range c.known {
		n.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	return c
}

// TestPending: what fits nowhere waits with the reason, and gets its node when there is room.
func TestPending(t *testing.T) {
	c := sized(t, 2, "1", webLike(3, asking("800m"))).settle()
	c.wantSpread(webID, "nowhere×1 alpha×1 beta×1")
	waiting := c.on("", webID)
	c.wantNote(waiting.Pod.Object(), "0/2 nodes are available: 2 Insufficient cpu.")
	c.after(time.Hour)
	if c.on("", webID).UID != waiting.UID {
		t.Errorf("another pod waits now\n%s", c)
	}
	c.known["beta"].Allocatable[corev1.ResourceCPU] = resource.MustParse("2")
	c.settle()
	c.wantSpread(webID, "alpha×1 beta×2")
	if !c.runs(waiting.UID) {
		t.Errorf("the pod that waited was not the one that got the room\n%s", c)
	}
}

// TestPendingVanishes: what is not wanted any more while it waits is gone at once, and its name is free.
func TestPendingVanishes(t *testing.T) {
	for name, next := range map[string][]fleet.Object{
		"scaled down": {webLike(1, asking("800m"))},
		"replaced":    {deploymentOf("web", 3, "a:2", func(d *appsv1.Deployment) { asking("800m")(&d.Spec.Template.Spec) })},
		"cheaper":     {webLike(3, asking("50m"))},
		"gone":        {called("other", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			c := sized(t, 1, "1", webLike(3, asking("800m"))).settle()
			c.wantSpread(webID, "nowhere×2 alpha×1")
			c.push(next...).settle()
			for _, s := range c.stored.Slots {
				if s.Node == "" && s.Goal == fleet.Drain {
					t.Errorf("%s never ran and is being stopped\n%s", s.Pod, c)
				}
			}
			switch name {
			case "scaled down":
				c.wantSpread(webID, "alpha×1")
			case "replaced": // the one that runs stays until another is available
				if got := c.has(webID); !strings.Contains(got, "a:2") {
					t.Errorf("has %s\n%s", got, c)
				}
			case "cheaper":
				c.wantSpread(webID, "alpha×3")
			default:
				c.wantSpread(webID, "")
			}
		})
	}
	t.Run("a StatefulSet's name is free again", func(t *testing.T) {
		db := func(cpu string) fleet.Object {
			return statefulOf("db", 1, "a:1", func(s *appsv1.StatefulSet) { asking(cpu)(&s.Spec.Template.Spec) })
		}
		c := sized(t, 1, "1", db("2")).settle()
		c.wantSpread(dbID, "nowhere×1")
		c.push(db("500m")).settle() // Kubernetes would wait for somebody to delete the one that waits
		c.wantSpread(dbID, "alpha×1")
	})
	t.Run("a bare pod", func(t *testing.T) {
		bare := func(cpu string) fleet.Object {
			return podOf("bare", "a:1", func(p *corev1.Pod) { asking(cpu)(&p.Spec) })
		}
		c := sized(t, 1, "1", bare("2")).settle()
		c.push(bare("500m")).settle()
		c.wantSpread(fleet.ObjectID{Kind: fleet.KindPod, Namespace: "shop", Name: "bare"}, "alpha×1")
	})
}

// TestPendingOfEveryKind: each kind waits, and gets there.
func TestPendingOfEveryKind(t *testing.T) {
	one := int32(1)
	limit := int32(6)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "run"}, Spec: batchv1.JobSpec{
		Template: templateOf("a:1"), Completions: &one, Parallelism: &one, BackoffLimit: &limit,
	}}
	asking("2")(&j.Spec.Template.Spec)
	for _, o := range []fleet.Object{
		webLike(2, asking("2")),
		statefulOf("db", 2, "a:1", func(s *appsv1.StatefulSet) { asking("2")(&s.Spec.Template.Spec) }),
		daemonOf("log", "a:1", func(s *appsv1.DaemonSet) { asking("2")(&s.Spec.Template.Spec) }),
		podOf("bare", "a:1", func(p *corev1.Pod) { asking("2")(&p.Spec) }),
		workloadOf(fleet.KindJob, j, &j.Spec.Template),
	} {
		t.Run(o.ID.Kind, func(t *testing.T) {
			c := sized(t, 1, "1", o).settle()
			if got := c.spread(o.ID); strings.Contains(got, "alpha") {
				t.Fatalf("runs on %s", got)
			}
			c.known["alpha"].Allocatable[corev1.ResourceCPU] = resource.MustParse("8")
			c.settle()
			if got := c.spread(o.ID); strings.Contains(got, "nowhere") || got == "" {
				t.Errorf("runs on %q\n%s", got, c)
			}
		})
	}
}

// TestImportantFirst: of those that wait the important ones get the room.
func TestImportantFirst(t *testing.T) {
	never := func(c *schedulingv1.PriorityClass) {
		policy := corev1.PreemptNever
		c.PreemptionPolicy = &policy
	}
	c := sized(t, 1, "1", called("a-low", 1, asking("1")), called("b-high", 1, asking("1"), ofClass("high")), classOf("high", 10, never)).settle()
	c.wantSpread(idOf("a-low"), "nowhere×1")
	c.wantSpread(idOf("b-high"), "alpha×1")
}

// TestPriorities: where a pod's priority comes from.
func TestPriorities(t *testing.T) {
	never, value := corev1.PreemptNever, int32(7)
	usual := func(c *schedulingv1.PriorityClass) { c.GlobalDefault, c.PreemptionPolicy = true, &never }
	d := newDecider(FleetInput{Desired: desiredOf(classOf("high", 10, func(c *schedulingv1.PriorityClass) { c.PreemptionPolicy = &never }), classOf("usual", 5, usual), classOf("another", 9, usual))})
	lower := corev1.PreemptLowerPriority
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"class":             {corev1.PodSpec{PriorityClassName: "high"}, "10 Never"},
		"policy of its own": {corev1.PodSpec{PriorityClassName: "high", PreemptionPolicy: &lower}, "10 PreemptLowerPriority"},
		"the lowest usual":  {corev1.PodSpec{}, "5 Never"},
		"a number":          {corev1.PodSpec{Priority: &value}, "7 Never"},
		"node":              {corev1.PodSpec{PriorityClassName: "system-node-critical"}, "2000001000 "},
		"cluster":           {corev1.PodSpec{PriorityClassName: "system-cluster-critical"}, "2000000000 "},
		"none such":         {corev1.PodSpec{PriorityClassName: "gone"}, "0 "},
	} {
		got, policy := d.priority(&c.spec)
		text := fmt.Sprintf("%d ", got)
		if policy != nil {
			text += string(*policy)
		}
		if text != c.want {
			t.Errorf("%s: got %s, want %s", name, text, c.want)
		}
	}
}

// TestClassless: a pod that names a PriorityClass that there is not is not made, and one that runs stays.
func TestClassless(t *testing.T) {
	c := newCrowd(t, 1, webLike(1, ofClass("high"))).settle()
	c.wantHas(webID, "")
	c.wantNote(webID, "no PriorityClass with name high was found")
	c.push(webLike(1, ofClass("high")), classOf("high", 10)).settle()
	c.wantHas(webID, "a:1×1")
	c.push(webLike(2, ofClass("high"))).settle()
	c.wantHas(webID, "a:1×1")
}

// TestPreemption: the important get the room of the unimportant, which wait for another; nobody goes for equals.
func TestPreemption(t *testing.T) {
	c := sized(t, 1, "1", called("low", 2, asking("500m"))).settle()
	c.wantSpread(idOf("low"), "alpha×2")
	c.push(called("low", 2, asking("500m")), called("high", 1, asking("500m"), ofClass("high")), classOf("high", 10))
	c.rounds(1)
	c.wantNote(c.on("", idOf("high")).Pod.Object(), "0/1 nodes are available: 1 Insufficient cpu. It waits for pods that leave node alpha.")
	c.settle()
	c.wantSpread(idOf("high"), "alpha×1")
	c.wantSpread(idOf("low"), "nowhere×1 alpha×1")
	c.push(called("low", 2, asking("500m"))).settle()
	c.wantSpread(idOf("low"), "alpha×2")
}

// TestPreemptionWaits: while the one that goes takes its time, nobody else has to go.
func TestPreemptionWaits(t *testing.T) {
	objects := []fleet.Object{called("low", 2, asking("500m"))}
	c := sized(t, 1, "1", objects...).settle()
	c.hosts["alpha"].slow = true
	c.push(append(objects, called("high", 1, asking("500m"), ofClass("high")), classOf("high", 10))...)
	c.rounds(5)
	c.after(time.Minute)
	c.wantSpread(idOf("low"), "nowhere×1 alpha×1")
	c.wantNote(c.on("", idOf("high")).Pod.Object(), "It waits for pods that leave node alpha.")
	c.hosts["alpha"].slow = false
	c.settle()
	c.wantSpread(idOf("high"), "alpha×1")
	c.wantSpread(idOf("low"), "nowhere×1 alpha×1")
}

// TestPreemptionKeepsTheRoom: nobody takes what an important pod waits for, not even while there is room for the others and not
// yet for it.
func TestPreemptionKeepsTheRoom(t *testing.T) {
	objects := []fleet.Object{called("low", 1, asking("500m"))}
	c := sized(t, 1, "1", objects...).settle()
	c.hosts["alpha"].slow = true
	c.push(append(objects, called("high", 1, asking("1"), ofClass("high")), classOf("high", 10))...)
	c.rounds(5)
	c.wantSpread(idOf("low"), "nowhere×1")
	c.hosts["alpha"].slow = false
	c.settle()
	c.wantSpread(idOf("high"), "alpha×1")
	c.wantSpread(idOf("low"), "nowhere×1")
}

// daemonAsking is a DaemonSet whose pods are as said.
func daemonAsking(image string, change ...func(*corev1.PodSpec)) fleet.Object {
	return daemonOf("log", image, func(s *appsv1.DaemonSet) {
		for _, f := range change {
			f(&s.Spec.Template.Spec)
		}
	})
}

// TestPreemptionOfDaemons: a DaemonSet's pod goes for a more important one, and the next waits until there is room again.
func TestPreemptionOfDaemons(t *testing.T) {
	c := sized(t, 1, "1", daemonAsking("l:1", asking("500m"))).settle()
	c.push(daemonAsking("l:1", asking("500m")), called("high", 1, asking("1"), ofClass("high")), classOf("high", 10)).settle()
	c.wantSpread(idOf("high"), "alpha×1")
	c.wantSpread(logID, "nowhere×1")
	waiting := c.on("", logID)
	c.after(time.Hour)
	if c.on("", logID).UID != waiting.UID {
		t.Errorf("another pod waits now\n%s", c)
	}
	c.push(daemonAsking("l:1", asking("500m"))).settle()
	c.wantSpread(logID, "alpha×1")
}

// TestPendingDaemon: a DaemonSet's pod waits for the node that it is for, and for no other, with the reason; it makes others go that are
// less important, and what has no room there is left out by another template.
func TestPendingDaemon(t *testing.T) {
	full := func() fleet.Object { return called("full", 1, asking("800m"), onlyOn("alpha")) }
	c := sized(t, 3, "1", full()).settle()
	c.push(full(), daemonAsking("l:1", asking("500m"))).settle()
	c.wantSpread(logID, "nowhere×1 beta×1 gamma×1")
	waiting := c.on("", logID)
	c.wantNote(waiting.Pod.Object(), "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector.")
	if s := c.view().DaemonSets()[0].Status; s.DesiredNumberScheduled != 3 || s.CurrentNumberScheduled != 3 || s.NumberReady != 2 || s.NumberUnavailable != 1 {
		t.Errorf("%+v", s)
	}
	c.after(time.Hour)
	if c.on("", logID).UID != waiting.UID {
		t.Errorf("another pod waits now\n%s", c)
	}
	c.push(full(), daemonAsking("l:2", asking("200m"))).settle()
	c.wantSpread(logID, "alpha×1 beta×1 gamma×1")
	c.push(full(), daemonAsking("l:3", asking("500m"))).settle()
	c.wantSpread(logID, "nowhere×1 beta×1 gamma×1")
	c.push(daemonAsking("l:3", asking("500m"))).settle()
	c.wantSpread(logID, "alpha×1 beta×1 gamma×1")

	surging := func(image, cpu string) fleet.Object {
		return daemonOf("log", image, func(s *appsv1.DaemonSet) {
			one, none := intstr.FromInt32(1), intstr.FromInt32(0)
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: &one, MaxUnavailable: &none}
			asking(cpu)(&s.Spec.Template.Spec)
		})
	}
	c = sized(t, 2, "1", full()).settle()
	c.push(full(), surging("l:1", "500m")).settle()
	c.wantSpread(logID, "nowhere×1 beta×1")
	c.push(full(), surging("l:2", "200m")).settle()
	c.wantSpread(logID, "alpha×1 beta×1")

	c = sized(t, 2, "1", full()).settle()
	c.push(full(), daemonAsking("l:1", asking("500m"), ofClass("high")), classOf("high", 10)).settle()
	c.wantSpread(logID, "alpha×1 beta×1")
	c.wantSpread(idOf("full"), "nowhere×1")
}

// TestPendingDaemonPort: a port of the host that somebody has is waited for.
func TestPendingDaemonPort(t *testing.T) {
	port := func(s *corev1.PodSpec) {
		s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
	}
	c := newCrowd(t, 2, called("front", 1, port, onlyOn("beta"))).settle()
	c.push(called("front", 1, port, onlyOn("beta")), daemonAsking("l:1", port)).settle()
	c.wantSpread(logID, "nowhere×1 alpha×1")
	c.wantNote(c.on("", logID).Pod.Object(), "1 node(s) didn't have free ports for the requested pod ports")
	c.push(daemonAsking("l:1", port)).settle()
	c.wantSpread(logID, "alpha×1 beta×1")
	c.push(daemonAsking("l:2", port)).settle() // the old pod's port is free before the new one comes
	c.wantSpread(logID, "alpha×1 beta×1")
}

// TestPendingDaemonLosesItsNode: what waits for a node that should have none any more waits no longer.
func TestPendingDaemonLosesItsNode(t *testing.T) {
	c := sized(t, 2, "1", daemonAsking("l:1", asking("2"))).settle()
	c.wantSpread(logID, "nowhere×2")
	c.push(daemonAsking("l:1", asking("2"), onlyOn("beta"))).settle()
	c.wantSpread(logID, "nowhere×1")
	c.wantNote(c.on("", logID).Pod.Object(), "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector.")
}

// TestPreemptionAndBudgets: those go whose budget allows it, where there is a choice, counted together.
func TestPreemptionAndBudgets(t *testing.T) {
	objects := func() []fleet.Object {
		return []fleet.Object{webLike(2, asking("500m"), onlyOn("alpha")), called("low", 2, asking("500m"), onlyOn("beta")), budgetOf("one", 1)}
	}
	c := sized(t, 2, "1", objects()...).settle()
	c.wantSpread(webID, "alpha×2")
	c.push(append(objects(), called("high", 1, asking("1"), ofClass("high")), classOf("high", 10))...).settle()
	c.wantSpread(idOf("high"), "beta×1")
	c.wantSpread(webID, "alpha×2")
}

func onlyOn(node string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{corev1.LabelHostname: node} }
}

// TestPendingSurplus: what nothing runs of is not waited for, in whatever order a StatefulSet goes down.
func TestPendingSurplus(t *testing.T) {
	db := func(replicas int32, policy appsv1.PodManagementPolicyType) fleet.Object {
		return statefulOf("db", replicas, "a:1", func(s *appsv1.StatefulSet) {
			s.Spec.PodManagementPolicy = policy
			asking("800m")(&s.Spec.Template.Spec)
		})
	}
	c := sized(t, 1, "1", db(4, appsv1.ParallelPodManagement)).settle()
	c.wantSpread(dbID, "nowhere×3 alpha×1")
	c.push(db(1, appsv1.OrderedReadyPodManagement)).settle()
	c.wantSpread(dbID, "alpha×1")
}
