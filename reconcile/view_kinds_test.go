package reconcile

import (
	"cmp"

	"fmt"
	"os"

	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sigs.k8s.io/yaml"

	"github.com/skerry-dev/skerry/fleet"
)

// kindOf reads one document of namespace shop as a source would, with the defaults that matter here.
func kindOf(t testing.TB, text string) fleet.Object {
	t.Helper()
	read := func(v runtime.Object) {
		if err := yaml.UnmarshalStrict([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	var template *corev1.PodTemplateSpec
	o := fleet.Object{Source: "home", Revision: "r1"}
	kind := strings.TrimPrefix(strings.Split(text, "\n")[0], "kind: ")
	switch kind {
	case fleet.KindDeployment:
		v := &appsv1.Deployment{}
		read(v)
		v.Spec.Replicas = orOne(v.Spec.Replicas)
		o.Value, o.ID.Name, template = v, v.Name, &v.Spec.Template
	case fleet.KindStatefulSet:
		v := &appsv1.StatefulSet{}
		read(v)
		v.Spec.Replicas = orOne(v.Spec.Replicas)
		o.Value, o.ID.Name, template = v, v.Name, &v.Spec.Template
	case fleet.KindDaemonSet:
		v := &appsv1.DaemonSet{}
		read(v)
		o.Value, o.ID.Name, template = v, v.Name, &v.Spec.Template
	case fleet.KindJob:
		v := &batchv1.Job{}
		read(v)
		defaultJob(&v.Spec)
		o.Value, o.ID.Name, template = v, v.Name, &v.Spec.Template
	case fleet.KindCronJob:
		v := &batchv1.CronJob{}
		read(v)
		defaultJob(&v.Spec.JobTemplate.Spec)
		o.Value, o.ID.Name, template = v, v.Name, &v.Spec.JobTemplate.Spec.Template
	case fleet.KindAutoscaler:
		v := &autoscalingv2.HorizontalPodAutoscaler{}
		read(v)
		o.Value, o.ID.Name = v, v.Name
	case fleet.KindDisruptionBudget:
		v := &policyv1.PodDisruptionBudget{}
		read(v)
		o.Value, o.ID.Name = v, v.Name
	case fleet.KindQuota:
		v := &corev1.ResourceQuota{}
		read(v)
		o.Value, o.ID.Name = v, v.Name
	case fleet.KindLimitRange:
		v := &corev1.LimitRange{}
		read(v)
		o.Value, o.ID.Name = v, v.Name
	default:
		t.Fatalf("kind %q", kind)
	}
	o.ID.Kind, o.ID.Namespace = kind, "shop"
	if template != nil {
		o.Template = template.DeepCopy()
		o.Hash = fleet.HashTemplate(o.Template)
		defaultSpec(&template.Spec)
	}
	return o
}

func defaultJob(s *batchv1.JobSpec) {
	s.Parallelism, s.Completions = orOne(s.Parallelism), orOne(s.Completions)
	if s.BackoffLimit == nil {
		six := int32(6)
		s.BackoffLimit = &six
	}
	s.Template.Spec.RestartPolicy = cmp.Or(s.Template.Spec.RestartPolicy, corev1.RestartPolicyNever)
}

// page is what status would show, as text: workloads, then what waits.
func page(v *View) string {
	var b strings.Builder
	for _, w := range v.Workloads() {
		fmt.Fprintf(&b, "%s %s %d/%d updated %d available %d", w.ID, w.State, w.Ready, w.Desired, w.Updated, w.Available)
		if w.Job != nil {
			fmt.Fprintf(&b, " job %+v", *w.Job)
		}
		if w.Cron != nil {
			at := func(t time.Time) string {
				if t.IsZero() {
					return "-"
				}
				return t.UTC().Format("15:04")
			}
			fmt.Fprintf(&b, " last %s next %s active %d succeeded %d failed %d", at(w.Cron.Last), at(w.Cron.Next), w.Cron.Active, w.Cron.Succeeded, w.Cron.Failed)
		}
		if w.Note != "" {
			fmt.Fprintf(&b, " note %s", w.Note)
		}
		b.WriteByte('\n')
	}
	for _, n := range v.Waiting() {
		fmt.Fprintf(&b, "waits %s: %s\n", n.About, n.Text)
	}
	for _, i := range v.Intents() {
		fmt.Fprintf(&b, "asked %s: %s\n", i.Object, IntentText(i))
	}
	return b.String()
}

// gets gives a machine the documents as its next commit, with an image in place of IMAGE.
func (m *machine) gets(image string, docs ...string) *machine {
	m.t.Helper()
	var objects []fleet.Object
	for _, doc := range docs {
		pod := "{metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: 'IMAGE'}]}}"
		doc = strings.ReplaceAll(strings.ReplaceAll(doc, "POD", pod), "IMAGE", image)
		objects = append(objects, kindOf(m.t, doc))
	}
	d := desiredOf(objects...)
	if len(m.stored.Revisions) > 0 { // the next commit
		d.Revisions = map[fleet.SourceName]fleet.Revision{"home": "r2"}
		for i := range d.Objects {
			d.Objects[i].Revision = "r2"
		}
	}
	m.want(d)
	return m
}

// passes are rounds 3 s apart in which containers of bad images fail; somebody asked for something before the first.
func (m *machine) passes(n int, intents ...fleet.Intent) *machine {
	for range n {
		m.said = []fleet.NodeReport{m.plan().Report}
		in := m.input()
		in.Intents = intents
		m.stored = Decide(in).Next
		for _, chain := range m.plan().Chains {
			for _, s := range chain.Steps {
				m.take(s)
			}
		}
		for i := range m.host.Pods { // those that do their work and end
			for j := range m.host.Pods[i].Containers {
				if c := &m.host.Pods[i].Containers[j]; m.bad[c.Image] && c.State == fleet.Exited && c.ExitCode == 0 {
					c.ExitCode = 3
				}
			}
		}
		m.now = m.now.Add(3 * time.Second)
	}
	m.said = []fleet.NodeReport{m.plan().Report}
	return m
}

func (m *machine) seen(intents ...fleet.Intent) *View {
	in := m.input()
	in.Intents = intents
	return NewView(in, m.templates)
}

const (
	docDeployment  = "kind: Deployment\nmetadata: {namespace: shop, name: web, annotations: {NOTES}}\nspec: {replicas: 4, progressDeadlineSeconds: 60, selector: {matchLabels: {app: web}}, template: POD}"
	docStatefulSet = "kind: StatefulSet\nmetadata: {namespace: shop, name: db}\nspec: {replicas: 3, serviceName: db, updateStrategy: {rollingUpdate: {partition: 1}}, template: POD}"
	docDaemonSet   = "kind: DaemonSet\nmetadata: {namespace: shop, name: agent}\nspec: {template: POD}"
	docJob         = "kind: Job\nmetadata: {namespace: shop, name: migrate}\nspec: {completions: 3, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 0, template: POD}"
	docCronJob     = "kind: CronJob\nmetadata: {namespace: shop, name: backup}\nspec: {schedule: '5 * * * *', jobTemplate: {metadata: {labels: {a: b}}, spec: {backoffLimit: 0, template: POD}}}"
	docAutoscaler  = "kind: HorizontalPodAutoscaler\nmetadata: {namespace: shop, name: web}\nspec: {minReplicas: 2, maxReplicas: 8, scaleTargetRef: {kind: Deployment, name: web}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}"
	docBudget      = "kind: PodDisruptionBudget\nmetadata: {namespace: shop, name: web}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}"
	docQuota       = "kind: ResourceQuota\nmetadata: {namespace: shop, name: few}\nspec: {hard: {pods: '2'}}"
	docLimits      = "kind: LimitRange\nmetadata: {namespace: shop, name: small}\nspec: {limits: [{type: Container, default: {memory: 64Mi}, defaultRequest: {cpu: 100m}}]}"
)

func noted(doc, notes string) string { return strings.ReplaceAll(doc, "NOTES", notes) }

func intent(verb fleet.IntentVerb, git fleet.Object, change ...func(*fleet.Intent)) fleet.Intent {
	i := fleet.Intent{Object: git.ID, Source: "home", Verb: verb, Author: "ada", At: start.Add(time.Minute), Git: FieldOf(git, verb)}
	for _, f := range change {
		f(&i)
	}
	return i
}

// TestPages shows what somebody reads at two in the morning.
func TestPages(t *testing.T) {
	plain := noted(docDeployment, "")
	cases := []struct {
		name string
		do   func(t *testing.T, m *machine) *View
	}{
		{"all is well", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", plain, docStatefulSet, docDaemonSet).passes(20).seen()
		}},
		{"a StatefulSet stops at a bad pod", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", docStatefulSet).passes(12).gets("app:bad", docStatefulSet).passes(8).seen()
		}},
		{"a DaemonSet's pod is bad", func(_ *testing.T, m *machine) *View {
			return m.gets("app:bad", docDaemonSet).passes(6).seen()
		}},
		{"nobody is eligible", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", strings.Replace(docDaemonSet, "POD", "{spec: {nodeSelector: {disk: ssd}, containers: [{name: main, image: IMAGE}]}}", 1)).passes(6).seen()
		}},
		{"a Job runs, and something waits for it", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", docJob, noted(docDeployment, "skerry.dev/depends-on: Job/migrate")).passes(1).seen()
		}},
		{"a Job fails", func(_ *testing.T, m *machine) *View {
			return m.gets("app:bad", docJob, noted(docDeployment, "skerry.dev/depends-on: Job/migrate")).passes(6).seen()
		}},
		{"a Job is suspended", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", strings.Replace(docJob, "completions", "suspend: true, completions", 1)).passes(6).seen()
		}},
		{"a CronJob is due", func(_ *testing.T, m *machine) *View {
			m.gets("app:1", docCronJob).passes(2)
			m.now = m.now.Add(5 * time.Minute)
			return m.passes(1).seen()
		}},
		{"a CronJob failed", func(_ *testing.T, m *machine) *View {
			m.gets("app:bad", docCronJob).passes(2)
			m.now = m.now.Add(5 * time.Minute)
			return m.passes(6).seen()
		}},
		{"a canary pauses", func(_ *testing.T, m *machine) *View {
			canary := noted(docDeployment, "skerry.dev/steps: '1, pause, 50%'")
			return m.gets("app:1", canary).passes(8).gets("app:2", canary).passes(8).seen()
		}},
		{"a canary pauses for a while", func(_ *testing.T, m *machine) *View {
			canary := noted(docDeployment, "skerry.dev/steps: '1, pause 10m, 50%'")
			return m.gets("app:1", canary).passes(8).gets("app:2", canary).passes(8).seen()
		}},
		{"a rollout stands still", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", plain).passes(8).gets("app:bad", plain).passes(40).seen()
		}},
		{"it was rolled back", func(_ *testing.T, m *machine) *View {
			back := noted(docDeployment, "skerry.dev/on-failure: rollback")
			return m.gets("app:1", back).passes(8).gets("app:bad", back).passes(40).seen()
		}},
		{"it was undone, scaled and paused by hand", func(t *testing.T, m *machine) *View {
			m.gets("app:1", plain).passes(8).gets("app:2", plain).passes(8)
			git := m.desired.Objects[0]
			asked := []fleet.Intent{
				intent(fleet.Undo, git, func(i *fleet.Intent) { i.Number = 1 }),
				intent(fleet.Scale, git, func(i *fleet.Intent) { i.Replicas = 2 }),
			}
			m.passes(8, asked...)
			if s := m.seen(asked...).Deployments()[0].Status; s.UpdatedReplicas != 2 {
				t.Errorf("%d of 2 pods are updated", s.UpdatedReplicas)
			}
			return m.passes(1, append(asked, intent(fleet.Pause, git))...).seen(append(asked, intent(fleet.Pause, git))...)
		}},
		{"it is restarted", func(_ *testing.T, m *machine) *View {
			m.gets("app:1", plain).passes(8)
			return m.seen(intent(fleet.Restart, m.desired.Objects[0]))
		}},
		{"there is a quota", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", plain, docQuota).passes(8).seen()
		}},
		{"an autoscaler sizes it", func(_ *testing.T, m *machine) *View {
			return m.gets("app:1", plain, docAutoscaler).passes(8).seen()
		}},
	}
	var got strings.Builder
	for _, c := range cases {
		m := newMachine(t)
		m.bad["app:bad"] = true
		fmt.Fprintf(&got, "# %s\n%s\n", c.name, page(c.do(t, m)))
	}
	const golden = "testdata/view/pages.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got.String()); d != "" {
		t.Error(d)
	}
}

