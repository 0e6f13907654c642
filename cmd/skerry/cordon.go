package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

func cordonCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "cordon NODE", Short: "Give a node no more pods", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.intendNode(cmd.Context(), api.Wish{Intent: fleet.Intent{Object: node(args[0]), Verb: fleet.Cordon}}, "cordoned")
		},
	}
}

func uncordonCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "uncordon NODE", Short: "Give a node pods again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.intendNode(cmd.Context(), api.Wish{Intent: fleet.Intent{Object: node(args[0]), Verb: fleet.Uncordon}}, "uncordoned")
		},
	}
}

func drainCommand(o *options) *cobra.Command {
	wish := api.Wish{Intent: fleet.Intent{Verb: fleet.DrainNode}}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Cordon a node and move its pods elsewhere, as disruption budgets allow", Args: cobra.ExactArgs(1),
		Long: `Cordon a node and move its pods elsewhere, as PodDisruptionBudgets allow, and wait until they have gone.
When the wait ends before, the node goes on being drained until skerry uncordon. Pods of a node that is lost are
not waited for: only it can say that they have ended.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wish.Object = node(args[0])
			return o.drain(cmd.Context(), wish, timeout)
		},
	}
	cmd.Flags().BoolVar(&wish.IgnoreDaemonSets, "ignore-daemonsets", false, "leave pods of DaemonSets where they are")
	cmd.Flags().BoolVar(&wish.DeleteEmptyDir, "delete-emptydir-data", false, "go on even if there are pods with emptyDir volumes, whose data is lost")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait at most (0: as long as it takes)")
	return cmd
}

func node(name string) fleet.ObjectID { return fleet.ObjectID{Kind: fleet.KindNode, Name: name} }

// author is who gives a command.
func author() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func (o *options) intendNode(ctx context.Context, wish api.Wish, done string) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	wish.Author = author()
	if _, err := api.NewClient(c.Listen.Socket).Intend(ctx, wish); err != nil {
		return agentWanted(err)
	}
	fmt.Fprintf(o.out, "node/%s %s\n", wish.Object.Name, done)
	return nil
}

// agentWanted says what to do where no agent answers.
func agentWanted(err error) error {
	if errors.Is(err, api.ErrNoAgent) {
		return fmt.Errorf("%w (start it with skerry agent, or name its socket with --socket)", err)
	}
	return err
}

func (o *options) drain(ctx context.Context, wish api.Wish, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if err := o.intendNode(ctx, wish, "cordoned"); err != nil {
		return err
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	client := api.NewClient(c.Listen.Socket)
	said := map[string]bool{}
	for {
		status, err := client.Status(ctx)
		if err == nil {
			left := o.leaving(status, fleet.NodeName(wish.Object.Name), said)
			if len(left) == 0 {
				fmt.Fprintf(o.out, "node/%s drained\n", wish.Object.Name)
				return nil
			}
			if why, is := lost(status, wish.Object.Name); is {
				return fmt.Errorf("node %[1]s is lost (%[2]s), and its pods cannot be waited for: %[3]s. Those of ReplicaSets are made anew elsewhere in time. "+
					"The node is drained when it is back; if it never will be, skerry node remove %[1]s has them all run elsewhere",
					wish.Object.Name, why, strings.Join(left, ", "))
			}
			err = client.NextChange(ctx)
			if err != nil && ctx.Err() != nil {
				return fmt.Errorf("node %s still has pods: %s", wish.Object.Name, strings.Join(left, ", "))
			}
		}
		if err != nil {
			return err
		}
	}
}

// lost reports whether a node of the fleet is lost, and why it is thought to be.
func lost(status api.Status, node string) (why string, is bool) {
	if status.Fleet == nil {
		return "", false
	}
	at := slices.IndexFunc(status.Fleet.Nodes, func(m reconcile.Machine) bool { return string(m.Name) == node })
	if at < 0 || !status.Fleet.Nodes[at].Lost() {
		return "", false
	}
	return status.Fleet.Nodes[at].Why, true
}

// leaving are the pods that a node still has, but for those of DaemonSets. What keeps one is said once.
func (o *options) leaving(status api.Status, node fleet.NodeName, said map[string]bool) []string {
	var left []string
	for _, p := range status.Pods {
		if p.Node != node || p.Owner.Kind == fleet.KindDaemonSet {
			continue
		}
		left = append(left, p.ID.String())
		for _, n := range status.Notes {
			if text := line(n); n.About == p.ID.Object() && !said[text] {
				said[text] = true
				fmt.Fprintln(o.err, text)
			}
		}
	}
	return left
}
