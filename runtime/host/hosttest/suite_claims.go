package hosttest

import (
	"context"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// claim is one of ours.
func (b *bench) claim(name string) host.Claim {
	id := fleet.ClaimID{Namespace: "suite", Name: b.id + "-" + name}
	return host.Claim{Name: fleet.PodmanClaim(id), Labels: map[string]string{
		fleet.LabelClaim: id.Namespace + "/" + id.Name, fleet.LabelClaimSize: "1Gi", "app": "x",
	}}
}

// keep makes a claim's volume that goes at the end of the test.
func (b *bench) keep(c host.Claim) (path string) {
	b.Helper()
	path, err := b.CreateClaim(b.Context(), c)
	b.must(err)
	if path == "" {
		b.Fatal("it lies nowhere")
	}
	b.Cleanup(func() {
		if err := b.RemoveClaim(context.WithoutCancel(b.Context()), c.Name); err != nil {
			b.Error(err)
		}
	})
	return path
}

// claims are this test's.
func (b *bench) claims() []fleet.ObservedClaim {
	b.Helper()
	return slices.DeleteFunc(b.look().Claims, func(c fleet.ObservedClaim) bool {
		return c.Claim.Namespace != "suite" || len(c.Claim.Name) <= len(b.id) || c.Claim.Name[:len(b.id)+1] != b.id+"-"
	})
}

var claimTests = map[string]func(*bench){
	"look shows what was made": func(b *bench) {
		kept := b.claim("two")
		delete(kept.Labels, fleet.LabelClaimSize)
		b.keep(kept)
		b.keep(b.claim("one"))
		got := b.claims()
		if diff := cmp.Diff([]fleet.ObservedClaim{
			{Claim: fleet.ClaimID{Namespace: "suite", Name: b.id + "-one"}, PodmanName: b.claim("one").Name, Size: "1Gi"},
			{Claim: fleet.ClaimID{Namespace: "suite", Name: b.id + "-two"}, PodmanName: kept.Name},
		}, got, cmpopts.IgnoreFields(fleet.ObservedClaim{}, "Created")); diff != "" {
			b.Fatal(diff)
		}
		for _, c := range got {
			if age := time.Since(c.Created); age < -time.Minute || age > time.Hour || c.Created.Location() != time.UTC {
				b.Errorf("%s was created at %s", c.Claim.Name, c.Created)
			}
		}
	},
	"the same again is the same": func(b *bench) {
		path := b.keep(b.claim("data"))
		again, err := b.CreateClaim(b.Context(), b.claim("data"))
		b.must(err)
		if again != path || len(b.claims()) != 1 {
			b.Fatalf("it lies at %s and %s; there are %+v", path, again, b.claims())
		}
	},
	"what was written outlives the pod": func(b *bench) {
		mounts := []host.Mount{{Source: b.keep(b.claim("data")), Target: "/data"}}
		pod, err := b.CreatePod(b.Context(), b.sandbox())
		b.must(err)
		writer := b.container(pod, "writer", "write", "/data/file", "content")
		writer.Mounts = mounts
		if c := b.ended(b.start(writer)); c.ExitCode != 0 {
			b.Fatalf("it is %+v", c)
		}
		b.removePod(pod)
		reader := b.container(b.create(b.sandbox()), "reader", "cat", "/data/file")
		reader.Mounts = mounts
		if c := b.ended(b.start(reader)); c.ExitCode != 0 {
			b.Fatalf("it is %+v", c)
		}
	},
	"one that a container has is not removed": func(b *bench) {
		claim := b.claim("data")
		mounts := []host.Mount{{Source: b.keep(claim), Target: "/data"}}
		pod := b.create(b.sandbox())
		running, over := b.container(pod, "running", "sleep"), b.container(pod, "over", "exit", "0")
		running.Mounts, over.Mounts = mounts, mounts
		first, second := b.start(running), b.start(over)
		b.ended(second)
		b.is(b.RemoveClaim(b.Context(), claim.Name), host.ErrConflict)
		b.must(b.RemoveContainer(b.Context(), first))
		b.is(b.RemoveClaim(b.Context(), claim.Name), host.ErrConflict)
		if len(b.claims()) != 1 {
			b.Fatal("it is gone all the same")
		}
		b.must(b.RemoveContainer(b.Context(), second))
		b.must(b.RemoveClaim(b.Context(), claim.Name))
		if left := b.claims(); len(left) != 0 {
			b.Fatalf("left are %+v", left)
		}
	},
	"remove twice": func(b *bench) {
		b.keep(b.claim("data"))
		b.must(b.RemoveClaim(b.Context(), b.claim("data").Name))
		b.must(b.RemoveClaim(b.Context(), b.claim("data").Name))
	},
	"remove of what never was": func(b *bench) { b.must(b.RemoveClaim(b.Context(), "no-such-"+b.id)) },
	"a stranger's name is a conflict": func(b *bench) {
		for _, labels := range []map[string]string{nil, {"app": "theirs"}, {fleet.LabelClaim: "suite/another"}} {
			theirs := b.claim("data")
			theirs.Labels = labels
			b.keep(theirs)
			_, err := b.CreateClaim(b.Context(), b.claim("data"))
			b.is(err, host.ErrConflict)
			if ours := b.claims(); len(ours) != 0 {
				b.Fatalf("the stranger's is taken for ours: %+v", ours)
			}
			b.must(b.RemoveClaim(b.Context(), theirs.Name))
		}
	},
	"labels that make no sense are a stranger's": func(b *bench) {
		for i, label := range []string{"", "data", "suite/", "/" + b.id + "-data"} {
			c := b.claim(string(rune('a' + i)))
			c.Labels[fleet.LabelClaim] = label
			b.keep(c)
		}
		for _, c := range b.look().Claims {
			if c.Claim.Namespace == "" || c.Claim.Name == "" || c.Claim.Name == b.id+"-data" {
				b.Errorf("it is taken for ours: %+v", c)
			}
		}
	},
}
