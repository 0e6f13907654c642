package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile"
)

// drainable is an agent of a node whose pods go one by one once it is drained.
type drainable struct {
	api.Backend
	mu      sync.Mutex
	pods    []reconcile.Line
	intents []fleet.Intent
	looks   int
	fleet   *api.FleetStatus
}

func (d *drainable) Intend(_ context.Context, wish api.Wish) (fleet.Intent, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.intents = append(d.intents, wish.Intent)
	return wish.Intent, nil
}

func (d *drainable) Status(context.Context) (api.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	s := api.Status{Pods: d.pods, Fleet: d.fleet}
	for _, i := range d.intents {
		s.Intents = append(s.Intents, api.Intent{Intent: i})
	}
	if len(d.intents) > 0 && len(d.pods) > 2 {
		d.pods = d.pods[:len(d.pods)-1]
	}
	return s, nil
}

func (*drainable) Changed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestDrainsBeforeItEnds: the end waits until only pods of DaemonSets and of other nodes are left; back again, the node is drained no
// more, unless somebody else had asked for it.
func TestDrainsBeforeItEnds(t *testing.T) {
	line := func(name string, on fleet.NodeName, kind string) reconcile.Line {
		return reconcile.Line{ID: fleet.PodID{Namespace: "default", Name: name}, Node: on, Owner: fleet.ObjectID{Kind: kind, Name: name}}
	}
	d := &drainable{pods: []reconcile.Line{
		line("log", "alpha", fleet.KindDaemonSet), line("web-1", "beta", fleet.KindReplicaSet), line("web-2", "alpha", fleet.KindReplicaSet), line("db-0", "alpha", fleet.KindStatefulSet),
	}}
	client := api.NewClient(listenUnix(t, api.Handler(d)))
	ctx, stop := context.WithCancel(t.Context())
	later := drained(ctx, client, "alpha", slog.New(slog.DiscardHandler))
	if later.Err() != nil || d.looks != 0 {
		t.Fatal("it does not wait to be told to end")
	}
	stop()
	<-later.Done()
	d.mu.Lock()
	if len(d.intents) != 1 || d.intents[0].Verb != fleet.DrainNode || d.intents[0].Object.Name != "alpha" || len(d.pods) != 2 || d.looks < 3 {
		t.Errorf("%d looks, %v, %v", d.looks, d.intents, d.pods)
	}
	d.mu.Unlock()
	isBack(t.Context(), client, "alpha", slog.New(slog.DiscardHandler))
	if n := len(d.intents); n != 2 || d.intents[1].Verb != fleet.Uncordon {
		t.Errorf("%v", d.intents)
	}
	d.intents = []fleet.Intent{{Object: node("alpha"), Verb: fleet.DrainNode, Author: "ada"}}
	isBack(t.Context(), client, "alpha", slog.New(slog.DiscardHandler))
	if len(d.intents) != 1 {
		t.Errorf("somebody else's drain is ended: %v", d.intents)
	}
}

// TestToldTwice: a second signal ends a node that goes down at once, whatever pods it has.
func TestToldTwice(t *testing.T) {
	spare := make(chan os.Signal, 1) // or the signal would end the test where nobody else heeds it
	signal.Notify(spare, syscall.SIGTERM)
	defer signal.Stop(spare)
	waits := make(chan struct{})
	said := sync.OnceFunc(func() { close(waits) })
	mux := http.NewServeMux()
	d := &drainable{pods: []reconcile.Line{{ID: fleet.PodID{Namespace: "default", Name: "db-0"}, Node: "alpha"}}}
	mux.Handle("/", api.Handler(d))
	mux.HandleFunc("POST /skerry/v1/intend", func(w http.ResponseWriter, r *http.Request) {
		api.Handler(d).ServeHTTP(w, r)
		said()
	})
	ctx, stop := context.WithCancel(t.Context())
	later := drained(ctx, api.NewClient(listenUnix(t, mux)), "alpha", slog.New(slog.DiscardHandler))
	stop()
	<-waits
	if later.Err() != nil {
		t.Fatal("it does not wait for its pods")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-later.Done():
	case <-time.After(20 * time.Second):
		t.Error("it goes on waiting")
	}
}

// TestDrainOfALostNode: it ends with the reason, and does not wait for what nobody can say. Pods that a lost node has not are none.
func TestDrainOfALostNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pods := []reconcile.Line{
		{ID: fleet.PodID{Namespace: "default", Name: "log"}, Node: "beta", Owner: fleet.ObjectID{Kind: fleet.KindDaemonSet}},
		{ID: fleet.PodID{Namespace: "default", Name: "db-0"}, Node: "beta", Owner: fleet.ObjectID{Kind: fleet.KindStatefulSet}},
	}
	d := &drainable{pods: pods, fleet: &api.FleetStatus{Nodes: []reconcile.Machine{
		{Name: "alpha", State: "Ready"}, {Name: "beta", State: "Lost,SchedulingDisabled", Why: "nothing is heard of its agent"},
	}}}
	var out strings.Builder
	o := &options{terminal: terminal{out: &out, err: &out}, socket: listenUnix(t, api.Handler(d))}
	err := o.drain(ctx, api.Wish{Intent: fleet.Intent{Verb: fleet.DrainNode, Object: node("beta")}}, 0)
	if err == nil || !strings.Contains(err.Error(), "node beta is lost (nothing is heard of its agent), and its pods cannot be waited for: default/db-0.") {
		t.Errorf("%v", err)
	}
	if len(d.intents) != 1 {
		t.Errorf("it is not drained when it is back: %v", d.intents)
	}
	d.pods = pods[:1]
	if err := o.drain(ctx, api.Wish{Intent: fleet.Intent{Verb: fleet.DrainNode, Object: node("beta")}}, 0); err != nil || !strings.Contains(out.String(), "node/beta drained") {
		t.Errorf("%v, %s", err, &out)
	}
}
