package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
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
	if s.Fleet == nil {
		fmt.Fprintln(w, "NODE\tPODMAN\tVERSION\tEPOCH\tSETTLED")
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\n", s.Node, s.Podman, s.Version, s.Epoch, s.Settled)
	} else {
		writeFleet(w, s, wide)
	}
	if len(s.Sources) > 0 {
		fmt.Fprintln(w, "\nSOURCE\tREVISION\tSTATE\tOBJECTS\tLOOKED\tTITLE")
	}
	for _, x := range s.Sources {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", x.Name, dash(x.Revision.Short()), x.State, x.Objects, age(x.Checked, now), x.Title)
	}
	writeWorkloads(w, s.Workloads, now)
	writeServices(w, s.Services, wide)
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
	notes := further(s.Notes, s.Waiting)
	anyOut := slices.ContainsFunc(s.Services, func(x reconcile.Service) bool { return len(x.Out) > 0 })
	if len(s.Intents)+len(s.Waiting)+len(notes) > 0 || anyOut {
		fmt.Fprintln(out)
	}
	for _, i := range s.Intents {
		fmt.Fprintln(out, "Not in Git:", line(fleet.Note{About: i.Object, Text: strings.TrimPrefix(i.Text, "not in Git: ")}))
	}
	for _, n := range s.Waiting {
		fmt.Fprintln(out, "Waiting:", line(n))
	}
	for _, x := range s.Services {
		for _, why := range x.Out {
			fmt.Fprintln(out, "Out:", line(fleet.Note{About: x.ID, Text: why}))
		}
	}
	for _, n := range notes {
		fmt.Fprintln(out, "Note:", line(n))
	}
	return nil
}

// writeFleet writes a line for the fleet and one for each node.
func writeFleet(w io.Writer, s api.Status, wide bool) {
	fmt.Fprintln(w, "SEEN FROM\tLEADER\tSTORE\tEPOCH\tSETTLED")
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\n", s.Node, dash(string(s.Fleet.Leader)), s.Fleet.Store, s.Epoch, s.Settled)
	head := "\nNODE\tSTATE\tROLE\tPODS\tREVISIONS\tVERSION"
	if wide {
		head += "\tADDRESS\tEPOCH\tLEAVING"
	}
	fmt.Fprintln(w, head)
	for _, n := range s.Fleet.Nodes {
		role := "agent"
		switch {
		case n.Server:
			role = "server"
		case n.Voter:
			role = "witness"
		}
		var revisions []string
		for _, source := range slices.Sorted(maps.Keys(n.Revisions)) {
			revisions = append(revisions, string(source)+"@"+n.Revisions[source].Short())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s", n.Name, n.State, role, n.Pods, dash(strings.Join(revisions, ",")), dash(n.Version))
		if wide {
			fmt.Fprintf(w, "\t%s\t%d\t%d", dash(n.Address), n.Epoch, n.Leaving)
		}
		fmt.Fprintln(w)
	}
}

// further are the notes that say more than what is waited for says already.
func further(notes, waiting []fleet.Note) []fleet.Note {
	return slices.DeleteFunc(slices.Clone(notes), func(n fleet.Note) bool {
		return slices.ContainsFunc(waiting, func(w fleet.Note) bool { return w.About == n.About && strings.Contains(w.Text, n.Text) })
	})
}

// writeWorkloads writes a table each for what should run at all times, for Jobs and for CronJobs.
func writeWorkloads(w io.Writer, list []reconcile.Workload, now time.Time) {
	table := func(head string, has func(reconcile.Workload) bool, cells func(reconcile.Workload) string) {
		rows := slices.DeleteFunc(slices.Clone(list), func(x reconcile.Workload) bool { return !has(x) })
		if len(rows) == 0 {
			return
		}
		noted := slices.ContainsFunc(rows, func(x reconcile.Workload) bool { return x.Note != "" })
		head += "\tSTATE\tREVISION\tFILE"
		if noted {
			head += "\tNOTE"
		}
		fmt.Fprintln(w, "\n"+head)
		for _, x := range rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s", x.ID, cells(x), x.State, x.Revision.Short(), x.File)
			if noted {
				fmt.Fprintf(w, "\t%s", x.Note)
			}
			fmt.Fprintln(w)
		}
	}
	table("WORKLOAD\tREADY\tUPDATED\tAVAILABLE", func(x reconcile.Workload) bool { return x.Job == nil && x.Cron == nil }, func(x reconcile.Workload) string {
		return fmt.Sprintf("%d/%d\t%d\t%d", x.Ready, x.Desired, x.Updated, x.Available)
	})
	table("JOB\tSUCCEEDED\tACTIVE\tFAILED", func(x reconcile.Workload) bool { return x.Job != nil }, func(x reconcile.Workload) string {
		return fmt.Sprintf("%d/%d\t%d\t%d", x.Job.Succeeded, x.Desired, x.Job.Active, x.Job.Failed)
	})
	table("CRONJOB\tSCHEDULE\tLAST\tNEXT\tACTIVE\tSUCCEEDED\tFAILED", func(x reconcile.Workload) bool { return x.Cron != nil }, func(x reconcile.Workload) string {
		schedule := x.Cron.Schedule
		if x.Cron.TimeZone != "" {
			schedule += " " + x.Cron.TimeZone
		}
		return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%d", schedule, age(x.Cron.Last, now), until(x.Cron.Next, now), x.Cron.Active, x.Cron.Succeeded, x.Cron.Failed)
	})
}

// writeServices writes who is reached where, and who stands behind it. Wide names each end.
func writeServices(w io.Writer, list []reconcile.Service, wide bool) {
	if len(list) == 0 {
		return
	}
	head := "\nSERVICE\tTYPE\tADDRESS\tEXTERNAL\tPORTS\tENDPOINTS\tFILE"
	if wide {
		head += "\tENDS"
	}
	fmt.Fprintln(w, head)
	for _, s := range list {
		var addrs, ends, external []string
		for _, a := range s.External {
			if node := s.Holders[a]; node != "" {
				a += " on " + string(node)
			}
			external = append(external, a)
		}
		for _, a := range s.Addrs {
			addrs = append(addrs, a.String())
		}
		for _, e := range s.Endpoints {
			if e.Ready {
				ends = append(ends, cmp.Or(e.Pod, e.Addr.String()))
			}
		}
		// Who is out may have no address, and so is no endpoint.
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d ready\t%s", s.ID, s.Type, dash(strings.Join(addrs, ",")), dash(strings.Join(external, ",")), dash(strings.Join(s.Ports, ",")), s.Ready, s.File)
		if wide {
			fmt.Fprintf(w, "\t%s", dash(strings.Join(ends, ",")))
		}
		fmt.Fprintln(w)
	}
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
	return span(now.Sub(t))
}

// until is how soon something will be.
func until(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return "in " + span(t.Sub(now))
}

func span(d time.Duration) string {
	switch d = max(d, 0); {
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
