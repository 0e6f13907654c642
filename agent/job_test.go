package agent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
	"github.com/skerry-dev/skerry/runtime/host/hosttest"
)

type reconcileLine = reconcile.Line

func job(name, image, spec string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: %s}
spec:
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: '%s'}]}}
%s`, name, image, spec)
}

// ledger is a Job's.
func (w *world) ledger(name string) fleet.Job {
	w.t.Helper()
	a, err := w.Store.Load(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	at := slices.IndexFunc(a.Jobs, func(j fleet.Job) bool { return j.ID.Name == name })
	if at < 0 {
		w.t.Fatalf("no Job %s", name)
	}
	return a.Jobs[at]
}

// TestJobCountsAcrossAgents: agents come and go at any moment, and each end counts once.
func TestJobCountsAcrossAgents(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			w.machine.AddImage("fails:1")
			w.machine.Behave("fails:1", hosttest.Process{Ends: true, After: 7 * time.Second, Code: 1})
			w.repo.push("r1", tree(job("j", "fails:1", "  backoffLimit: 4\n")))
			w.run()
			for range 60 {
				after(time.Duration(dice.IntN(40_000)) * time.Millisecond)
				w.stop()
				if dice.IntN(4) == 0 {
					after(time.Duration(dice.IntN(60)) * time.Second)
				}
				w.run()
			}
			after(time.Hour)
			j := w.ledger("j")
			if j.Failed != 5 || j.Outcome != batchv1.JobFailed || j.Reason != batchv1.JobReasonBackoffLimitExceeded {
				t.Errorf("seed %d: %d failed, %s (%s)", seed, j.Failed, j.Outcome, j.Reason)
			}
			if pods := w.status().Pods; len(pods) != 5 {
				t.Errorf("seed %d: %d pods are left to be looked at", seed, len(pods))
			}
		})
	}
}

// TestFinishedJobStaysFinished: it is not run again because its pods are cleared away, or because of another commit.
func TestFinishedJobStaysFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.AddImage("works:1", "works:2")
		w.machine.Behave("works:1", hosttest.Process{Ends: true, After: time.Second})
		w.machine.Behave("works:2", hosttest.Process{Ends: true, After: time.Second})
		one := job("j", "works:1", "  ttlSecondsAfterFinished: 60\n")
		w.repo.push("r1", tree(one))
		w.run()
		after(30 * time.Second)
		if s := w.status(); len(s.Pods) != 1 || !s.Settled {
			t.Fatalf("%v, %v", s.Pods, s.Waiting)
		}
		after(2 * time.Minute)
		w.repo.push("r2", tree(one, pod("other", "app:1", "")))
		w.stop()
		w.run()
		after(time.Hour)
		if s := w.status(); len(s.Pods) != 1 || w.machine.AllCalls()["StartContainer"] != 2 {
			t.Errorf("%v, %d starts", s.Pods, w.machine.AllCalls()["StartContainer"])
		}
		w.repo.push("r3", tree(job("j", "works:2", "  ttlSecondsAfterFinished: 60\n"), pod("other", "app:1", "")))
		after(30 * time.Second)
		if w.machine.AllCalls()["StartContainer"] != 3 || w.ledger("j").Outcome != batchv1.JobComplete {
			t.Errorf("a changed Job was not run: %+v", w.ledger("j"))
		}
	})
}

func cronJob(schedule, image, spec string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "%s"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: '%s'}]}}}}
%s`, schedule, image, spec)
}

// TestCronAcrossAgents: each minute once, whatever agents come and go; after an outage the newest alone, late.
func TestCronAcrossAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.AddImage("works:1")
		w.machine.Behave("works:1", hosttest.Process{Ends: true, After: 2 * time.Second})
		w.repo.push("r1", tree(cronJob("*/10 * * * *", "works:1", "  successfulJobsHistoryLimit: 2\n")))
		w.run()
		starts := func() int { return w.machine.AllCalls()["StartContainer"] }
		dice := rand.New(rand.NewPCG(1, 2))
		for range 60 { // an hour
			after(time.Minute - time.Duration(dice.IntN(1000))*time.Millisecond)
			w.stop()
			w.run()
		}
		after(time.Minute)
		if got := starts(); got != 6 && got != 5 {
			t.Errorf("%d runs in an hour", got)
		}
		if s := w.status(); len(s.Pods) != 2 {
			t.Errorf("%d runs are kept", len(s.Pods))
		}
		was := starts()
		w.stop()
		after(3*24*time.Hour + 5*time.Minute)
		w.run()
		after(time.Minute)
		if got := starts() - was; got != 1 {
			t.Errorf("%d runs after three days", got)
		}
		w.stop()
		w.loseStore()
		w.run()
		after(time.Minute)
		if got := starts() - was; got != 1 {
			t.Errorf("%d runs after the store was lost", got)
		}
		after(10 * time.Minute)
		if got := starts() - was; got != 2 {
			t.Errorf("%d runs ten minutes later", got)
		}
	})
}

