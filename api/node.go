package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// Member is a node's part in its fleet, for the commands below skerry node. All methods are safe for concurrent use.
type Member interface {
	// Token makes a token that lets one machine join, as a server or not, within ttl.
	Token(ctx context.Context, server bool, ttl time.Duration) (Invitation, error)
	// Remove takes a node out of the fleet. It does not ask the node. A *Refusal says why not.
	Remove(ctx context.Context, name fleet.NodeName) error
	// Leave takes this node out of the fleet and forgets it; the agent ends.
	Leave(ctx context.Context) error
	// Backup writes what the fleet remembers.
	Backup(ctx context.Context, w io.Writer) error
	// Charter is what the fleet goes by; with grant, that of this node's configuration from now on.
	Charter(ctx context.Context, grant bool) (fleet.Charter, error)
}

// Invitation is what a machine needs to join.
type Invitation struct {
	Token   string    `json:"token"` // proves it: whoever has it can join once
	Address string    `json:"address"`
	Expires time.Time `json:"expires"`
}

// MemberHandler serves a node's part in its fleet below /skerry/v1/node/, on the agent's own socket.
func MemberHandler(m Member) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /skerry/v1/node/token", func(w http.ResponseWriter, r *http.Request) {
		ttl, err := time.ParseDuration(r.URL.Query().Get("ttl"))
		if err != nil {
			answer(w, nil, &Refusal{Text: "ttl: " + err.Error()})
			return
		}
		made, err := m.Token(r.Context(), r.URL.Query().Get("server") == "true", ttl)
		answer(w, made, err)
	})
	mux.HandleFunc("POST /skerry/v1/node/remove", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, m.Remove(r.Context(), fleet.NodeName(r.URL.Query().Get("name"))))
	})
	mux.HandleFunc("POST /skerry/v1/node/leave", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, m.Leave(r.Context()))
	})
	mux.HandleFunc("POST /skerry/v1/node/charter", func(w http.ResponseWriter, r *http.Request) {
		charter, err := m.Charter(r.Context(), r.URL.Query().Get("grant") == "true")
		answer(w, charter, err)
	})
	mux.HandleFunc("GET /skerry/v1/node/backup", func(w http.ResponseWriter, r *http.Request) {
		file, err := backup(r.Context(), m)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer file.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, file) // the client counts what came
	})
	return mux
}

// backup is a copy that is whole: what is streamed cannot be taken back.
func backup(ctx context.Context, m Member) (*os.File, error) {
	file, err := os.CreateTemp("", "skerry-backup-*")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(file.Name()), m.Backup(ctx, file))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Token asks for a token that lets a machine join.
func (c *Client) Token(ctx context.Context, server bool, ttl time.Duration) (Invitation, error) {
	return ask[Invitation](ctx, c, http.MethodPost, "/skerry/v1/node/token", url.Values{"server": {fmt.Sprint(server)}, "ttl": {ttl.String()}}, nil)
}

// Remove takes a node out of the fleet.
func (c *Client) Remove(ctx context.Context, name fleet.NodeName) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, "/skerry/v1/node/remove", url.Values{"name": {string(name)}}, nil)
	return err
}

// Leave takes the agent's node out of the fleet; the agent ends.
func (c *Client) Leave(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, "/skerry/v1/node/leave", nil, nil)
	return err
}

// Charter is what the fleet goes by; with grant, that of the agent's configuration from now on.
func (c *Client) Charter(ctx context.Context, grant bool) (fleet.Charter, error) {
	return ask[fleet.Charter](ctx, c, http.MethodPost, "/skerry/v1/node/charter", url.Values{"grant": {fmt.Sprint(grant)}}, nil)
}

// Backup writes what the fleet remembers, and returns how many bytes it was.
func (c *Client) Backup(ctx context.Context, w io.Writer) (int64, error) {
	response, err := c.open(ctx, http.MethodGet, "/skerry/v1/node/backup", nil, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return io.Copy(w, response.Body)
}
