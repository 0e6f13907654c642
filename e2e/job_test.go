package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/reconcile"
)

// template is a Job's, whose one container takes these steps (see the mode seq of the test image); /host is the same for all.
func (w *world) template(steps string) string {
	w.t.Helper()
	if err := os.MkdirAll(w.host(""), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`{spec: {restartPolicy: Never, terminationGracePeriodSeconds: 2,
    containers: [{name: main, image: '%s', args: [seq, %s], volumeMounts: [{name: host, mountPath: /host}],
      env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: JOB, valueFrom: {fieldRef: {fieldPath: "metadata.labels['job-name']"}}}]}],
    volumes: [{name: host, hostPath: {path: '%s'}}]}}`, w.image, steps, w.host(""))
}

// job writes a Job into the repository. terms are of its spec.
func (w *world) job(name, terms, steps string) {
	w.t.Helper()
	w.write(name+".yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: "+name+"}\nspec: {"+terms+",\n  template: "+w.template(steps)+"}\n")
}

func (w *world) shownJob(name string) batchv1.Job {
	w.t.Helper()
	return object[batchv1.Job](w, "/apis/batch/v1/namespaces/default/jobs/"+name)
}

// hasEnded reports whether a Job is complete or has failed.
func hasEnded(j batchv1.Job) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// counted are how often there is each line.
func counted(lines []string) map[string]int {
	n := map[string]int{}
	for _, line := range lines {
		n[line]++
	}
	return n
}

