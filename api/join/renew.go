package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/skerry-dev/skerry/coord/pki"
)

// Renewer keeps a node's certificate from ending.
type Renewer struct {
	Identity *pki.Identity
	// Sign makes a certificate of a request: SignOwn on servers, AskServers on others.
	Sign   func(ctx context.Context, request []byte) (certificate []byte, err error)
	Jitter func() float64 // in [0, 1): nodes that joined together need not ask together
	Log    *slog.Logger
}

const (
	// lookEvery bounds a wait: clocks are set, and machines sleep.
	lookEvery = 12 * time.Hour
	// retryEvery is between two tries, and half as long at least. When the first is made, four months are left.
	retryEvery = time.Hour
	// spread is the part of a certificate's life over which renewals are spread: 12 days of a year.
	spread = 30
)

// Run renews whenever a third of the certificate's life is left, until ctx ends.
func (r *Renewer) Run(ctx context.Context) {
	jitter := r.Jitter()
	for {
		from, to := r.Identity.Validity()
		life := to.Sub(from)
		due := to.Add(-life / 3).Add(time.Duration(jitter * float64(life/spread)))
		wait := min(time.Until(due), lookEvery)
		if wait <= 0 {
			jitter = r.Jitter()
			wait = retryEvery/2 + time.Duration(jitter*float64(retryEvery/2))
			if err := r.renew(ctx); err != nil && ctx.Err() == nil {
				r.Log.Warn("the node's certificate could not be renewed", "ends", to, "retryIn", wait, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (r *Renewer) renew(ctx context.Context) error {
	request, err := r.Identity.Request()
	if err != nil {
		return err
	}
	certificate, err := r.Sign(ctx, request)
	if err != nil {
		return err
	}
	if err := r.Identity.Renew(certificate); err != nil {
		return err
	}
	_, to := r.Identity.Validity()
	r.Log.Info("the node's certificate was renewed", "ends", to)
	return nil
}

// SignOwn renews a server's certificate with the authority that it has itself.
func SignOwn(identity *pki.Identity, addresses func() []netip.Addr) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, request []byte) ([]byte, error) {
		authority := identity.Authority()
		if authority == nil {
			return nil, errors.New("this node is no server of its fleet any more")
		}
		return authority.Sign(request, identity.Name(), addresses(), true, time.Now())
	}
}

// AskServers renews a certificate by asking servers in turn, until one has signed.
func AskServers(client *Client, servers func() []string) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, request []byte) ([]byte, error) {
		var faults []error
		for _, address := range servers() {
			certificate, err := client.Renew(ctx, address, request)
			if err == nil {
				return certificate, nil
			}
			faults = append(faults, err)
		}
		if len(faults) == 0 {
			return nil, errors.New("no server of the fleet is known")
		}
		return nil, fmt.Errorf("no server has signed: %w", errors.Join(faults...))
	}
}
