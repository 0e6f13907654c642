package hosts

import (
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// scene is a list of happenings, one second apart.
type scene []happening

var (
	db0  = fleet.Identity{Pod: fleet.PodID{Namespace: "default", Name: "db-0"}, Owner: object("StatefulSet", "db"), Want: "h1"}
	rep1 = fleet.Identity{Pod: fleet.PodID{Namespace: "default", Name: "web-x1"}, Owner: object("ReplicaSet", "web"), Want: "h1"}
	rep2 = fleet.Identity{Pod: fleet.PodID{Namespace: "default", Name: "web-x2"}, Owner: object("ReplicaSet", "web"), Want: "h1"}
	tick = fleet.Identity{
		Pod: fleet.PodID{Namespace: "default", Name: "c-100-p"}, Owner: object("Job", "c-100"), Controller: object("CronJob", "c"),
		Label: "j1", Want: "h1",
	}
)

func object(kind, name string) fleet.ObjectID {
	return fleet.ObjectID{Kind: kind, Namespace: "default", Name: name}
}

// with is a pod's identity, changed.
func with(id fleet.Identity, change func(*fleet.Identity)) fleet.Identity {
	change(&id)
	return id
}

// on is a start of a pod's container; the same container of the same pod on the same host has the same ID.
func on(host, uid string, pod fleet.Identity, container string) happening {
	return happening{host: host, what: started, id: host + uid + container, uid: uid, container: container, pod: pod}
}

// off is its end.
func off(start happening, code int) happening {
	start.what, start.code = ended, code
	return start
}

// gone is its removal.
func gone(start happening) happening {
	start.what = removed
	return start
}

func noPower(host string) happening { return happening{host: host, what: powerCut} }

func TestJudge(t *testing.T) {
	const main = "main"
	infra, again := on("a", "u1", rep1, ""), on("a", "u1", rep1, main)
	set, elsewhere := on("a", "u1", db0, main), on("b", "u2", db0, main)
	job, second := on("a", "u1", tick, main), on("b", "u2", tick, main)
	indexed := func(n int32) func(*fleet.Identity) { return func(id *fleet.Identity) { id.Index = &n } }
	why := happening{what: cause, pods: "default/web-", why: "scaled"}
	done := happening{what: over, pods: "default/web-", why: "scaled"}

	for _, c := range []struct {
		name  string
		scene scene
		want  promise // the only one broken; none when empty
	}{
		{"moved", scene{set, off(set, 0), elsewhere}, ""},
		{"twice", scene{set, elsewhere}, onePod},
		{"twice on one host", scene{set, on("a", "u2", db0, main)}, onePod},
		{"the same pod on two hosts", scene{set, on("b", "u1", db0, main)}, onePod},
		{"two containers of one", scene{set, on("a", "u1", db0, "side")}, ""},
		{"one of two containers goes on", scene{set, on("a", "u1", db0, "side"), off(set, 0), elsewhere}, onePod},
		{"the sandbox of another is made before", scene{set, on("b", "u2", db0, ""), off(set, 0), elsewhere}, ""},
		{"twice, with a cause", scene{happening{what: cause, why: "any"}, set, elsewhere}, onePod},
		{"the power of the first is gone", scene{set, noPower("a"), elsewhere}, ""},
		{"the power of a third is gone", scene{set, noPower("c"), elsewhere}, onePod},
		{"removed without an end", scene{set, gone(set), elsewhere}, ""},
		{"removed after its end", scene{set, off(set, 0), gone(set), elsewhere}, ""},
		{"other pods", scene{set, on("b", "u2", with(db0, func(id *fleet.Identity) { id.Pod.Name = "db-1" }), main)}, ""},
		{"another namespace", scene{set, on("b", "u2", with(db0, func(id *fleet.Identity) { id.Pod.Namespace = "other" }), main)}, ""},
		{"a DaemonSet's have one name perhaps", scene{infra, again, on("b", "u2", rep1, ""), on("b", "u2", rep1, main)}, ""},

		{"a tick", scene{job, off(job, 0)}, ""},
		{"at the same time", scene{job, second}, oneRun},
		{"after it was done", scene{job, off(job, 0), second}, oneRun},
		{"after it failed", scene{job, off(job, 1), second, off(second, 0)}, ""},
		{"after it failed, twice", scene{job, off(job, 1), second, on("a", "u3", tick, main)}, oneRun},
		{"after its power went", scene{job, noPower("a"), second}, ""},
		{"after another's power went", scene{job, noPower("b"), second}, oneRun},
		{"in the same pod", scene{job, off(job, 1), job}, ""},
		{"two containers of a run", scene{job, on("a", "u1", tick, "side"), off(job, 0)}, ""},
		{"one container of a run failed, the other goes on", scene{job, on("a", "u1", tick, "side"), off(job, 1), second}, oneRun},
		{"the next tick", scene{job, on("b", "u2", with(tick, func(id *fleet.Identity) { id.Owner.Name = "c-101" }), main)}, ""},
		{"the same tick by another Job", scene{job, off(job, 1), on("b", "u2", with(tick, func(id *fleet.Identity) { id.Label = "j2" }), main)}, oneRun},
		{"by index", scene{on("a", "u1", with(tick, indexed(0)), main), on("b", "u2", with(tick, indexed(1)), main)}, ""},
		{"an index twice", scene{on("a", "u1", with(tick, indexed(1)), main), on("b", "u2", with(tick, indexed(1)), main)}, oneRun},
		{"a Job of nobody's", scene{job, on("b", "u2", with(tick, func(id *fleet.Identity) { id.Controller = fleet.ObjectID{} }), main)}, ""},

		{"restarted", scene{infra, again, off(again, 143), again}, noRestarts},
		{"restarted after it was killed", scene{infra, again, off(again, 137), again}, noRestarts},
		{"removed", scene{infra, again, gone(again), again}, noRestarts},
		{"crashed and removed", scene{infra, again, off(again, 1), gone(again), again}, ""},
		{"crashed", scene{infra, again, off(again, 1), again}, ""},
		{"with a cause", scene{infra, again, why, off(again, 0), again}, ""},
		{"the cause is over", scene{infra, again, why, done, off(again, 0), again}, noRestarts},
		{"one of two causes is over", scene{infra, again, why, happening{what: cause, pods: "default/web-", why: "drained"}, done, off(again, 0), again}, ""},
		{"a cause for others", scene{infra, again, happening{what: cause, pods: "default/db-"}, off(again, 0), again}, noRestarts},
		{"a cause for all", scene{infra, again, happening{what: cause}, off(again, 0), again}, ""},
		{"ended for good", scene{infra, again, off(again, 0), off(infra, 0)}, ""},
		{"its power went", scene{infra, again, noPower("a"), infra, again}, ""},
		{"replaced", scene{infra, again, off(again, 0), off(infra, 0), on("b", "u2", rep2, ""), on("b", "u2", rep2, main)}, noRestarts},
		{"replaced before", scene{infra, on("b", "u2", rep2, ""), off(infra, 0)}, ""},
		{"replaced with a cause", scene{infra, why, off(infra, 0), done, on("b", "u2", rep2, "")}, ""},
		{"replaced by another template", scene{infra, off(infra, 0), on("b", "u2", with(rep2, func(id *fleet.Identity) { id.Want = "h2" }), "")}, ""},
		{"replaced for its configuration", scene{infra, off(infra, 0), on("b", "u2", with(rep2, func(id *fleet.Identity) { id.Stamp.Config = "c" }), "")}, ""},
		{"a Job's next pod", scene{on("a", "u1", tick, ""), job, off(job, 1), off(on("a", "u1", tick, ""), 0), on("b", "u2", tick, ""), second}, ""},
		{"two ended, one comes", scene{infra, on("b", "u2", rep2, ""), off(infra, 0), off(on("b", "u2", rep2, ""), 0), infra}, noRestarts},
		{"an end that nobody saw the start of", scene{off(again, 0), again}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.scene {
				c.scene[i].at = time.Unix(int64(i), 0)
			}
			found := judge(c.scene)
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found fault with what is right: %v", found)
			case c.want != "" && (len(found) != 1 || found[0].promise != c.want):
				t.Errorf("found %v, want %q broken", found, c.want)
			}
		})
	}
}

func TestFewest(t *testing.T) {
	one, two := on("a", "u1", rep1, "main"), on("b", "u2", rep2, "main")
	for _, c := range []struct {
		name  string
		scene scene
		since int64
		want  int
	}{
		{"nothing", nil, 0, 0},
		{"nothing since", scene{one, two}, 5, 2},
		{"one after the other", scene{one, two, off(one, 0), one}, 1, 1},
		{"sandboxes and others", scene{one, on("a", "u1", rep1, ""), on("a", "u3", db0, "main")}, 1, 1},
		{"before it began", scene{one, off(one, 0), one, two}, 2, 1},
		{"its power went", scene{one, two, noPower("b")}, 1, 1},
		{"removed", scene{one, two, gone(one), gone(two)}, 1, 0},
	} {
		for i := range c.scene {
			c.scene[i].at = time.Unix(int64(i), 0)
		}
		if got := fewest(c.scene, "default/web-", time.Unix(c.since, 0)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
