package join

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"

	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

// Request is what a machine needs to join.
type Request struct {
	Dir    string // where its identity goes; nothing may be there
	Server string // the fleet address of any server
	Token  string
	Node   fleet.Node
	Role   string // as in pki.Membership
	Listen string // where this node's agent will serve the fleet

	PeerURL, ClientURL string // of the etcd that a server will run
}

// Joined is what a machine has that has joined.
type Joined struct {
	Identity   *pki.Identity
	Membership pki.Membership
	Charter    fleet.Charter
}

// Join makes this machine a node of a fleet. The secret of the token is told only to a server of the fleet that the token is
// from. When Join fails it has left nothing on disk; a *Refusal says why the fleet does not want the machine.
func Join(ctx context.Context, r Request) (Joined, error) {
	token, err := pki.ParseToken(r.Token)
	if err != nil {
		return Joined{}, err
	}
	m := pki.Membership{Role: r.Role, Listen: r.Listen, Existing: true, PeerURL: r.PeerURL, ClientURL: r.ClientURL}
	if !m.Votes() {
		m.Existing, m.PeerURL, m.ClientURL = false, "", ""
	}
	draft, err := pki.NewDraft(r.Dir, r.Node.Name, r.Role)
	if err != nil {
		return Joined{}, err
	}
	given, err := apply(ctx, r, m, token, draft)
	if err != nil {
		return Joined{}, errors.Join(err, draft.Discard())
	}
	m.Servers, m.Endpoints, m.InitialCluster = given.Servers, given.Endpoints, given.InitialCluster
	if !slices.Contains(m.Servers, r.Server) { // it is known to be reached from here by that
		m.Servers = append(m.Servers, r.Server)
	}
	identity, err := draft.Finish(pki.Grant{Certificate: given.Certificate, Root: given.Root, RootKey: given.RootKey}, m)
	if err != nil {
		return Joined{}, fmt.Errorf("the fleet has let %s in, and this machine could not keep what it was given (%w): remove the node from the fleet, and make a new token",
			r.Node.Name, err)
	}
	m, err = identity.Membership()
	return Joined{identity, m, given.Charter}, err
}

func apply(ctx context.Context, r Request, m pki.Membership, token pki.Token, draft *pki.Draft) (admission, error) {
	request, err := draft.Request()
	if err != nil {
		return admission{}, err
	}
	transport := &http.Transport{TLSClientConfig: pki.JoinTLS(token.Root), TLSHandshakeTimeout: handshakeTimeout, DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	asked := application{Token: r.Token, Node: r.Node, Request: request, Server: m.Votes(), PeerURL: m.PeerURL, Now: time.Now()}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	given, err := ask[admission](ctx, transport, r.Server, joinPath, asked)
	if err == nil {
		return given, nil
	}
	if _, refused := errors.AsType[*Refusal](err); sent.Load() && !refused {
		err = fmt.Errorf("%w; it is not known whether the fleet has let %s in: if it is on the list of nodes, remove it there and make a new token", err, r.Node.Name)
	}
	return admission{}, err
}
