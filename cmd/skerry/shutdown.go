package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// atShutdown is who asks for a drain when a node goes down, and for its end when it is back.
const atShutdown = "shutdown"

// drainPatience bounds how long a node that goes down waits for its pods to have gone: systemd's own patience is 90 s.
const drainPatience = 80 * time.Second

// drained is a context that ends a while after ctx: when the node's pods have gone elsewhere.
func drained(ctx context.Context, client *api.Client, name fleet.NodeName, log *slog.Logger) context.Context {
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		defer end()
		bounded, cancel := context.WithTimeout(later, drainPatience)
		defer cancel()
		log.Info("the node goes down: its pods go elsewhere first", "patience", drainPatience)
		if err := leaveFirst(bounded, client, name); err != nil {
			log.Warn("not all pods have gone elsewhere", "err", err)
		}
	})
	return later
}

// leaveFirst drains a node and waits until only pods of DaemonSets are left.
func leaveFirst(ctx context.Context, client *api.Client, name fleet.NodeName) error {
	wish := api.Wish{
		Intent:           fleet.Intent{Object: node(string(name)), Verb: fleet.DrainNode, Author: atShutdown},
		IgnoreDaemonSets: true, DeleteEmptyDir: true,
	}
	if _, err := client.Intend(ctx, wish); err != nil {
		return err
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

// isBack ends the drain that the node asked for when it went down. Somebody else's stays.
func isBack(ctx context.Context, client *api.Client, name fleet.NodeName, log *slog.Logger) {
	status, err := client.Status(ctx)
	if err != nil {
		log.Warn("whether the node was drained when it went down is not known", "err", err)
		return
	}
	for _, i := range status.Intents {
		if i.Object == node(string(name)) && i.Verb == fleet.DrainNode && i.Author == atShutdown {
			if _, err := client.Intend(ctx, api.Wish{Intent: fleet.Intent{Object: i.Object, Verb: fleet.Uncordon, Author: atShutdown}}); err != nil {
				log.Warn("the node gets no pods yet: skerry uncordon", "err", err)
			}
		}
	}
}
