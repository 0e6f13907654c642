package pod_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
)

// TestTally is the verdict after each outcome of a probe: + and - are outcomes, ? an attempt that came to nothing (semantics 2.4).
func TestTally(t *testing.T) {
	for _, test := range []struct {
		success, failure int32
		outcomes         string
		verdicts         string // after each: + passed, - failed, . undecided
	}{
		{1, 1, "+", "+"},
		{1, 1, "-", "-"},
		{1, 1, "+-+-", "+-+-"},
		{1, 3, "+", "+"},
		{1, 3, "---", "..-"},
		{1, 3, "+---", "+++-"},
		{1, 3, "+--+--+---", "+++++++++-"},
		{1, 3, "--+", "..+"},
		{1, 3, "---+", "..-+"},
		{1, 3, "----", "..--"},
		{1, 3, "---+--", "..-+++"},
		{1, 3, "-?-?-", "....-"},
		{1, 3, "+-?-?-", "+++++-"},
		{1, 3, "???", "..."},
		{1, 3, "+????", "+++++"},
		{2, 3, "++", ".+"},
		{2, 3, "+-+-+-", "......"},
		{2, 3, "+-++", "...+"},
		{2, 3, "---++", "..--+"},
		{2, 3, "---+-++", "..----+"},
		{2, 3, "++---+++", ".+++--++"},
		{2, 1, "-+-+", "----"},
		{2, 1, "+?+", "..+"},
		{3, 1, "+++-+++", "..+---+"},
		{3, 3, "++--++--", "........"},
	} {
		t.Run(fmt.Sprintf("%d,%d %s", test.success, test.failure, test.outcomes), func(t *testing.T) {
			probe := &corev1.Probe{SuccessThreshold: test.success, FailureThreshold: test.failure}
			var tally pod.Tally
			var got strings.Builder
			var since time.Time
			for i, outcome := range test.outcomes {
				at, before := now.Add(time.Duration(i)*time.Second), tally.Verdict
				if outcome == '?' {
					tally = tally.Unasked("no route")
				} else {
					tally = tally.Add(probe, outcome == '+', string(outcome), at)
				}
				if tally.Verdict != before && (tally.Verdict == pod.Passed || before == pod.Passed) {
					since = at
				}
				if !tally.Since.Equal(since) {
					t.Errorf("after %q the verdict is since %s, not %s", test.outcomes[:i+1], tally.Since, since)
				}
				if outcome == '?' != strings.Contains(tally.Text, "no route") {
					t.Errorf("after %q the text is %q", test.outcomes[:i+1], tally.Text)
				}
				got.WriteString(map[pod.Verdict]string{pod.Undecided: ".", pod.Passed: "+", pod.Failed: "-"}[tally.Verdict])
			}
			if got.String() != test.verdicts {
				t.Errorf("verdicts %s, want %s", got.String(), test.verdicts)
			}
		})
	}
}

// The verdict is that of the last run of equal outcomes that was long enough.
func TestTallyProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		probe := &corev1.Probe{SuccessThreshold: rapid.Int32Range(1, 4).Draw(rt, "success"), FailureThreshold: rapid.Int32Range(1, 4).Draw(rt, "failure")}
		outcomes := rapid.SliceOfN(rapid.Bool(), 0, 20).Draw(rt, "outcomes")
		var tally pod.Tally
		for _, well := range outcomes {
			tally = tally.Add(probe, well, "", now)
		}
		want := pod.Undecided
		for end := len(outcomes); end > 0 && want == pod.Undecided; end-- {
			begin := end - 1
			for begin > 0 && outcomes[begin-1] == outcomes[end-1] {
				begin--
			}
			switch {
			case outcomes[end-1] && end-begin >= int(probe.SuccessThreshold):
				want = pod.Passed
			case !outcomes[end-1] && end-begin >= int(probe.FailureThreshold):
				want = pod.Failed
			}
		}
		if tally.Verdict != want {
			rt.Fatalf("%q after %v, want %q", tally.Verdict, outcomes, want)
		}
	})
}

