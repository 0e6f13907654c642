package join

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

// Config is what Handler answers with.
type Config struct {
	Identity *pki.Identity
	// Known is whether a node belongs to the fleet now: a certificate outlives its node's membership.
	Known func(fleet.NodeName) bool
	// Pack writes a commit from this node's clone of a source. The error is fs.ErrNotExist, wrapped, when it is not there.
	Pack func(ctx context.Context, source fleet.SourceName, revision fleet.Revision, w io.Writer) error
	Door *Door // nil on a node that is no server
	Log  *slog.Logger
}

// Door is what a server lets machines in with.
type Door struct {
	Roll   coord.Roll
	Tokens coord.Tokens
	// AddMember makes room for a server in the fleet's memory, and returns all its members by name, with the new one. What it
	// did before it fails it takes back.
	AddMember func(ctx context.Context, name fleet.NodeName, peerURL string) (initialCluster map[string]string, err error)
	// Endpoints are where the fleet's memory serves clients.
	Endpoints func() []string
}

// Handler serves the fleet, on a listener with the identity's DoorTLS.
func Handler(c Config) http.Handler {
	h := &handler{c}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+commitPath, h.commit)
	if c.Door != nil {
		mux.HandleFunc("POST "+joinPath, h.join)
		mux.HandleFunc("POST "+renewPath, h.renew)
	} else {
		mux.HandleFunc("POST /fleet/v1/", h.noServer)
	}
	return mux
}

type handler struct{ Config }

func (h *handler) noServer(w http.ResponseWriter, _ *http.Request) {
	h.answer(w, nil, refuse(http.StatusMisdirectedRequest, "the node %s is no server of the fleet: ask one", h.Identity.Name()))
}

// peer is who asks, if it belongs to the fleet.
func (h *handler) peer(r *http.Request) (name fleet.NodeName, server bool, err error) {
	name, server, err = pki.PeerName(r.TLS)
	if err != nil {
		return "", false, refuse(http.StatusUnauthorized, "%s", err)
	}
	if !h.Known(name) {
		return "", false, refuse(http.StatusForbidden, "the node %s does not belong to the fleet any more: it was removed, and may join again", name)
	}
	return name, server, nil
}

func (h *handler) renew(w http.ResponseWriter, r *http.Request) {
	certificate, err := h.renewed(w, r)
	h.answer(w, renewed{certificate}, err)
}

func (h *handler) renewed(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	name, server, err := h.peer(r)
	if err != nil {
		return nil, err
	}
	asked, err := body[renewal](w, r)
	if err != nil {
		return nil, err
	}
	if _, err := pki.ParseRequest(asked.Request, name); err != nil {
		return nil, refuse(http.StatusForbidden, "%s", err)
	}
	node, err := h.registered(r.Context(), name)
	if err != nil {
		return nil, err
	}
	authority, err := h.authority()
	if err != nil {
		return nil, err
	}
	h.Log.Info("certificate renewed", "node", name)
	// Its role is that of the certificate it has: what a node says of itself on the roll makes it no server.
	return authority.Sign(asked.Request, name, addresses(node), server, time.Now())
}

// authority is the fleet's, unless this node was a server and is none any more.
func (h *handler) authority() (*pki.Authority, error) {
	if a := h.Identity.Authority(); a != nil {
		return a, nil
	}
	return nil, refuse(http.StatusMisdirectedRequest, "the node %s is no server of the fleet any more: ask one", h.Identity.Name())
}

func (h *handler) registered(ctx context.Context, name fleet.NodeName) (fleet.Node, error) {
	nodes, err := h.Door.Roll.Nodes(ctx)
	if err != nil {
		return fleet.Node{}, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return fleet.Node{}, refuse(http.StatusForbidden, "the node %s is not on the fleet's roll", name)
}

// addresses are what others reach a node by, as far as they are IP addresses.
func addresses(n fleet.Node) []netip.Addr {
	var list []netip.Addr
	if a, err := netip.ParseAddr(n.Address); err == nil {
		list = append(list, a)
	}
	if a, err := netip.ParseAddrPort(n.Fleet); err == nil {
		list = append(list, a.Addr())
	}
	return list
}

func (h *handler) commit(w http.ResponseWriter, r *http.Request) {
	if _, _, err := h.peer(r); err != nil {
		h.answer(w, nil, err)
		return
	}
	source, revision := fleet.SourceName(r.URL.Query().Get("source")), fleet.Revision(r.URL.Query().Get("revision"))
	out := &begun{ResponseWriter: w}
	w.Header().Set("Content-Type", "application/x-git-packed-objects")
	err := h.Pack(r.Context(), source, revision, out)
	switch {
	case err == nil:
	case out.begun:
		h.Log.Warn("a commit could not be sent whole", "source", source, "revision", revision, "err", err)
		panic(http.ErrAbortHandler) // so that what was sent does not look whole
	case errors.Is(err, fs.ErrNotExist):
		h.answer(w, nil, refuse(http.StatusNotFound, "the node %s does not have commit %s of source %s", h.Identity.Name(), revision.Short(), source))
	default:
		h.answer(w, nil, err)
	}
}

// begun knows whether anything was written.
type begun struct {
	http.ResponseWriter
	begun bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.begun = true
	return b.ResponseWriter.Write(p)
}

// body reads a request. The error never quotes it: it may hold a secret.
func body[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var v T
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := d.Decode(&v); err != nil {
		return v, refuse(http.StatusBadRequest, "the request is not what this version of skerry understands: use the same version on both machines")
	}
	return v, nil
}

// answer writes a value, or why there is none.
func (h *handler) answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
		return
	}
	status := http.StatusInternalServerError
	no, refused := errors.AsType[*Refusal](err)
	switch {
	case refused:
		status = no.Status
	case errors.Is(err, coord.ErrAway):
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal{err.Error()})
}
