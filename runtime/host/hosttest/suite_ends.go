package hosttest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// lastWords is where containers of these tests say why they ended.
const lastWords = "/dev/termination-log"

// speaker is a container that may say at its end why that came.
func (b *bench) speaker(pod, name string, policy corev1.TerminationMessagePolicy, command ...string) host.Container {
	b.Helper()
	uid := "uid-" + b.id
	path, err := b.volumes.Message(uid, name)
	b.must(err)
	b.Cleanup(func() { b.must(b.volumes.Remove(uid)) })
	c := b.container(pod, name, command...)
	c.Mounts = []host.Mount{{Source: path, Target: lastWords}}
	c.Labels[fleet.LabelMessage] = string(policy) + " " + lastWords
	return c
}

// endTests are about what is known of a container when it has ended.
var endTests = map[string]func(*bench){
	"what it wrote down is its message": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageReadFile, "seq", "print no", "write "+lastWords+" farewell", "exit 3")
		if c := b.ended(b.start(c)); c.Message != "farewell" || c.ExitCode != 3 || c.OutOfMemory {
			b.Fatalf("it is %+v", c)
		}
	},
	"a message is no matter of the code": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageFallbackToLogsOnError, "seq", "print no", "write "+lastWords+" done")
		if c := b.ended(b.start(c)); c.Message != "done" || c.ExitCode != 0 {
			b.Fatalf("it is %+v", c)
		}
	},
	"who wrote nothing has no message": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageReadFile, "seq", "print no", "exit 1")
		if c := b.ended(b.start(c)); c.Message != "" {
			b.Fatalf("it is %+v", c)
		}
	},
	"what it printed stands in when it failed": func(b *bench) {
		pod := b.create(b.sandbox())
		failed := b.speaker(pod, "failed", corev1.TerminationMessageFallbackToLogsOnError, "seq", "print one", "print-err two", "exit 1")
		fine := b.speaker(pod, "fine", corev1.TerminationMessageFallbackToLogsOnError, "print", "three")
		one, two := b.start(failed), b.start(fine)
		if c := b.ended(one); strings.TrimSpace(c.Message) != "one\ntwo" {
			b.Fatalf("it is %+v", c)
		}
		if c := b.ended(two); c.Message != "" {
			b.Fatalf("it is %+v", c)
		}
	},
	"a message has an end": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageReadFile, "write", lastWords, strings.Repeat("x", 10_000))
		if c := b.ended(b.start(c)); strings.Trim(c.Message, "x") != "" || len(c.Message) != 4096 {
			b.Fatalf("it has %d bytes", len(c.Message))
		}
	},
	"nobody asked for a message": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageReadFile, "write", lastWords, "farewell")
		delete(c.Labels, fleet.LabelMessage)
		if c := b.ended(b.start(c)); c.Message != "" {
			b.Fatalf("it is %+v", c)
		}
	},
	"a message lasts as long as the container": func(b *bench) {
		c := b.speaker(b.create(b.sandbox()), "app", corev1.TerminationMessageReadFile, "write", lastWords, "farewell")
		id := b.start(c)
		b.ended(id)
		b.must(b.RenameContainer(b.Context(), id, c.Name+"_3"))
		for range 2 {
			if c := b.seen(id); c.Message != "farewell" {
				b.Fatalf("it is %+v", c)
			}
		}
	},
	"out of memory": func(b *bench) {
		c := b.container(b.create(b.sandbox()), "app", "eat", "256Mi")
		if c := b.ended(b.start(c)); !c.OutOfMemory || c.ExitCode != killed {
			b.Fatalf("it is %+v", c)
		}
	},
	"killed, and not for want of memory": func(b *bench) {
		hand := b.hand()
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		b.must(hand.Kill(id, killed))
		if c := b.ended(id); c.OutOfMemory || c.ExitCode != killed {
			b.Fatalf("it is %+v", c)
		}
	},
}
