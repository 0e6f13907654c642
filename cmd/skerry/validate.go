package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/sources/manifest"
)

func validateCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "validate [SOURCE...]", Short: "Show every fault, with file, line and field",
		Long: `Show every fault, with file, line and field. Exit code 1 if there is one. What is right but not run
by this version, and fields without effect, are shown too; they are no faults.`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.validate(cmd.Context(), args) },
	}
}

// sourcesOrConfigured are the SOURCEs to read: those named, or else the configured ones.
func (o *options) sourcesOrConfigured(ctx context.Context, args []string) ([]loaded, error) {
	var all []loaded
	for _, source := range args {
		l, err := o.read(ctx, source)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	if len(args) > 0 {
		return all, nil
	}
	c, err := o.load()
	if err != nil {
		return nil, err
	}
	if len(c.Sources) == 0 {
		return nil, fmt.Errorf("no SOURCE is given and none is configured: name a folder, a file, - or a Git URL")
	}
	for _, s := range c.Sources {
		l, err := s.read(ctx, c.policy())
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		all = append(all, l)
	}
	return all, nil
}

func (o *options) validate(ctx context.Context, args []string) error {
	all, err := o.sourcesOrConfigured(ctx, args)
	if err != nil {
		return err
	}
	counts := map[manifest.FaultKind]int{}
	objects := 0
	for _, l := range all {
		objects += len(l.result.Objects)
		for _, f := range l.result.Faults {
			counts[f.Kind]++
			fmt.Fprintln(o.out, l.shown(f))
		}
	}
	fmt.Fprintf(o.err, "%d objects good, %d faults, %d not run by this version, %d fields without effect\n",
		objects, counts[manifest.Error], counts[manifest.NotRun], counts[manifest.Warning])
	if counts[manifest.Error] > 0 {
		return exitChanges
	}
	return nil
}