// TestTrigger: somebody runs it once, by hand.
func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.machine.AddImage("works:1")
		w.machine.Behave("works:1", hosttest.Process{Ends: true, After: 2 * time.Second})
		w.repo.push("r1", tree(cronJob("0 0 1 1 *", "works:1", "  suspend: true\n")))
		w.run()
		after(30 * time.Second)
		tick := fleet.ObjectID{Kind: fleet.KindCronJob, Namespace: "default", Name: "tick"}
		if _, err := w.Intend(t.Context(), api.Wish{Intent: fleet.Intent{Object: tick, Verb: fleet.Trigger, Author: "ada"}}); err != nil {
			t.Fatal(err)
		}
		after(time.Hour)
		w.stop()
		w.run()
		after(time.Hour)
		if n := w.machine.AllCalls()["StartContainer"]; n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestAutoscalerThatIsGone leaves its target as it is, as in Kubernetes, until Git says a number.
func TestAutoscalerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const hpa = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 3, maxReplicas: 5}
`
		web := replaceOnce(deployment("web", "app:1", "", ""), "image: 'app:1'", "image: 'app:1', resources: {requests: {cpu: 100m}}")
		w.repo.push("one", tree(web, hpa))
		w.run()
		after(2 * time.Minute)
		w.expect("sized", "app:1", "app:1", "app:1")
		w.repo.push("two", tree(web))
		after(2 * time.Minute)
		w.stop()
		w.run()
		after(2 * time.Minute)
		w.expect("it is gone", "app:1", "app:1", "app:1")
		w.repo.push("three", tree(replaceOnce(web, "spec:\n", "spec:\n  replicas: 2\n")))
		after(2 * time.Minute)
		w.expect("Git says a number", "app:1", "app:1")
	})
}

// TestAutoscale: it grows with what its pods use, and shrinks five minutes after they do not any more; Git's replicas do not
// get in the way.
func TestAutoscale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const hpa = `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 5
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
`
		text := deployment("web", "app:1", "", "")
		text = replaceOnce(text, "image: 'app:1'", "image: 'app:1', resources: {requests: {cpu: 100m}}")
		w.machine.Behave("app:1", hosttest.Process{Uses: hosttest.Usage{CPU: 150, Memory: 1 << 20}})
		w.repo.push("r1", tree(text, hpa))
		w.run()
		after(3 * time.Minute)
		if n := len(w.images()); n != 3 && n != 5 {
			t.Errorf("%d pods under load: %v", n, w.status().Notes)
		}
		after(10 * time.Minute)
		w.expect("each pod is over its share", "app:1", "app:1", "app:1", "app:1", "app:1")
		for _, p := range w.status().Pods {
			if err := w.machine.Use("default_"+p.ID.Name+"_main", hosttest.Usage{CPU: 1, Memory: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		}
		after(4 * time.Minute)
		w.expect("not yet", "app:1", "app:1", "app:1", "app:1", "app:1")
		w.stop()
		w.run()
		after(8 * time.Minute)
		w.expect("at rest", "app:1")
		a, err := w.Store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		after(time.Hour)
		if b, _ := w.Store.Load(t.Context()); b.Epoch != a.Epoch {
			t.Errorf("%d commits in an hour in which nothing happened", b.Epoch-a.Epoch)
		}
		web := fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "default", Name: "web"}
		if _, err := w.Intend(t.Context(), api.Wish{Intent: fleet.Intent{Object: web, Verb: fleet.Scale, Replicas: 0, Author: "ada"}}); err != nil {
			t.Fatal(err)
		}
		after(5 * time.Minute)
		if n := len(w.images()); n != 0 {
			t.Errorf("scaled to 0 by hand, which turns the autoscaler off, and %d run", n)
		}
	})
}