// TestStatusOfKinds holds what is shown of each kind to what Kubernetes would show.
func TestStatusOfKinds(t *testing.T) {
	m := newMachine(t)
	m.bad["app:bad"] = true
	m.gets("app:1", docStatefulSet, docDaemonSet, docCronJob, docLimits).passes(12)
	m.gets("app:bad", docStatefulSet, docDaemonSet, docCronJob, docJob, docLimits).passes(2)
	m.now = m.now.Add(5 * time.Minute)
	v := m.passes(8).seen()

	number := func(n int32) *int32 { return &n }
	text := ""
	revisions := map[int64]string{}
	for _, c := range v.ControllerRevisions() {
		if c.OwnerReferences[0].Name == "db" {
			revisions[c.Revision] = c.Name
		}
		if len(c.Data.Raw) == 0 || c.UID == "" || c.OwnerReferences[0].UID == "" {
			t.Errorf("revision %+v", c)
		}
	}
	if d := gocmp.Diff(appsv1.StatefulSetStatus{
		ObservedGeneration: 2, Replicas: 3, ReadyReplicas: 2, AvailableReplicas: 2, CurrentReplicas: 2, UpdatedReplicas: 1,
		CurrentRevision: revisions[1], UpdateRevision: revisions[2],
	}, v.StatefulSets()[0].Status); d != "" {
		t.Error(d)
	}
	if d := gocmp.Diff(appsv1.DaemonSetStatus{
		ObservedGeneration: 2, DesiredNumberScheduled: 1, CurrentNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberUnavailable: 1,
	}, v.DaemonSets()[0].Status); d != "" {
		t.Error(d)
	}
	if n := len(v.ReplicaSets()); n > 0 {
		t.Errorf("%d ReplicaSets: a revision is none", n)
	}
	if l := v.LimitRanges(); len(l) != 1 || l[0].Annotations[fleet.LabelRevision] != "r2" {
		t.Errorf("LimitRanges %v", l)
	}

	jobs := v.Jobs()
	if len(jobs) != 2 {
		t.Fatalf("%d Jobs", len(jobs))
	}
	for i := range jobs {
		for j := range jobs[i].Status.Conditions {
			c := &jobs[i].Status.Conditions[j]
			c.LastProbeTime, c.LastTransitionTime = metav1.Time{}, metav1.Time{}
		}
		if jobs[i].Status.StartTime == nil || jobs[i].Status.CompletionTime != nil {
			t.Errorf("%s: started %v, completed %v", jobs[i].Name, jobs[i].Status.StartTime, jobs[i].Status.CompletionTime)
		}
		jobs[i].Status.StartTime = nil
	}
	run, own := jobs[0], jobs[1]
	ends := func(reason, message string) []batchv1.JobCondition {
		return []batchv1.JobCondition{
			{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message},
			{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: reason, Message: message},
		}
	}
	text = "0-2"
	if d := gocmp.Diff(batchv1.JobStatus{
		Failed: 3, FailedIndexes: &text, Ready: number(0), Terminating: number(0), UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{},
		Conditions: ends("FailedIndexes", "Job has failed indexes"),
	}, own.Status); d != "" {
		t.Error(d)
	}
	if d := gocmp.Diff(batchv1.JobStatus{
		Failed: 1, Ready: number(0), Terminating: number(0), UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{},
		Conditions: ends("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
	}, run.Status); d != "" {
		t.Error(d)
	}
	due := "2026-03-01T12:05:00Z"
	if run.Labels["a"] != "b" || run.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != due || run.OwnerReferences[0].Kind != fleet.KindCronJob {
		t.Errorf("run %+v", run.ObjectMeta)
	}
	c := v.CronJobs()[0].Status
	if len(c.Active) != 0 || c.LastSuccessfulTime != nil || c.LastScheduleTime.UTC().Format(time.RFC3339) != due {
		t.Errorf("CronJob %+v", c)
	}
	owners := map[string]bool{}
	for _, p := range v.Pods() {
		owners[p.OwnerReferences[0].Kind+" "+p.OwnerReferences[0].APIVersion] = true
		if p.OwnerReferences[0].UID == "" {
			t.Errorf("pod %s: no UID of its owner", p.Name)
		}
		if p.Spec.Containers[0].Resources.Limits.Memory().String() != "64Mi" && p.CreationTimestamp.After(start) {
			t.Errorf("pod %s has not what the LimitRange gives", p.Name)
		}
	}
	if d := gocmp.Diff(map[string]bool{"StatefulSet apps/v1": true, "DaemonSet apps/v1": true, "Job batch/v1": true}, owners); d != "" {
		t.Error(d)
	}
}

// TestStatusOfPolicies looks at what autoscalers, budgets and quotas say.
func TestStatusOfPolicies(t *testing.T) {
	v := newMachine(t).gets("app:1", noted(docDeployment, ""), docAutoscaler, docBudget, docQuota).passes(8).seen()
	a := v.Autoscalers()[0].Status
	if a.CurrentReplicas != 4 || len(a.Conditions) == 0 {
		t.Errorf("autoscaler %+v", a)
	}
	b := v.DisruptionBudgets()[0].Status
	if b.ExpectedPods != 4 || b.DesiredHealthy != 3 || b.CurrentHealthy != 2 || b.DisruptionsAllowed != 0 {
		t.Errorf("budget %+v", b)
	}
	q := v.Quotas()[0].Status
	hard, used := q.Hard[corev1.ResourcePods], q.Used[corev1.ResourcePods]
	if hard.Value() != 2 || used.Value() != 2 {
		t.Errorf("quota %+v", q)
	}
	conditions := map[appsv1.DeploymentConditionType]string{}
	for _, c := range v.Deployments()[0].Status.Conditions {
		conditions[c.Type] = string(c.Status) + " " + c.Reason
	}
	if c := conditions[appsv1.DeploymentReplicaFailure]; c != "True FailedCreate" {
		t.Errorf("ReplicaFailure %s", c)
	}
}

// TestHistoryOfADeployment goes forth and back: the sets say which revisions they stood for.
func TestHistoryOfADeployment(t *testing.T) {
	plain := noted(docDeployment, "")
	m := newMachine(t).gets("app:1", plain).passes(8).gets("app:2", plain).passes(12).gets("app:1", plain).passes(12)
	v := m.seen()
	if n := v.Deployments()[0].Annotations[annotationRevision]; n != "3" {
		t.Errorf("revision %s", n)
	}
	got := map[string]string{}
	for _, rs := range v.ReplicaSets() {
		got[rs.Annotations[annotationRevision]] = rs.Annotations[annotationHistory] + " " + rs.Annotations[fleet.LabelRevision]
	}
	if d := gocmp.Diff(map[string]string{"3": "1 r2", "2": " r2"}, got); d != "" {
		t.Error(d)
	}
}

// A new agent knows from the ledger that a Job's pods have ended, before its node has spoken.
func TestEndedPodsAreNotActive(t *testing.T) {
	r := newRunner(t, jobOf("over", "{backoffLimit: 0}"))
	r.settle()
	r.finish(1, "over")
	r.settle()
	for _, reports := range [][]fleet.NodeReport{r.said, nil} {
		in := r.input()
		in.Reports = reports
		if s := NewView(in, r.templates).Jobs()[0].Status; s.Active != 0 || s.Failed != 1 {
			t.Errorf("with %d reports: %d active, %d failed", len(reports), s.Active, s.Failed)
		}
	}
}