// TestJobAcrossKills: what is counted is exact, whenever the agent dies.
func TestJobAcrossKills(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	w.job("fails", "backoffLimit: 2", `append /host/fails $(POD), exit 3`)
	w.job("each", "completionMode: Indexed, completions: 3, parallelism: 3, backoffLimitPerIndex: 1", `append /host/each $(JOB_COMPLETION_INDEX), exit 1`)
	w.job("works", "completionMode: Indexed, completions: 6, parallelism: 2", `append /host/works $(JOB_COMPLETION_INDEX), sleep 2s`)
	w.job("waits", "backoffLimit: 1", `append /host/waits $(POD), until /host/go`)
	w.cron("minutely", "* * * * *", "successfulJobsHistoryLimit: 5", `append /host/minutely $(JOB)`)
	w.cron("kept", "@every 2s", "successfulJobsHistoryLimit: 1", `append /host/kept $(JOB)`) // one a minute, for that names it
	w.commit("jobs")
	w.start()
	w.must("sync")

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice, kills := rand.New(rand.NewPCG(seed, 0)), 0
	over := func() bool {
		return hasEnded(w.shownJob("fails")) && hasEnded(w.shownJob("each")) && hasEnded(w.shownJob("works")) && len(w.lines("kept")) > 1
	}
	for time.Since(began) < long && !over() {
		crash := time.NewTimer(time.Duration(dice.IntN(2500)) * time.Millisecond)
		<-crash.C
		w.kill()
		w.start()
		kills++
	}
	ended := time.Now()
	t.Logf("killed %d times in %s", kills, ended.Sub(began).Round(time.Second))
	started := func(job string) (n int) {
		containers, _ := w.lives(began)
		for name, list := range containers {
			if strings.HasPrefix(name, "default_"+job+"-") {
				n += len(list)
			}
		}
		return n
	}

	w.scene("one that fails ends after as many as it may, each a pod of its own", func(t *testing.T) {
		j, lines := w.shownJob("fails"), w.lines("fails")
		if j.Status.Failed != 3 || j.Status.Active != 0 || j.Status.Succeeded != 0 || len(lines) != 3 || started("fails") != 3 || len(counted(lines)) != 3 {
			t.Errorf("3 should have failed: %d, it says; these ran: %v; Podman started %d", j.Status.Failed, lines, started("fails"))
		}
		if c := j.Status.Conditions; len(c) == 0 || c[len(c)-1].Reason != batchv1.JobReasonBackoffLimitExceeded {
			t.Errorf("why it failed: %+v", c)
		}
		containers, _ := w.lives(began)
		for i, wait := range []time.Duration{10 * time.Second, 20 * time.Second} {
			if len(lines) != 3 {
				break
			}
			a, b := last(containers["default_"+lines[i]+"_main"]), last(containers["default_"+lines[i+1]+"_main"])
			if took := b.From.Sub(a.To); took < wait-time.Second || took > wait+8*time.Second { // ends are known to the second
				t.Errorf("%s came %s after the end of %s, and should after %s", lines[i+1], took, lines[i], wait)
			}
		}
	})
	w.scene("indexes are tried as often as they may", func(t *testing.T) {
		j := w.shownJob("each")
		if diff := cmp.Diff(map[string]int{"0": 2, "1": 2, "2": 2}, counted(w.lines("each"))); diff != "" {
			t.Error(diff)
		}
		if j.Status.Failed != 6 || j.Status.FailedIndexes == nil || *j.Status.FailedIndexes != "0-2" || started("each") != 6 {
			t.Errorf("6 should have failed; Podman started %d: %+v", started("each"), j.Status)
		}
	})
	w.scene("what works is done once for each index", func(t *testing.T) {
		j := w.shownJob("works")
		if diff := cmp.Diff(map[string]int{"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1}, counted(w.lines("works"))); diff != "" {
			t.Error(diff)
		}
		if j.Status.Succeeded != 6 || j.Status.Failed != 0 || j.Status.CompletedIndexes != "0-5" || started("works") != 6 {
			t.Errorf("6 should have succeeded; Podman started %d: %+v", started("works"), j.Status)
		}
	})
	w.scene("each minute is run once", func(t *testing.T) {
		var want []string
		for minute := began.Truncate(time.Minute).Add(time.Minute); minute.Before(ended); minute = minute.Add(time.Minute) {
			want = append(want, fmt.Sprintf("minutely-%d", minute.Unix()/60))
		}
		w.untilLines("minutely", len(want))
		w.until(long, "that the runs are over", func(s api.Status) bool {
			return !slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.Cron != nil && x.Cron.Active > 0 })
		})
		got := w.lines("minutely") // perhaps one more by now
		if len(got) > len(want)+1 || !slices.Equal(got[:len(want)], want) || started("minutely") != len(got) {
			t.Errorf("Podman started %d: %v, want %v", started("minutely"), got, want)
		}
	})
	w.scene("and forgotten when there are too many", func(t *testing.T) {
		var kept []string
		for _, j := range object[batchv1.JobList](w, "/apis/batch/v1/namespaces/default/jobs").Items {
			if strings.HasPrefix(j.Name, "kept-") {
				kept = append(kept, j.Name)
			}
		}
		if lines := w.lines("kept"); len(lines) < 2 || !slices.Equal(kept, lines[len(lines)-1:]) {
			t.Errorf("of %v is kept: %v", lines, kept)
		}
	})
	w.scene("what ended while nobody looked counts, even if the machine was booted since", func(t *testing.T) {
		ran := w.lines("waits")
		if len(ran) != 1 {
			t.Fatalf("before it ends these ran: %v", ran)
		}
		container := "default_" + ran[0] + "_main"
		gone := watch(t, w.pid(container))
		w.kill()
		w.touch("go")
		if !gone(long) {
			t.Fatal("it does not end")
		}
		infra := strings.Fields(w.podman.CLI(t, "ps", "--quiet", "--filter=status=running"))
		w.podman.CLI(t, append([]string{"stop", "--time=0"}, infra...)...)
		w.start()
		w.must("sync")
		w.until(long, "that it is complete", func(api.Status) bool { return hasEnded(w.shownJob("waits")) })
		if s := w.shownJob("waits").Status; s.Succeeded != 1 || s.Failed != 0 {
			t.Errorf("it is shown with %+v", s)
		}
		for job, n := range map[string]int{"waits": 1, "fails": 3, "each": 6, "works": 6} {
			if got := w.lines(job); len(got) != n {
				t.Errorf("of %s these ran: %v", job, got)
			}
		}
	})
	w.scene("pods that are removed by hand when all is over are not run again", func(t *testing.T) {
		containers, _ := w.lives(began)
		for name := range containers {
			if pod, ok := strings.CutSuffix(name, "_main"); ok && strings.HasPrefix(pod, "default_works-") {
				w.podman.CLI(t, "pod", "rm", "--force", "--time=0", pod)
			}
		}
		w.kill()
		w.start()
		w.must("sync")
		w.write("README.md", "something else\n")
		w.commit("something else")
		w.must("sync")
		if n := len(w.lines("works")); n != 6 || !hasEnded(w.shownJob("works")) {
			t.Errorf("%d ran: %+v", n, w.shownJob("works").Status)
		}
	})
	w.scene("a Job that is gone from Git takes its pods along", func(t *testing.T) {
		for _, name := range []string{"fails", "each", "waits", "minutely", "kept"} {
			w.remove(name + ".yaml")
		}
		w.commit("without what failed")
		w.sync()
		for _, c := range w.containers() {
			t.Errorf("left over: %+v", c)
		}
	})
}

