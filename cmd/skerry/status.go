package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/api"
)

func statusCommand(o *options) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show nodes, sources, workloads and what waits why", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.status(cmd.Context(), format) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, wide or json")
	return cmd
}

func (o *options) status(ctx context.Context, format string) error {
	if format != "text" && format != "wide" && format != "json" {
		return fmt.Errorf("-o %s: text, wide or json is wanted", format)
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	status, err := api.NewClient(c.Listen.Socket).Status(ctx)
	if errors.Is(err, api.ErrNoAgent) {
		return fmt.Errorf("%w (start it with skerry agent, or name its socket with --socket)", err)
	}
	if err != nil {
		return err
	}
	if format == "json" {
		encoder := json.NewEncoder(o.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(status)
	}
	return writeStatus(o.out, status, format == "wide", time.Now())
}

// writeStatus writes the page that somebody reads at two in the morning: what is wrong comes last, nearest to
// the prompt.
func writeStatus(out io.Writer, s api.Status, wide bool, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPODMAN\tVERSION\tEPOCH\tSETTLED")
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\n", s.Node, s.Podman, s.Version, s.Epoch, s.Settled)
	if len(s.Sources) > 0 {
		fmt.Fprintln(w, "\nSOURCE\tREVISION\tSTATE\tOBJECTS\tLOOKED\tTITLE")
	}
	for _, x := range s.Sources {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", x.Name, dash(x.Revision.Short()), x.State, x.Objects, age(x.Checked, now), x.Title)
	}
	if len(s.Workloads) > 0 {
		fmt.Fprintln(w, "\nWORKLOAD\tREADY\tUPDATED\tAVAILABLE\tSTATE\tREVISION\tFILE")
	}
	for _, x := range s.Workloads {
		fmt.Fprintf(w, "%s\t%d/%d\t%d\t%d\t%s\t%s\t%s\n", x.ID, x.Ready, x.Desired, x.Updated, x.Available, x.State, x.Revision.Short(), x.File)
	}
	if len(s.Pods) > 0 {
		head := "\nPOD\tREADY\tSTATUS\tRESTARTS\tAGE"
		if wide {
			head += "\tIP\tNODE\tOWNER"
		}
		fmt.Fprintln(w, head)
	}
	for _, x := range s.Pods {
		fmt.Fprintf(w, "%s\t%d/%d\t%s\t%d\t%s", x.ID, x.Ready, x.Total, x.Phase, x.Restarts, age(x.Created, now))
		if wide {
			fmt.Fprintf(w, "\t%s\t%s\t%s", dash(x.IP), x.Node, x.Owner)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, x := range s.Sources {
		if x.Error != "" {
			fmt.Fprintf(out, "\nSource %s: %s\n", x.Name, x.Error)
		}
		for _, f := range x.Faults {
			if f.Kind != "Warning" {
				fmt.Fprintf(out, "\nSource %s: %s\n", x.Name, f.Text)
			}
		}
	}
	if len(s.Waiting)+len(s.Notes) > 0 {
		fmt.Fprintln(out)
	}
	for _, n := range s.Waiting {
		fmt.Fprintln(out, "Waiting:", line(n))
	}
	for _, n := range s.Notes {
		fmt.Fprintln(out, "Note:", line(n))
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age is how long ago something was, as kubectl writes it.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	switch d := max(now.Sub(t), 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
