package hosttest

import (
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

var podTests = map[string]func(*bench){
	"look shows what was made": func(b *bench) {
		pod := b.create(b.sandbox())
		ctr := b.start(b.container(pod, "app", "sleep"))
		ips, err := b.PodAddresses(b.Context(), pod)
		b.must(err)
		if len(ips) == 0 || !ips[0].Is4() {
			b.Fatalf("addresses are %v, want one of IPv4 at least", ips)
		}
		want := &fleet.ObservedPod{
			PodReport: fleet.PodReport{Identity: fleet.Identity{
				Pod: fleet.PodID{Namespace: "suite", Name: b.id}, UID: "uid-" + b.id, Source: "home", From: "abc",
				Owner:      fleet.ObjectID{Kind: fleet.KindReplicaSet, Namespace: "suite", Name: b.id},
				Controller: fleet.ObjectID{Kind: fleet.KindDeployment, Namespace: "suite", Name: "d"},
				Want:       "hash", Shape: "shape", Label: "label", Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
			},
			},
			ID: pod, PodmanName: "suite_" + b.id, Infra: fleet.Running, IPs: ips,
			Containers: []fleet.ObservedContainer{{
				ID: ctr, PodmanName: "suite_" + b.id + "_app", Name: "app", Image: b.image, State: fleet.Running,
				Hash: "c-hash", Attempt: 3, Backoff: 40 * time.Second,
				Limits: &fleet.Limits{Memory: 64 << 20, CPUQuota: 50_000, Shares: 102},
			}},
		}
		got := b.pod()
		if diff := cmp.Diff(want, got, cmp.Comparer(fleet.Limits.Meets), cmpopts.EquateComparable(ips[0]),
			cmpopts.IgnoreFields(fleet.ObservedContainer{}, "ImageID", "Created", "Started")); diff != "" {
			b.Fatal(diff)
		}
		c := got.Containers[0]
		if c.ImageID == "" || c.Created.IsZero() || c.Started.IsZero() || c.Started.Nanosecond() != 0 {
			b.Fatalf("image %q, created %s, started %s", c.ImageID, c.Created, c.Started)
		}
	},
	"what Look returned is the caller's": func(b *bench) {
		pod := b.create(b.sandbox())
		b.start(b.container(pod, "app", "sleep"))
		one := b.pod()
		one.IPs[0], one.Containers[0].Limits.Memory, one.Containers[0].State = one.IPs[0].Next(), 1, fleet.Unknown
		two := b.pod()
		if two.IPs[0] == one.IPs[0] || two.Containers[0].Limits.Memory == 1 || two.Containers[0].State != fleet.Running {
			b.Fatalf("a change of what was seen changed the machine: %+v", two)
		}
	},
	"what a pod remembers of the sandbox before": func(b *bench) {
		s := b.sandbox()
		s.Labels[fleet.LabelPast] = `{"app":{"attempt":4,"backoff":40000000000},"init":{"succeeded":true}}`
		b.create(s)
		want := fleet.Past{"app": {Attempt: 4, Backoff: 40 * time.Second}, "init": {Succeeded: true}}
		if diff := cmp.Diff(want, b.pod().Past); diff != "" {
			b.Fatal(diff)
		}
	},
	"a memory that makes no sense is none": func(b *bench) {
		s := b.sandbox()
		s.Labels[fleet.LabelPast] = `{"app":`
		b.create(s)
		if p := b.pod(); p == nil || p.Past != nil {
			b.Fatalf("it is %+v", p)
		}
	},
	"remove twice": func(b *bench) {
		pod := b.create(b.sandbox())
		b.start(b.container(pod, "app", "ignore-term"))
		b.must(b.RemovePod(b.Context(), pod))
		if p := b.pod(); p != nil {
			b.Fatalf("it is still there: %+v", p)
		}
		b.must(b.RemovePod(b.Context(), pod))
	},
	"remove of what never was":    func(b *bench) { b.must(b.RemovePod(b.Context(), "no-such-pod")) },
	"addresses of what never was": func(b *bench) { _, err := b.PodAddresses(b.Context(), "no-such-pod"); b.is(err, host.ErrNotFound) },
	"a stranger's name is a conflict": func(b *bench) {
		theirs := b.create(host.Sandbox{Name: b.sandbox().Name, Labels: map[string]string{"app": "theirs"}})
		_, err := b.CreatePod(b.Context(), b.sandbox())
		b.is(err, host.ErrConflict)
		if !b.look().Taken[b.sandbox().Name] {
			b.Fatal("the stranger's name is not among the taken ones")
		}
		if b.pod() != nil {
			b.Fatal("the stranger's pod is taken for ours")
		}
		if ips, err := b.PodAddresses(b.Context(), theirs); err != nil || len(ips) == 0 {
			b.Fatalf("the stranger's pod is not as it was: %v, %v", ips, err)
		}
	},
	"another pod of ours with that name is a conflict": func(b *bench) {
		b.create(b.sandbox())
		other := b.sandbox()
		other.Labels[fleet.LabelPodUID] = "another"
		_, err := b.CreatePod(b.Context(), other)
		b.is(err, host.ErrConflict)
		if p := b.pod(); p == nil || p.Infra != fleet.Running {
			b.Fatalf("the first is not as it was: %+v", p)
		}
	},
	"the same pod again is the same": func(b *bench) {
		pod := b.create(b.sandbox())
		ctr := b.start(b.container(pod, "app", "sleep"))
		again, err := b.CreatePod(b.Context(), b.sandbox())
		b.must(err)
		if again != pod {
			b.Fatalf("made %s beside %s", again, pod)
		}
		if c := b.seen(ctr); c == nil || c.State != fleet.Running {
			b.Fatalf("the container in it is %+v", c)
		}
	},
	"a port that is taken leaves nothing behind": func(b *bench) {
		port := host.Port{Host: 18080, Container: 8080, Protocol: "tcp"}
		b.create(host.Sandbox{Name: "stranger-" + b.id, Ports: []host.Port{port}})
		ours := b.sandbox()
		ours.Ports = []host.Port{port}
		_, err := b.CreatePod(b.Context(), ours)
		b.is(err, host.ErrConflict)
		if p := b.pod(); p != nil {
			b.Fatalf("left behind: %+v", p)
		}
		ours.Ports[0].Host++
		b.create(ours)
		if p := b.pod(); p == nil || p.Infra != fleet.Running {
			b.Fatalf("with another port it is %+v", p)
		}
	},
	"labels that make no sense are a stranger's": func(b *bench) {
		s := b.sandbox()
		s.Labels[fleet.LabelOwner] = "not an object"
		b.create(s)
		if seen := b.look(); b.pod() != nil || !seen.Taken[s.Name] {
			b.Fatalf("taken is %v", seen.Taken)
		}
	},
}

var handTests = map[string]func(*bench){
	"a death rings, and is seen with its code and time": func(b *bench) {
		hand := b.hand()
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		bell, stop := b.watch()
		defer stop()
		b.must(hand.Kill(id, killed))
		<-bell
		c := b.ended(id)
		if c.ExitCode != killed || c.Finished.IsZero() || c.Finished.Before(c.Started) || c.Limits != nil {
			b.Fatalf("it is %+v", c)
		}
	},
	"a paused container is thawed": func(b *bench) {
		hand := b.hand()
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		b.must(hand.Pause(id))
		if c := b.seen(id); c.State != fleet.Paused {
			b.Fatalf("it is %s", c.State)
		}
		b.must(b.Unpause(b.Context(), id))
		if c := b.seen(id); c.State != fleet.Running {
			b.Fatalf("it is %s", c.State)
		}
	},
	"a paused pod is thawed": func(b *bench) {
		hand := b.hand()
		pod := b.create(b.sandbox())
		id := b.start(b.container(pod, "app", "sleep"))
		b.must(hand.Pause(pod))
		if p := b.pod(); p.Infra != fleet.Paused || p.Containers[0].State != fleet.Paused {
			b.Fatalf("it is %+v", p)
		}
		b.must(b.Unpause(b.Context(), pod))
		if p := b.pod(); p.Infra != fleet.Running || p.Containers[0].State != fleet.Running || p.Containers[0].ID != id {
			b.Fatalf("it is %+v", p)
		}
	},
	"a paused container cannot be stopped": func(b *bench) {
		hand := b.hand()
		id := b.busy(b.create(b.sandbox()), "app", "sleep")
		b.must(hand.Pause(id))
		b.is(b.StopContainer(b.Context(), id, time.Second), errOther)
		b.must(b.Unpause(b.Context(), id))
		b.must(b.StopContainer(b.Context(), id, time.Second))
	},
	"a paused container is removed": func(b *bench) {
		hand := b.hand()
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		b.must(hand.Pause(id))
		b.must(b.RemoveContainer(b.Context(), id))
		b.empty()
	},
}

// The machine in memory is its own Hand.
var _ Hand = (*Host)(nil)
