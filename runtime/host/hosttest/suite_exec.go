package hosttest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
)

var execTests = map[string]func(*bench){
	"code and output": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		for _, c := range []struct {
			command []string
			code    int
			output  string
		}{
			{[]string{"print", "one", "two  three"}, 0, "one two  three\n"},
			{[]string{"print", "", "$PATH", "*"}, 0, " $PATH *\n"}, // no shell has seen it
			{[]string{"exit", "7"}, 7, ""},
			{[]string{"/bin/exit", "255"}, 255, ""},
			{[]string{"seq", "print a", "print b", "exit 3", "print c"}, 3, "a\nb\n"},
			{[]string{"seq", "print-err oh", "crash-after 10ms 4"}, 4, "oh\n"},
		} {
			code, output, err := b.Exec(b.Context(), id, c.command)
			if code != c.code || string(output) != c.output || err != nil {
				b.Errorf("%q: %d, %q, %v; want %d, %q", c.command, code, output, err, c.code, c.output)
			}
		}
	},
	"a command that is not there": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		for _, command := range []string{"no-such-command", "/no/such/command"} {
			code, _, err := b.Exec(b.Context(), id, []string{command})
			b.must(err)
			if code != 126 && code != 127 {
				b.Errorf("%s: code %d", command, code)
			}
		}
	},
	"long output is cut": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		long := strings.Repeat("0123456789", 3000)
		if output := b.exec(id, "print", long); output != long[:10<<10] {
			b.Errorf("there are %d bytes, which end with %.20s", len(output), output[max(len(output)-20, 0):])
		}
	},
	"in what never was": func(b *bench) {
		_, _, err := b.Exec(b.Context(), "no-such", []string{"print"})
		b.is(err, host.ErrNotFound)
	},
	"in what has ended": func(b *bench) {
		id := b.start(b.container(b.create(b.sandbox()), "app", "exit", "0"))
		b.ended(id)
		_, _, err := b.Exec(b.Context(), id, []string{"print"})
		b.is(err, errOther)
	},
	"in what is paused": func(b *bench) {
		hand := b.hand()
		id := b.start(b.container(b.create(b.sandbox()), "app", "sleep"))
		b.must(hand.Pause(id))
		_, _, err := b.Exec(b.Context(), id, []string{"print"})
		b.must(b.Unpause(b.Context(), id))
		b.is(err, errOther)
	},
	"what is late is killed with its children, and holds up nothing": func(b *bench) {
		id := b.busy(b.create(b.sandbox()), "app", "sleep")
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		late := make(chan error, 1)
		go func() {
			_, _, err := b.Exec(ctx, id, []string{"hang"})
			late <- err
		}()
		b.exec(id, "print", "beside it")
		if err := <-late; !errors.Is(err, context.DeadlineExceeded) {
			b.Fatalf("it got %v", err)
		}
		if left := b.exec(id, "ps"); strings.Contains(left, "hang") || strings.Contains(left, "ignore-term") {
			b.Fatalf("left behind:\n%s", left)
		}
	},
	"what is cancelled is killed": func(b *bench) {
		id := b.busy(b.create(b.sandbox()), "app", "sleep")
		ctx, cancel := context.WithCancel(b.Context())
		over := make(chan error, 1)
		go func() {
			_, _, err := b.Exec(ctx, id, []string{"ignore-term"})
			over <- err
		}()
		cancel() // before, while or after it starts
		if err := <-over; !errors.Is(err, context.Canceled) {
			b.Fatalf("it got %v", err)
		}
		if left := b.exec(id, "ps"); strings.Contains(left, "ignore-term") {
			b.Fatalf("left behind:\n%s", left)
		}
		b.must(b.StopContainer(b.Context(), id, 30*time.Second))
	},
}
