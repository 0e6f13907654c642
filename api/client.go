package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// ErrNoAgent says that nobody answers on the socket.
var ErrNoAgent = errors.New("no agent answers")

// Client talks to an agent over its socket. Safe for concurrent use.
type Client struct{ http http.Client }

// NewClient makes a client of the agent behind a unix socket. It does not connect.
func NewClient(socket string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

func (c *Client) open(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	target := url.URL{Scheme: "http", Host: "skerry", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, dial)
		}
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		var status metav1.Status
		if err := json.NewDecoder(response.Body).Decode(&status); err != nil || status.Message == "" {
			return nil, fmt.Errorf("the agent answered %s", response.Status)
		}
		if response.StatusCode == http.StatusConflict {
			return nil, &Refusal{Text: status.Message}
		}
		return nil, errors.New(status.Message)
	}
	return response, nil
}

func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (T, error) {
	var out T
	response, err := c.open(ctx, method, path, query, in)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("read the agent's answer: %w", err)
	}
	return out, nil
}

// Status is the fleet in one page.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/skerry/v1/status", nil, nil)
}

// Sync fetches sources now, all when name is empty.
func (c *Client) Sync(ctx context.Context, name fleet.SourceName) ([]Fetched, error) {
	return ask[[]Fetched](ctx, c, http.MethodPost, "/skerry/v1/sync", url.Values{"source": {string(name)}}, nil)
}

// Diff says what would change; with a nil set, if the sources' newest revisions were taken.
func (c *Client) Diff(ctx context.Context, set *Set) (Diff, error) {
	return ask[Diff](ctx, c, http.MethodPost, "/skerry/v1/diff", nil, json.RawMessage(encoded(set)))
}

func encoded(set *Set) []byte {
	raw, err := json.Marshal(set)
	if err != nil { // cannot happen: a Set holds only what can be encoded
		panic(fmt.Sprintf("encode set: %v", err))
	}
	return raw
}

// Apply makes a set desired.
func (c *Client) Apply(ctx context.Context, set Set) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, "/skerry/v1/apply", nil, set)
	return err
}

// Delete makes the objects of a set desired no more.
func (c *Client) Delete(ctx context.Context, set Set) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, "/skerry/v1/delete", nil, set)
	return err
}

// Intend asks for something that is not in Git.
func (c *Client) Intend(ctx context.Context, wish Wish) (fleet.Intent, error) {
	return ask[fleet.Intent](ctx, c, http.MethodPost, "/skerry/v1/intend", nil, wish)
}

// Follow calls tell at every change until everything is settled, ctx ends or the agent goes away. It returns
// nil when everything is settled, and ErrStopped as the function Follow does.
func (c *Client) Follow(ctx context.Context, tell func(Progress) error) error {
	response, err := c.open(ctx, http.MethodGet, "/skerry/v1/progress", nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var p Progress
		if err := decoder.Decode(&p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the agent went away: %w", err)
		}
		if err := tell(p); err != nil {
			return err
		}
		switch {
		case p.Settled:
			return nil
		case p.Stopped:
			return ErrStopped
		}
	}
}

// NextChange blocks until something that Status shows may have changed since the call began, or ctx ends. It
// may return early.
func (c *Client) NextChange(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, http.MethodGet, "/skerry/v1/changed", nil, nil)
	return err
}
