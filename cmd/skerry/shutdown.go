package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// atShutdown is who asks for a drain when a node goes down, and for its end when it is back.
const atShutdown = "shutdown"

// cordonedBefore stands before the name of whoever had cordoned the node by then.
const cordonedBefore = atShutdown + ", cordoned before by "

// drainPatience bounds how long a node that goes down waits for its pods to have gone: systemd's own patience is 90 s.
const drainPatience = 80 * time.Second

// drained is a context that ends a while after ctx: when the node's pods have gone elsewhere, or somebody tells this process to end
// once more.
func drained(ctx context.Context, client *api.Client, name fleet.NodeName, log *slog.Logger) context.Context {
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		defer end()
		again, stop := signal.NotifyContext(later, os.Interrupt, syscall.SIGTERM)
		defer stop()
		bounded, cancel := context.WithTimeout(again, drainPatience)
		defer cancel()
		log.Info("the node goes down: its pods go elsewhere first; another SIGINT or SIGTERM ends the agent at once", "patience", drainPatience)
		if err := leaveFirst(bounded, client, name); err != nil {
			log.Warn("not all pods have gone elsewhere", "err", err)
		}
	})
	return later
}

// leaveFirst drains a node and waits until only pods of DaemonSets are left.
func leaveFirst(ctx context.Context, client *api.Client, name fleet.NodeName) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if before := keptOff(status, name); before.Verb != fleet.DrainNode {
		wish := api.Wish{
			Intent:           fleet.Intent{Object: node(string(name)), Verb: fleet.DrainNode, Author: atShutdown},
			IgnoreDaemonSets: true, DeleteEmptyDir: true,
		}
		if before.Verb == fleet.Cordon {
			wish.Author = cordonedBefore + before.Author
		}
		if _, err := client.Intend(ctx, wish); err != nil {
			return err
		}
	}
	for {
		status, err := client.Status(ctx)
		if err != nil {
			return err
		}
		left := 0
		for _, p := range status.Pods {
			if p.Node == name && p.Owner.Kind != fleet.KindDaemonSet {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if err := client.NextChange(ctx); err != nil {
			return err
		}
	}
}

// keptOff is the intent by which a node gets no pods; the zero Intent where there is none.
func keptOff(status api.Status, name fleet.NodeName) fleet.Intent {
	for _, i := range status.Intents {
		if i.Object == node(string(name)) && (i.Verb == fleet.DrainNode || i.Verb == fleet.Cordon) {
			return i.Intent
		}
	}
	return fleet.Intent{}
}

// backAgain is how long a node that is back waits before it asks once more to get pods.
const backAgain = 5 * time.Second

// isBack ends the drain that the node asked for when it went down, as soon as the fleet's memory can be told. Somebody else's stays, and
// so does a cordon from before it.
func isBack(ctx context.Context, client *api.Client, name fleet.NodeName, log *slog.Logger) {
	said := false
	for {
		err := endDrain(ctx, client, name)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !said {
			log.Warn("the drain from when the node went down cannot be ended yet: it gets no pods until then", "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(backAgain):
		}
	}
}

func endDrain(ctx context.Context, client *api.Client, name fleet.NodeName) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	i := keptOff(status, name)
	before, cordoned := strings.CutPrefix(i.Author, cordonedBefore)
	next := fleet.Intent{Object: i.Object, Verb: fleet.Uncordon, Author: atShutdown}
	switch {
	case i.Verb != fleet.DrainNode:
		return nil
	case cordoned:
		next.Verb, next.Author = fleet.Cordon, before
	case i.Author != atShutdown:
		return nil
	}
	_, err = client.Intend(ctx, api.Wish{Intent: next})
	return err
}
