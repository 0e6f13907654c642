package hosttest

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

var containerTests = map[string]func(*bench){
	"stop within grace": func(b *bench) {
		id := b.busy(b.create(b.sandbox()), "app", "sleep")
		b.must(b.StopContainer(b.Context(), id, 30*time.Second))
		c := b.seen(id)
		if c == nil || c.State != fleet.Exited || c.ExitCode != 0 || c.Finished.IsZero() {
			b.Fatalf("it is %+v", c)
		}
		b.must(b.StopContainer(b.Context(), id, time.Second)) // it does not run
	},
	"kill after grace": func(b *bench) {
		id := b.busy(b.create(b.sandbox()), "app", "ignore-term")
		b.must(b.StopContainer(b.Context(), id, time.Second))
		c := b.seen(id)
		if c == nil || c.State != fleet.Exited || c.ExitCode != killed {
			b.Fatalf("it is %+v", c)
		}
	},
	"stop of what never was":   func(b *bench) { b.is(b.StopContainer(b.Context(), "no-such", time.Second), host.ErrNotFound) },
	"rename of what never was": func(b *bench) { b.is(b.RenameContainer(b.Context(), "no-such", "x"+b.id), host.ErrNotFound) },
	"thaw of what never was":   func(b *bench) { b.is(b.Unpause(b.Context(), "no-such"), host.ErrNotFound) },
	"limit of what never was": func(b *bench) {
		b.is(b.LimitContainer(b.Context(), "no-such", fleet.Limits{Shares: 2}), host.ErrNotFound)
	},
	"remove of what never was": func(b *bench) { b.must(b.RemoveContainer(b.Context(), "no-such")) },
	"start in what never was": func(b *bench) {
		_, err := b.StartContainer(b.Context(), b.container("no-such", "app", "sleep"))
		b.is(err, host.ErrNotFound)
	},
	"remove twice": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "ignore-term"))
		b.must(b.RemoveContainer(b.Context(), id))
		b.empty()
		b.must(b.RemoveContainer(b.Context(), id))
	},
	"start with a missing image leaves nothing behind": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app", "sleep")
		c.Image = "localhost/no-such-image:1"
		_, err := b.StartContainer(b.Context(), c)
		b.is(err, host.ErrNotFound)
		b.empty()
	},
	"start of a missing command leaves nothing behind": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app")
		c.Entrypoint = []string{"/no/such/command"}
		_, err := b.StartContainer(b.Context(), c)
		b.is(err, errOther)
		b.empty()
	},
	"start with a missing folder leaves nothing behind": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app", "sleep")
		c.Mounts = []host.Mount{{Source: "/no/such/folder", Target: "/x"}}
		_, err := b.StartContainer(b.Context(), c)
		b.is(err, errOther)
		b.empty()
	},
	"exit code and times": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "exit", "7"))
		c := b.ended(id)
		if c.ExitCode != 7 || c.Finished.IsZero() || c.Finished.Before(c.Started) || c.Finished.Nanosecond() != 0 || c.Limits != nil {
			b.Fatalf("it is %+v", c)
		}
	},
	"its folders are there": func(b *bench) {
		uid := "uid-" + b.id
		b.must(b.volumes.Write(uid, "config", host.Written{Files: []fleet.File{{Path: "a", Data: []byte("b"), Mode: 0o644}}, Content: "h1"}))
		b.must(b.volumes.Scratch(uid, "scratch", true, 0))
		b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
		c := b.container(b.create(b.sandbox()), "app", "seq", "write /scratch/x y", "cat /config/a")
		c.Mounts = []host.Mount{
			{Source: b.volumes.Path(uid, "config", false), Target: "/config", ReadOnly: true},
			{Source: b.volumes.Path(uid, "scratch", true), Target: "/scratch"},
		}
		if c := b.ended(b.start(c)); c.ExitCode != 0 {
			b.Fatalf("it ended with %d", c.ExitCode)
		}
	},
	"limits": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		for _, want := range []fleet.Limits{
			{Memory: 32 << 20, CPUQuota: 20_000, Shares: 51}, {Memory: 300 << 20, CPUQuota: 150_000, Shares: 1024}, {Shares: 2},
		} {
			b.must(b.LimitContainer(b.Context(), id, want))
			if got := b.seen(id).Limits; got == nil || !got.Meets(want) {
				b.Fatalf("limits are %+v, want %+v", got, want)
			}
		}
	},
	"a container without limits": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app", "sleep")
		c.Limits = fleet.Limits{Shares: 2}
		if got := b.seen(b.start(c)).Limits; got == nil || !got.Meets(c.Limits) {
			b.Fatalf("limits are %+v", got)
		}
	},
	"thaw of what is not paused": func(b *bench) {
		pod := b.create(b.sandbox())
		id := b.start(b.container(pod, "app", "sleep"))
		b.must(b.Unpause(b.Context(), id))
		b.must(b.Unpause(b.Context(), pod))
	},
	"a stop goes on without its caller and holds up nothing else": func(b *bench) {
		pod := b.create(b.sandbox())
		id, other := b.busy(pod, "app", "ignore-term"), b.busy(pod, "other", "sleep")
		ctx, cancel := context.WithTimeout(b.Context(), 200*time.Millisecond)
		defer cancel()
		err := b.StopContainer(ctx, id, 4*time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, host.ErrUnavailable) {
			b.Fatalf("stop = %v, want the context's error", err)
		}
		b.must(b.StopContainer(b.Context(), other, 4*time.Second))
		b.must(b.RemoveContainer(b.Context(), other))
		if c := b.seen(id); c.State != fleet.Stopping && c.State != fleet.Running {
			b.Fatalf("all that took as long as the grace of another container, or it was not told: it is %s", c.State)
		}
		b.must(b.StopContainer(b.Context(), id, 4*time.Second)) // waits for the end of the first
		if c := b.seen(id); c.State != fleet.Exited || c.ExitCode != killed {
			b.Fatalf("it is %+v", c)
		}
	},
	"stops beside one another": func(b *bench) {
		pod := b.create(b.sandbox())
		results := make(chan error)
		for _, name := range []string{"a", "b", "c"} {
			id := b.busy(pod, name, "sleep")
			go func() { results <- b.StopContainer(b.Context(), id, 10*time.Second) }()
		}
		for range 3 {
			b.must(<-results)
		}
		for _, c := range b.pod().Containers {
			if c.State != fleet.Exited || c.ExitCode != 0 {
				b.Fatalf("it is %+v", c)
			}
		}
	},
}

