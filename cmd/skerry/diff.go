package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/api"
)

func diffCommand(o *options) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "diff [SOURCE...]", Short: "Show what would change",
		Long: `Show what would change: fields of objects, then the steps on each node in the order they would be
taken, from the code that takes them. Exit code 0: nothing; 1: something; 2: an error.

A folder that is the checkout of a configured source is compared with that source: it shows what a
push would do. Without a SOURCE the configured sources are looked at, and what runs is compared
with what they say.`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.diff(cmd.Context(), args, format) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

func (o *options) diff(ctx context.Context, args []string, format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("-o %s: text or json is wanted", format)
	}
	sets, errs, err := o.readAll(ctx, args)
	if err != nil {
		return err
	}
	changes := false
	err = o.connect(ctx, false, func(ctx context.Context, b backend, _ bool) error {
		asked := []*api.Set{nil}
		if len(sets) > 0 {
			asked = asked[:0]
			for i := range sets {
				asked = append(asked, &sets[i])
			}
		}
		for _, set := range asked {
			d, err := b.Diff(ctx, set)
			if err != nil {
				return err
			}
			for _, s := range d.Sources {
				if s.Error != "" {
					return fmt.Errorf("source %s: %s", s.Name, s.Error)
				}
			}
			changes = changes || !d.Empty()
			if format == "json" {
				encoder := json.NewEncoder(o.out)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(d); err != nil {
					return err
				}
				continue
			}
			writeDiff(o.out, d)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case errs > 0:
		return fmt.Errorf("%d faults (above): what would happen to the rest is shown", errs)
	case changes:
		return exitChanges
	default:
		return nil
	}
}

// marks are how changes are marked.
var marks = map[string]string{"create": "+", "change": "~", "delete": "-"}

func writeDiff(w io.Writer, d api.Diff) {
	if d.Empty() {
		fmt.Fprintf(w, "Nothing would change (against %s).\n", d.Against)
	} else {
		fmt.Fprintf(w, "Against %s:\n", d.Against)
	}
	for _, o := range d.Objects {
		fmt.Fprintf(w, "%s %s %s", marks[o.Change], o.Change, o.ID)
		if o.File != "" {
			fmt.Fprintf(w, "  (%s)", o.File)
		}
		fmt.Fprintln(w)
		for _, f := range o.Fields {
			switch {
			case f.Old == "":
				fmt.Fprintf(w, "    + %s: %s\n", f.Path, f.New)
			case f.New == "":
				fmt.Fprintf(w, "    - %s: %s\n", f.Path, f.Old)
			default:
				fmt.Fprintf(w, "    ~ %s: %s -> %s\n", f.Path, f.Old, f.New)
			}
		}
	}
	if len(d.Steps) > 0 {
		fmt.Fprintln(w, "Steps:")
	}
	for i, s := range d.Steps {
		fmt.Fprintf(w, "%4d. %s: %s\n", i+1, s.Node, s.Text)
	}
	if !d.Settled && !d.Empty() {
		fmt.Fprintln(w, "      … and so on: this does not come to rest as far as was looked.")
	}
	for _, n := range d.Notes {
		fmt.Fprintln(w, "Note:", line(n))
	}
}