// cron writes a CronJob into the repository. terms are of its spec, steps as template has them.
func (w *world) cron(name, schedule, terms, steps string) {
	w.t.Helper()
	w.write(name+".yaml", "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: "+name+"}\nspec:\n  {schedule: \""+schedule+"\", "+terms+
		",\n  jobTemplate: {spec: {template: "+w.template(steps)+"}}}\n")
}

func (w *world) shownCron(name string) batchv1.CronJob {
	w.t.Helper()
	return object[batchv1.CronJob](w, "/apis/batch/v1/namespaces/default/cronjobs/"+name)
}

// untilLines waits until runs have written so many lines into a file of /host.
func (w *world) untilLines(name string, n int) {
	w.t.Helper()
	w.until(long, fmt.Sprintf("%d lines in %s", n, name), func(api.Status) bool { return len(w.lines(name)) >= n })
}

// TestCronJobAndAutoscaler: Jobs by the clock, and beside them, for it takes its time as well, an autoscaler. What takes a
// minute is in TestJobAcrossKills.
func TestCronJobAndAutoscaler(t *testing.T) {
	w := newWorld(t)
	began := time.Now()
	const fast = "@every 2s" // a run is named by its minute, so the one before it has to be forgotten
	w.cron("fast", fast, "successfulJobsHistoryLimit: 0", `append /host/fast $(POD)`)
	w.cron("slow", fast, "successfulJobsHistoryLimit: 0, concurrencyPolicy: Forbid", `append /host/slow begins, sleep 3s, append /host/slow ends`)
	burns := deployment("burns", 1, w.image, "        resources: {requests: {cpu: 100m}, limits: {cpu: 100m}}\n")
	w.write("burns.yaml", strings.NewReplacer("command: [sleep]", "command: [burn]", "  replicas: 1\n", "").Replace(burns)+`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: burns}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: burns}
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 40}}}]
`)
	w.commit("crons, and what burns")
	w.start()
	w.must("sync")

	w.scene("runs are started, also by the next agent when one was killed", func(t *testing.T) {
		for n := 1; n <= 3; n++ {
			w.untilLines("fast", n)
			w.kill()
			w.start()
		}
		ticks := int(time.Since(began)/(2*time.Second)) + 1
		if got := w.lines("fast"); len(got) > ticks {
			t.Errorf("in %s these ran: %v", time.Since(began), got)
		}
	})
	w.scene("of the runs that were missed the newest is made up for", func(t *testing.T) {
		n := len(w.lines("fast")) + 1
		w.untilLines("fast", n) // the next one is not decided on yet
		w.kill()
		gone := time.NewTimer(7 * time.Second)
		<-gone.C
		if got := len(w.lines("fast")); got != n {
			t.Errorf("%d runs without an agent", got-n)
		}
		started := time.Now()
		w.start()
		w.untilLines("fast", n+1)
		if due := w.shownCron("fast").Status.LastScheduleTime; due == nil || due.Time.Before(started.Add(-3*time.Second)) {
			t.Errorf("at %s the run of %s was made up for", started, due)
		}
	})
	w.scene("suspended it does not run", func(t *testing.T) {
		w.cron("fast", fast, "successfulJobsHistoryLimit: 0, suspend: true", `append /host/fast $(POD)`)
		w.commit("fast is suspended")
		w.must("sync")
		w.until(long, "that nothing of it runs", func(s api.Status) bool {
			return slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.ID.Name == "fast" && x.State == reconcile.StateSuspended })
		})
		n := len(w.lines("fast"))
		w.untilLines("slow", len(w.lines("slow"))+3) // some ticks later
		if got := len(w.lines("fast")); got != n {
			t.Errorf("it ran %d times", got-n)
		}
	})
	w.scene("what uses much becomes more", func(t *testing.T) {
		w.until(long, "three pods", func(s api.Status) bool {
			return slices.ContainsFunc(s.Workloads, func(x reconcile.Workload) bool { return x.ID.Name == "burns" && x.Available == 3 && x.Desired == 3 })
		})
		s := object[autoscalingv2.HorizontalPodAutoscaler](w, "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/burns").Status
		if s.DesiredReplicas != 3 || s.LastScaleTime == nil || len(s.CurrentMetrics) != 1 || *s.CurrentMetrics[0].Resource.Current.AverageUtilization < 80 {
			t.Errorf("it is shown as %+v", s)
		}
	})
	w.scene("what is forbidden to overlap does not", func(t *testing.T) {
		lines := w.lines("slow")
		for i, line := range lines {
			if want := []string{"begins", "ends"}[i%2]; line != want {
				t.Errorf("they ran: %v", lines)
			}
		}
		if len(lines) < 8 {
			t.Errorf("no more than these ran: %v", lines)
		}
	})
}