var nameTests = map[string]func(*bench){
	"rename and back": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		name := b.seen(id).PodmanName
		for _, to := range []string{name + "_3", name} {
			b.must(b.RenameContainer(b.Context(), id, to))
			if c := b.seen(id); c == nil || c.PodmanName != to || c.Name != "app" || c.State != fleet.Running {
				b.Fatalf("it is %+v", c)
			}
		}
	},
	"rename to a name that is taken": func(b *bench) {
		pod := b.create(b.sandbox())
		one := b.start(b.container(pod, "one", "sleep"))
		two := b.container(pod, "two", "sleep")
		b.start(two)
		b.is(b.RenameContainer(b.Context(), one, two.Name), host.ErrConflict)
		if c := b.seen(one); c == nil || c.PodmanName == two.Name {
			b.Fatalf("it is %+v", c)
		}
	},
	"start under a name that is taken": func(b *bench) {
		pod := b.create(b.sandbox())
		c := b.container(pod, "app", "sleep")
		id := b.start(c)
		_, err := b.StartContainer(b.Context(), c)
		b.is(err, host.ErrConflict)
		if p := b.pod(); len(p.Containers) != 1 || p.Containers[0].ID != id || p.Containers[0].State != fleet.Running {
			b.Fatalf("there is %+v", p.Containers)
		}
	},
	"a retired name is free": func(b *bench) {
		pod := b.create(b.sandbox())
		c := b.container(pod, "app", "exit", "1")
		id := b.start(c)
		b.ended(id)
		b.must(b.RenameContainer(b.Context(), id, c.Name+"_3"))
		again := b.start(c)
		if p := b.pod(); len(p.Containers) != 2 || p.Containers[0].ID != again || p.Containers[1].ID != id {
			b.Fatalf("there is %+v", p.Containers)
		}
	},
	"a container of another pod's UID is no container of this pod": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app", "sleep")
		c.Labels[fleet.LabelPodUID] = "another"
		b.start(c)
		b.empty()
		if !b.look().Taken[c.Name] {
			b.Fatal("its name is not among the taken ones")
		}
	},
}
