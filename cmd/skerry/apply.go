package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources/dir"
)

// defaultWait is how long apply and delete wait for things to be ready.
const defaultWait = 5 * time.Minute

func applyCommand(o *options) *cobra.Command {
	var dryRun bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "apply [SOURCE...]", Short: "Make it so, and wait until it is ready",
		Long: `Make what the SOURCEs say so, and wait until everything is ready. What the same SOURCE put up
before and has no more is taken down; a single file or - only adds and changes. Without a SOURCE
the configured sources are fetched and taken over now, as by skerry sync.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				return o.diff(cmd.Context(), args, "text")
			}
			if len(args) == 0 {
				return o.sync(cmd.Context(), "", wait)
			}
			return o.apply(cmd.Context(), args, wait)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would happen, as skerry diff")
	cmd.Flags().DurationVar(&wait, "wait", defaultWait, "how long to wait until everything is ready; 0 does not wait")
	return cmd
}

func deleteCommand(o *options) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "delete SOURCE...", Short: "Take down what these manifests put up",
		Long: `Take down what these manifests put up, and what the same SOURCE put up and has no more: also a
folder that is empty or gone by now.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("delete what? name a folder, a file, - or a Git URL")
			}
			return o.remove(cmd.Context(), args, wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", defaultWait, "how long to wait until everything is gone; 0 does not wait")
	return cmd
}

// readAll reads SOURCEs and prints what is wrong in them.
func (o *options) readAll(ctx context.Context, args []string) (sets []api.Set, errs int, err error) {
	for _, source := range args {
		l, err := o.read(ctx, source)
		if err != nil {
			return nil, errs, err
		}
		errs += o.faults(l)
		set, err := l.set()
		if err != nil {
			return nil, errs, err
		}
		sets = append(sets, set)
	}
	return sets, errs, nil
}

func (o *options) apply(ctx context.Context, args []string, wait time.Duration) error {
	sets, errs, err := o.readAll(ctx, args)
	if err != nil {
		return err
	}
	return o.connect(ctx, true, func(ctx context.Context, b backend, alone bool) error {
		for _, set := range sets {
			if err := b.Apply(ctx, set); err != nil {
				return err
			}
			fmt.Fprintf(o.out, "%s: %d objects applied\n", set.Name, len(set.Objects))
		}
		err := o.wait(ctx, b, wait)
		if alone {
			fmt.Fprintln(o.err, "No agent runs on this node: what was applied runs on, but nothing looks after it until `skerry agent` does.")
		}
		if err == nil && errs > 0 {
			fmt.Fprintf(o.err, "%d faults kept something from being applied (above); the rest is as it should be.\n", errs)
			return exitChanges
		}
		return err
	})
}

func (o *options) remove(ctx context.Context, args []string, wait time.Duration) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	var sets []api.Set
	for _, source := range args {
		read, _, err := o.readAll(ctx, []string{source})
		if errors.Is(err, dir.ErrEmpty) || errors.Is(err, fs.ErrNotExist) {
			name, absErr := filepath.Abs(source)
			if absErr == nil && agent.HasApplied(c.Node.DataDir, fleet.SourceName(name)) {
				read, err = []api.Set{{Name: fleet.SourceName(name)}}, nil
			}
		}
		if err != nil {
			return err
		}
		sets = append(sets, read...)
	}
	return o.connect(ctx, true, func(ctx context.Context, b backend, _ bool) error {
		for _, set := range sets {
			if err := b.Delete(ctx, set); err != nil {
				return err
			}
			fmt.Fprintf(o.out, "%s: deleted\n", set.Name)
		}
		return o.wait(ctx, b, wait)
	})
}

// wait shows how far things are until everything is as desired, or time is out; then it names what is not.
func (o *options) wait(ctx context.Context, b backend, limit time.Duration) error {
	if limit <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	show := &progress{terminal: o.terminal}
	err := b.Follow(ctx, show.tell)
	switch {
	case err == nil:
		show.done()
		fmt.Fprintln(o.out, "Everything is as it should be.")
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, api.ErrStopped):
		show.done()
		if errors.Is(err, api.ErrStopped) {
			fmt.Fprintln(o.err, "This is not as it should be, and does not go on by itself:")
		} else {
			fmt.Fprintf(o.err, "After %s this is not as it should be:\n", limit)
		}
		for _, n := range show.last.Waiting {
			fmt.Fprintln(o.err, "  "+line(n))
		}
		for _, n := range further(show.last.Notes, show.last.Waiting) {
			fmt.Fprintln(o.err, "  "+line(n))
		}
		fmt.Fprintln(o.err, "skerry status says how it goes on.")
		return exitChanges
	default:
		return err
	}
}

func line(n fleet.Note) string {
	if n.About == (fleet.ObjectID{}) {
		return n.Text
	}
	return n.About.String() + ": " + n.Text
}

// progress shows how far things are: on a terminal a block that is written over, elsewhere a line a change.
type progress struct {
	terminal
	last  api.Progress
	shown []string
	drawn int // lines of the block on the terminal
}

func (p *progress) tell(now api.Progress) error {
	p.last = now
	var lines []string
	for _, n := range now.Waiting {
		lines = append(lines, line(n))
	}
	if p.live() {
		p.erase()
		for _, l := range lines {
			fmt.Fprintln(p.out, l)
		}
		p.drawn = len(lines)
		return nil
	}
	for _, l := range lines {
		if !slices.Contains(p.shown, l) {
			fmt.Fprintln(p.out, l)
		}
	}
	p.shown = lines
	return nil
}

// erase takes the block off the terminal.
func (p *progress) erase() {
	fmt.Fprint(p.out, strings.Repeat("\x1b[1A\x1b[2K", p.drawn))
	p.drawn = 0
}

func (p *progress) done() {
	if p.live() {
		p.erase()
	}
}
