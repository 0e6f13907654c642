package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// maxBody is the largest request: manifests of a large fleet fit by far.
const maxBody = 64 << 20

// Handler serves a backend: /skerry/v1/ and the Kubernetes dialect. It is for the agent's own socket: whoever
// may open that is root here.
func Handler(b Backend) http.Handler {
	s := &server{b}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /skerry/v1/status", s.status)
	mux.HandleFunc("GET /skerry/v1/progress", s.progress)
	mux.HandleFunc("GET /skerry/v1/changed", s.change)
	mux.HandleFunc("POST /skerry/v1/sync", s.sync)
	mux.HandleFunc("POST /skerry/v1/diff", s.diff)
	mux.HandleFunc("POST /skerry/v1/apply", s.apply)
	mux.HandleFunc("POST /skerry/v1/delete", s.remove)
	mux.HandleFunc("POST /skerry/v1/intend", s.intend)
	s.kubernetes(mux)
	return mux
}

// Health serves what monitors ask for: /healthz, /readyz and /metrics. The process is healthy while it
// answers, and ready when Podman does and every source was read once.
func Health(b Backend, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, err := b.Status(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if status.Podman != "ok" {
			http.Error(w, "podman: "+status.Podman, http.StatusServiceUnavailable)
			return
		}
		for _, source := range status.Sources {
			if source.Revision == "" {
				http.Error(w, fmt.Sprintf("source %s was not read yet: %s", source.Name, source.Error), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}

type server struct{ Backend }

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	status, err := s.Status(r.Context())
	answer(w, status, err)
}

// longestPoll is how long a change is waited for before it is looked all the same.
const longestPoll = time.Second

// change answers at the next change.
func (s *server) change(w http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.Changed():
	case <-time.After(longestPoll):
	}
	answer(w, struct{}{}, nil)
}

func (s *server) sync(w http.ResponseWriter, r *http.Request) {
	fetched, err := s.Sync(r.Context(), fleet.SourceName(r.URL.Query().Get("source")))
	answer(w, fetched, err)
}

func (s *server) diff(w http.ResponseWriter, r *http.Request) {
	set, err := body[*Set](w, r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	diff, err := s.Diff(r.Context(), set)
	answer(w, diff, err)
}

func (s *server) apply(w http.ResponseWriter, r *http.Request) {
	set, err := body[Set](w, r)
	if err == nil {
		err = s.Apply(r.Context(), set)
	}
	answer(w, struct{}{}, err)
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) {
	set, err := body[Set](w, r)
	if err == nil {
		err = s.Delete(r.Context(), set)
	}
	answer(w, struct{}{}, err)
}

func (s *server) intend(w http.ResponseWriter, r *http.Request) {
	wish, err := body[Wish](w, r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	taken, err := s.Intend(r.Context(), wish)
	answer(w, taken, err)
}

// body reads a JSON request. The error never quotes it: it may hold secrets.
func body[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var v T
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&v); err != nil {
		return v, &Refusal{Text: "the request is not what this version of skerry understands: use the command of the agent's own version"}
	}
	return v, nil
}

// answer writes a value as JSON, or an error as Kubernetes writes it.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusInternalServerError
		var refusal *Refusal
		if errors.As(err, &refusal) {
			code = http.StatusConflict
		}
		failure(w, code, "", err.Error())
		return
	}
	_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
}

// leastBetween keeps a busy agent from telling of every change: what comes sooner is joined.
const leastBetween = 100 * time.Millisecond

// progress streams how far things are, a line a change, until everything is settled or the client has gone.
func (s *server) progress(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	encoder := json.NewEncoder(w)
	flusher := http.NewResponseController(w)
	_ = Follow(r.Context(), s.Backend, func(p Progress) error { // the client sees that the stream ends
		return errors.Join(encoder.Encode(p), flusher.Flush())
	})
}

// ErrStopped says that what is not as desired does not become so by itself.
var ErrStopped = errors.New("it does not go on by itself")

// Follow calls tell with how far things are at every change, until everything is settled, ctx ends or tell
// fails. It returns nil when everything is settled, and ErrStopped when what is left takes somebody to do something.
func Follow(ctx context.Context, b Backend, tell func(Progress) error) error {
	for {
		changed := b.Changed() // before the look: what changes after it is not missed
		status, err := b.Status(ctx)
		if err != nil {
			return err
		}
		if err := tell(Progress{Settled: status.Settled, Stopped: status.Stopped, Waiting: status.Waiting, Notes: status.Notes}); err != nil {
			return err
		}
		switch {
		case status.Settled:
			return nil
		case status.Stopped:
			return ErrStopped
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(longestPoll): // some of it becomes true by time alone: minReadySeconds
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leastBetween):
		}
	}
}
