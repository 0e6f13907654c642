package join

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/skerry-dev/skerry/coord"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

// admitTimeout is how long letting a machine in may take once its token is used: it is then carried to an end whether the
// machine waits for it or not.
const admitTimeout = 30 * time.Second

func (h *handler) join(w http.ResponseWriter, r *http.Request) {
	asked, err := body[application](w, r)
	if err != nil {
		h.answer(w, nil, err)
		return
	}
	admitted, err := h.admit(r.Context(), asked)
	if err != nil {
		h.Log.Warn("a machine was not let in", "from", r.RemoteAddr, "node", asked.Node.Name, "err", err)
	} else {
		h.Log.Info("a machine has joined", "from", r.RemoteAddr, "node", asked.Node.Name, "server", asked.Server)
	}
	h.answer(w, admitted, err)
}

// admit lets a machine in. Everything that can be looked at is looked at before the token is used.
func (h *handler) admit(ctx context.Context, asked application) (admission, error) {
	token, err := h.offered(ctx, asked.Token)
	if err != nil {
		return admission{}, err
	}
	if err := check(asked, token, time.Now()); err != nil {
		return admission{}, err
	}
	charter, err := h.Door.Roll.Charter(ctx)
	if err != nil {
		return admission{}, err
	}
	node := asked.Node
	node.Server, node.Voter = asked.Server, asked.Server
	switch _, err := h.Door.Tokens.Redeem(ctx, token.ID, node); {
	case errors.Is(err, coord.ErrToken):
		return admission{}, usedUp
	case errors.Is(err, coord.ErrTaken):
		return admission{}, refuse(http.StatusConflict, "a node called %s belongs to the fleet already: give this machine another name, "+
			"or remove that node first if it is gone; the token can be used again", node.Name)
	case err != nil:
		return admission{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), admitTimeout)
	defer cancel()
	admitted, err := h.welcome(ctx, node, asked)
	if err != nil {
		return admission{}, h.dismiss(ctx, node.Name, err)
	}
	admitted.Charter = charter
	return admitted, nil
}

var usedUp = refuse(http.StatusForbidden, "the token was used already, or was never one of this fleet: each token lets in one machine; make a new one")

// offered finds the token that a text is for, and looks that the text proves it.
func (h *handler) offered(ctx context.Context, text string) (coord.Token, error) {
	held, err := pki.ParseToken(text)
	if err != nil {
		return coord.Token{}, refuse(http.StatusBadRequest, "%s", err)
	}
	now := time.Now()
	token, err := h.Door.Tokens.Offered(ctx, held.ID)
	switch {
	case errors.Is(err, coord.ErrToken) && now.After(held.Ends):
		return coord.Token{}, tooOld(held.Ends)
	case errors.Is(err, coord.ErrToken):
		return coord.Token{}, usedUp
	case err != nil:
		return coord.Token{}, err
	case !held.Proves(token):
		return coord.Token{}, refuse(http.StatusForbidden, "the token is not written as it was made: its secret is wrong; copy it once more")
	case now.After(token.Expires):
		return coord.Token{}, tooOld(token.Expires)
	}
	return token, nil
}

func tooOld(ended time.Time) *Refusal {
	return refuse(http.StatusForbidden, "the token is too old, it ended %s: make a new one", ended.UTC().Format(time.DateTime+" MST"))
}

// check looks at all that an application says, after its token.
func check(asked application, token coord.Token, now time.Time) error {
	node := asked.Node
	if err := pki.CheckName(node.Name); err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	if off := asked.Now.Sub(now).Round(time.Second); off.Abs() > pki.Skew {
		direction := "ahead of"
		if off < 0 {
			direction = "behind"
		}
		return refuse(http.StatusForbidden, "the clock of %s is %s %s the fleet's: set it (timedatectl set-ntp true); the token can be used again",
			node.Name, off.Abs(), direction)
	}
	if asked.Server && !token.Server {
		return refuse(http.StatusForbidden, "the token is for agents and %s wants to be a server: make a token for a server, or join as an agent", node.Name)
	}
	if _, err := netip.ParseAddr(node.Address); err != nil {
		return refuse(http.StatusBadRequest, "the address %q of %s is no IP address", node.Address, node.Name)
	}
	if host, port, err := net.SplitHostPort(node.Fleet); err != nil || host == "" || port == "" {
		return refuse(http.StatusBadRequest, "the fleet address %q of %s is not host:port", node.Fleet, node.Name)
	}
	if u, err := url.Parse(asked.PeerURL); asked.Server && (err != nil || u.Scheme != "https" || u.Port() == "") {
		return refuse(http.StatusBadRequest, "the peer URL %q of %s is not https://host:port", asked.PeerURL, node.Name)
	}
	if _, err := pki.ParseRequest(asked.Request, node.Name); err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// welcome gives a node that is on the roll now what it needs.
func (h *handler) welcome(ctx context.Context, node fleet.Node, asked application) (admission, error) {
	authority, err := h.authority()
	if err != nil {
		return admission{}, err
	}
	a := admission{Root: authority.Certificate(), Endpoints: h.Door.Endpoints()}
	if a.Certificate, err = authority.Sign(asked.Request, node.Name, addresses(node), asked.Server, time.Now()); err != nil {
		return admission{}, err
	}
	nodes, err := h.Door.Roll.Nodes(ctx)
	if err != nil {
		return admission{}, err
	}
	for _, n := range nodes {
		if n.Server && n.Name != node.Name {
			a.Servers = append(a.Servers, n.Fleet)
		}
	}
	if !asked.Server {
		return a, nil
	}
	if a.RootKey, err = authority.Key(); err != nil {
		return admission{}, err
	}
	a.InitialCluster, err = h.Door.AddMember(ctx, node.Name, asked.PeerURL) // last: it is the hardest to take back
	return a, err
}

// dismiss frees the name of a machine that was not let in after all. Its token is used.
func (h *handler) dismiss(ctx context.Context, name fleet.NodeName, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), admitTimeout)
	defer cancel()
	if err := h.Door.Roll.Dismiss(ctx, name); err != nil {
		return refuse(http.StatusInternalServerError, "%s could not be let in (%s), and its name could not be freed (%s): "+
			"remove the node, and make a new token", name, why, err)
	}
	return refuse(http.StatusInternalServerError, "%s could not be let in (%s): make a new token and try again", name, why)
}
