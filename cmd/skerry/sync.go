package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

func syncCommand(o *options) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "sync [NAME]", Short: "Fetch and reconcile now", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return o.sync(cmd.Context(), name, wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait until everything is ready, so long at most")
	return cmd
}

func (o *options) sync(ctx context.Context, name string, wait time.Duration) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	client := api.NewClient(c.Listen.Socket)
	fetched, err := client.Sync(ctx, fleet.SourceName(name))
	if errors.Is(err, api.ErrNoAgent) {
		return fmt.Errorf("%w (start it with skerry agent, or name its socket with --socket)", err)
	}
	if err != nil {
		return err
	}
	if len(fetched) == 0 {
		fmt.Fprintln(o.err, "No source is configured.")
	}
	failed := false
	for _, f := range fetched {
		if f.Error != "" {
			failed = true
			fmt.Fprintf(o.err, "%s: %s\n", f.Source, f.Error)
			continue
		}
		fmt.Fprintf(o.out, "%s: at %s %s\n", f.Source, f.Revision.Short(), f.Title)
	}
	if err := o.wait(ctx, client, wait); err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range status.Sources {
		for _, f := range s.Faults {
			if f.Kind != "Warning" && (name == "" || s.Name == fleet.SourceName(name)) {
				fmt.Fprintf(o.err, "%s: %s\n", s.Name, f.Text)
			}
		}
	}
	if failed {
		fmt.Fprintln(o.err, "Not everything could be fetched (above): what was fetched before stands.")
		return exitChanges
	}
	return nil
}
