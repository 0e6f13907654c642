package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

const (
	handshakeTimeout = 10 * time.Second
	// answerTimeout is how long an answer may take that is not streamed: letting a machine in is the longest.
	answerTimeout = 2 * admitTimeout
	headerTimeout = 30 * time.Second
)

var dialer = &net.Dialer{Timeout: handshakeTimeout}

// Client asks other nodes of the fleet. Safe for concurrent use.
type Client struct{ anyNode, anyServer *http.Transport }

// NewClient makes a client of a fleet. It does not connect.
func NewClient(identity *pki.Identity) *Client {
	transport := func(c *tls.Config) *http.Transport {
		return &http.Transport{
			TLSClientConfig: c, TLSHandshakeTimeout: handshakeTimeout, DialContext: dialer.DialContext,
			ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: time.Minute,
		}
	}
	return &Client{transport(identity.AnyTLS()), transport(identity.AnyServerTLS())}
}

// Close lets go of connections that are kept for later.
func (c *Client) Close() {
	c.anyNode.CloseIdleConnections()
	c.anyServer.CloseIdleConnections()
}

// Renew asks the server at address to sign a request for this node.
func (c *Client) Renew(ctx context.Context, address string, request []byte) (certificate []byte, err error) {
	answer, err := ask[renewed](ctx, c.anyServer, address, renewPath, renewal{request})
	return answer.Certificate, err
}

// Commit asks the node at address for a commit of a source, as a packfile. The error is fs.ErrNotExist, wrapped, when that node
// does not have it. Any node of the fleet may answer: that the content is right is for whoever unpacks it to see.
func (c *Client) Commit(ctx context.Context, address string, source fleet.SourceName, revision fleet.Revision) (io.ReadCloser, error) {
	query := url.Values{"source": {string(source)}, "revision": {string(revision)}}
	response, err := send(ctx, c.anyNode, http.MethodGet, address, commitPath, query, nil)
	if err != nil {
		if r, ok := errors.AsType[*Refusal](err); ok && r.Status == http.StatusNotFound {
			return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
		return nil, err
	}
	return response.Body, nil
}

// ask posts a value and reads one.
func ask[T any](ctx context.Context, transport *http.Transport, address, path string, in any) (T, error) {
	var out T
	raw, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	response, err := send(ctx, transport, http.MethodPost, address, path, nil, raw)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&out); err != nil {
		return out, fmt.Errorf("the answer of %s cannot be read: %w", address, err)
	}
	return out, nil
}

// send makes a request. Answers other than 200 are errors, and a *Refusal but where the fleet's memory is away.
func send(ctx context.Context, transport *http.Transport, method, address, path string, query url.Values, content []byte) (*http.Response, error) {
	target := url.URL{Scheme: "https", Host: address, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, explain(address, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var told refusal
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&told); err != nil || told.Message == "" {
		return nil, fmt.Errorf("%s answers %s, which no agent of a fleet says: is the address right?", address, response.Status)
	}
	if response.StatusCode == http.StatusServiceUnavailable {
		return nil, fmt.Errorf("%s: %s", address, told.Message)
	}
	return nil, &Refusal{Text: told.Message, Status: response.StatusCode}
}

// The alerts of TLS by which the other end says what it thinks of our certificate.
const (
	alertExpired     = tls.AlertError(45)
	alertUnknownRoot = tls.AlertError(48)
)

// explain says in our words why nothing came of a request.
func explain(address string, err error) error {
	switch alert, _ := errors.AsType[tls.AlertError](err); alert {
	case alertExpired:
		return fmt.Errorf("%s says that this node's certificate does not hold at this time: %w; one of the two clocks is wrong, or this node was away for too long", address, err)
	case alertUnknownRoot:
		return fmt.Errorf("%s belongs to another fleet than this node: %w", address, err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("no agent of a fleet answers at %s (it does not speak TLS): check the address", address)
	}
	return fmt.Errorf("%s: %w", address, err)
}