// TestProbesWanted: which probes should be running, by what is there and what they said.
func TestProbesWanted(t *testing.T) {
	all := func(p corev1.RestartPolicy) *scene {
		return staged(t, p, "one side:side,startup,liveness,readiness", "web:startup,liveness,readiness aux:liveness,readiness")
	}
	const three, first = "web liveness, web readiness", "web startup"
	web := func() *scene { return staged(t, always, "", "web:startup,liveness,readiness") }
	for _, test := range []struct {
		name  string
		scene *scene
		want  string
	}{
		{"nothing there", web(), ""},
		{"an empty sandbox", web().in(""), ""},
		{"it begins", web().in("web=running"), first},
		{"it failed to start once", web().in("web=running").says("web", "startup-"), ""},
		{"it is started", web().in("web=running").says("web", "startup+"), three},
		{"it is started and lives", web().in("web=running").says("web", "startup+", "liveness+", "readiness+"), three},
		{"it is started and not ready", web().in("web=running").says("web", "startup+", "liveness+", "readiness-"), three},
		{"it is started and lives no more", web().in("web=running").says("web", "startup+", "liveness-", "readiness+"), "web readiness"},
		{"it is a successor", web().in("web=137").says("web", "startup+", "liveness-").in("web=running#1"), first},
		{"created", web().in("web=created"), ""},
		{"frozen", web().in("web=paused").says("web", "startup+"), ""},
		{"frozen with its pod", web().box(fleet.Paused).in("web=paused").says("web", "startup+"), ""},
		{"stopping", web().in("web=stopping").says("web", "startup+"), ""},
		{"ended", web().in("web=1").says("web", "startup+"), ""},
		{"in no known state", web().in("web=unknown").says("web", "startup+"), ""},
		{"its network went away", web().box(fleet.Exited).in("web=running").says("web", "startup+"), ""},
		{"no template", web().in("web=running").says("web", "startup+").edit(func(in *pod.Input) { in.Spec = nil }), ""},
		{"a chain is under way", web().in("web=running").says("web", "startup+").edit(func(in *pod.Input) { in.Busy = true }), three},
		{"another image", web().in("web=running!").says("web", "startup+"), three},
		{"none were asked for", staged(t, always, "", "web").in("web=running"), ""},
		{"liveness alone", staged(t, always, "", "web:liveness").in("web=running"), "web liveness"},
		{"readiness alone", staged(t, always, "", "web:readiness").in("web=running"), "web readiness"},

		{"to go", web().in("web=running").says("web", "startup+").drains(0), "web readiness"},
		{"to go before it is started", web().in("web=running").drains(0), ""},
		{"to go, lives no more", web().in("web=running").says("web", "startup+", "liveness-").drains(0), "web readiness"},
		{"to go, without startup", staged(t, always, "", "web:liveness,readiness").in("web=running").drains(0), "web readiness"},
		{"to go, ended", web().in("web=143").says("web", "startup+").drains(0), ""},

		{"initial ones are not asked", all(always).in("one=running"), ""},
		{"the sidecar begins", all(always).in("one=0 side=running"), "side startup"},
		{"the sidecar is started", all(always).in("one=0 side=running").says("side", "startup+"), "side liveness, side readiness"},
		{"all of them", all(always).in("one=0 side=running web=running aux=running").says("side", "startup+"),
			"side liveness, side readiness, web startup, aux liveness, aux readiness"},
		{"all of them, to go", all(always).in("one=0 side=running web=running aux=running").says("side", "startup+").says("web", "startup+").drains(0),
			"side readiness, web readiness, aux readiness"},
		{"one ended", all(always).in("one=0 side=running web=1 aux=running").says("side", "startup+"), "side liveness, side readiness, aux liveness, aux readiness"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var list []string
			for _, p := range pod.Next(test.scene.Input).Probes {
				list = append(list, p.Name+" "+string(p.Kind))
			}
			if got := strings.Join(list, ", "); got != test.want {
				t.Errorf("probes %q, want %q", got, test.want)
			}
		})
	}
}

// Who is told to stop is not asked whether it lives: not only in a pod that is deleted, but in any that is over (semantics 2.4).
func TestNoLivenessWhenOver(t *testing.T) {
	for name, s := range map[string]*scene{
		"its time is up":          staged(t, always, "", "web:liveness,readiness", "activeDeadlineSeconds: 60").in("web=running"),
		"its main container done": staged(t, never, "side:side,liveness,readiness", "web").in("side=running web=0"),
	} {
		for _, p := range pod.Next(s.Input).Probes {
			if p.Kind != pod.Readiness {
				t.Errorf("%s, and yet there is a %s probe of %s", name, p.Kind, p.Name)
			}
		}
	}
}

