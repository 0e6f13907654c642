package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
)

// doorman is an agent's socket that answers for intents alone.
type doorman struct {
	mu      sync.Mutex
	intents []fleet.Intent
	away    int // so many intents are refused still
}

func (d *doorman) serve(t *testing.T) *api.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /skerry/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		var s api.Status
		for _, i := range d.intents {
			s.Intents = append(s.Intents, api.Intent{Intent: i})
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("POST /skerry/v1/intend", func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.away--; d.away >= 0 {
			http.Error(w, "the fleet's store does not answer", http.StatusServiceUnavailable)
			return
		}
		var wish api.Wish
		if err := json.NewDecoder(r.Body).Decode(&wish); err != nil {
			t.Error(err)
		}
		d.intents = nil
		if wish.Verb != fleet.Uncordon {
			d.intents = []fleet.Intent{wish.Intent}
		}
		_ = json.NewEncoder(w).Encode(wish.Intent)
	})
	return api.NewClient(listenUnix(t, mux))
}

func listenUnix(t *testing.T, handler http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return socket
}

// TestDownAndBack: a node that went down drained gets pods again when it is back, also when the fleet's memory does not answer at
// once, and what operators had said of it before is what holds then.
func TestDownAndBack(t *testing.T) {
	by := func(verb fleet.IntentVerb, author string) []fleet.Intent {
		return []fleet.Intent{{Object: node("alpha"), Verb: verb, Author: author}}
	}
	for name, before := range map[string][]fleet.Intent{"nothing": nil, "cordoned": by(fleet.Cordon, "ada"), "drained": by(fleet.DrainNode, "ada")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &doorman{intents: before}
			client := d.serve(t)
			if err := leaveFirst(t.Context(), client, "alpha"); err != nil {
				t.Fatal(err)
			}
			if len(d.intents) != 1 || d.intents[0].Verb != fleet.DrainNode {
				t.Errorf("while it goes down: %+v", d.intents)
			}
			d.away = 1
			isBack(t.Context(), client, "alpha", slog.New(slog.DiscardHandler))
			d.away = 0
			if len(d.intents) != len(before) || len(before) == 1 && (d.intents[0].Verb != before[0].Verb || d.intents[0].Author != "ada") {
				t.Errorf("when it is back: %+v", d.intents)
			}
		})
	}
}

// TestLifeEndsByItself: an agent that cannot go on ends, and does not leave a process behind that looks after nothing.
func TestLifeEndsByItself(t *testing.T) {
	fault := errors.New("it cannot go on")
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	ended := make(chan error, 1)
	go func() {
		ended <- d.attend(t.Context(), nil, nil, func() {}, func(context.Context) error { return fault })
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, fault) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}

// TestEndsBeforeItBegan: a node that leaves its fleet while its agent begins anew has left it, and what the agent could not ask any more is
// no fault.
func TestEndsBeforeItBegan(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "podman.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { // it is asked, and never answers
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			cancel(errRetired)
			<-t.Context().Done()
		}
	}()
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	d.config.Podman.Socket = "unix://" + socket
	if err := d.life(ctx, nil, func() {}); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if ctx.Err() == nil {
		t.Error("nobody asked Podman")
	}
}

// TestLastAnswer: who asks for something that ends the agent, such as node leave, is answered.
func TestLastAnswer(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cancel()
			if _, err := l.Accept(); err == nil { // nobody is let in any more: the end has begun
				t.Error("somebody came in")
			}
			w.WriteHeader(http.StatusNoContent)
		}))
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if err := <-served; err != nil || answer.StatusCode != http.StatusNoContent {
		t.Errorf("%d, %v", answer.StatusCode, err)
	}
}