// TestProbe is what a probe is told.
func TestProbe(t *testing.T) {
	const spec = `{containers: [{name: web, image: "i:1", ports: [{name: http, containerPort: 8080}], args: [$(A)],
		env: [{name: A, value: one}, {name: B, value: $(A)}, {name: C, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
		readinessProbe: {exec: {command: [test, $(A), $(B), $(C), $(D), $$(A)]}, periodSeconds: 3},
		livenessProbe: {httpGet: {port: http, path: "/$(A)"}}}]}`
	s := web(t, spec).in("web=running").addressed("10.42.0.7")
	r := pod.Next(s.Input)
	if len(r.Probes) != 2 {
		t.Fatalf("probes %v", r.Probes)
	}
	live, ready := r.Probes[0], r.Probes[1]
	want := []string{"test", "one", "$(A)", "$(C)", "$(D)", "$(A)"}
	if d := cmp.Diff(want, ready.Handler.Exec.Command); d != "" {
		t.Errorf("command: %s", d)
	}
	if written := s.Spec.Spec.Containers[0].ReadinessProbe.Exec.Command[1]; written != "$(A)" {
		t.Errorf("the spec was changed: %q", written)
	}
	if live.Handler.HTTPGet == nil || live.Handler.HTTPGet.Path != "/$(A)" || len(live.Ports) != 1 || live.Ports[0].ContainerPort != 8080 {
		t.Errorf("http probe %+v", live)
	}
	if ready.Container != "c0" || ready.Spec.PeriodSeconds != 3 || !ready.Begun.Equal(now.Add(-time.Minute)) {
		t.Errorf("probe %+v", ready)
	}
}

func TestProbeAddress(t *testing.T) {
	of := func(more string) *scene {
		return web(t, `{containers: [{name: web, image: "i:1", readinessProbe: {tcpSocket: {port: 80}}}]`+more+`}`).in("web=running")
	}
	for _, test := range []struct {
		name  string
		scene *scene
		want  string
	}{
		{"of the pod", of("").addressed("10.42.0.7", "fd00::7"), "10.42.0.7"},
		{"not known", of(""), ""},
		{"of the node", of(", hostNetwork: true"), "10.0.0.11"},
		{"of a node without one", of(", hostNetwork: true").edit(func(in *pod.Input) { in.Place.Address = "" }), "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := pod.Next(test.scene.Input)
			if test.want == "" { // it would be asked at somebody else's
				if len(r.Probes) > 0 {
					t.Errorf("probes %+v, want none", r.Probes)
				}
				return
			}
			if len(r.Probes) != 1 || r.Probes[0].Address != test.want {
				t.Errorf("probes %+v, want one at %q", r.Probes, test.want)
			}
		})
	}
}

// TestProbeNotes: why something is not started or not ready is said, once, in the probe's own words.
func TestProbeNotes(t *testing.T) {
	text := func(s *scene, kind pod.ProbeKind, verdict pod.Verdict, text string) *scene {
		if s.Health == nil {
			s.Health = map[string]pod.Health{"c0": {}}
		}
		s.Health["c0"][kind] = pod.Tally{Verdict: verdict, Text: text}
		return s
	}
	of := func() *scene { return staged(t, always, "", "web:startup,liveness,readiness").in("web=running") }
	for _, test := range []struct {
		name  string
		scene *scene
		want  []string
	}{
		{"nothing known", of(), nil},
		{"not started yet", text(of(), pod.Startup, pod.Undecided, "exit code 1"), []string{"container web is not started: exit code 1"}},
		{"never started", text(of(), pod.Startup, pod.Failed, "exit code 1"), []string{"container web is not started: exit code 1", "container web is killed: startup probe failed: exit code 1"}},
		{"started", text(of(), pod.Startup, pod.Passed, "fine"), nil},
		{"not ready yet", text(text(of(), pod.Startup, pod.Passed, ""), pod.Readiness, pod.Undecided, "503"), []string{"container web is not ready: 503"}},
		{"not ready", text(text(of(), pod.Startup, pod.Passed, ""), pod.Readiness, pod.Failed, "503"), []string{"container web is not ready: 503"}},
		{"ready", text(text(of(), pod.Startup, pod.Passed, ""), pod.Readiness, pod.Passed, "200"), nil},
		{"not alive", text(text(of(), pod.Startup, pod.Passed, ""), pod.Liveness, pod.Failed, "timeout"), []string{"container web is killed: liveness probe failed: timeout"}},
		{"not alive, without words", text(text(of(), pod.Startup, pod.Passed, ""), pod.Liveness, pod.Failed, ""), []string{"container web is killed: liveness probe failed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := pod.Next(test.scene.Input).Notes
			slices.Sort(got)
			slices.Sort(test.want)
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
