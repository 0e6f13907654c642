package join

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
)

const day = 24 * time.Hour

// TestRenewer lets three years go by, in which nobody signs for a week each time that somebody is asked first.
func TestRenewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		identity, err := pki.Found(filepath.Join(t.TempDir(), "fleet"), "alpha", localhost, pki.Membership{Role: pki.RoleServer}, begin)
		if err != nil {
			t.Fatal(err)
		}
		sign := SignOwn(identity, func() []netip.Addr { return localhost })
		var tries int
		var renewals []time.Duration
		var since time.Time // when nobody signed for the first time
		r := &Renewer{
			Identity: identity, Jitter: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler),
			Sign: func(ctx context.Context, request []byte) ([]byte, error) {
				tries++
				if since.IsZero() {
					since = time.Now()
				}
				if time.Since(since) < 7*day {
					return nil, errors.New("nobody is there")
				}
				_, to := identity.Validity()
				renewals = append(renewals, time.Until(to))
				since = time.Time{}
				return sign(ctx, request)
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*365*day)
		defer cancel()
		r.Run(ctx)
		// A third is 121 days and 16 hours; 6 days go by for the jitter, 7 without a signature.
		if len(renewals) != 4 {
			t.Fatalf("renewed %d times, with so much time left: %v", len(renewals), renewals)
		}
		for _, left := range renewals {
			if left < 106*day || left > 110*day {
				t.Errorf("renewed when %s was left", left)
			}
		}
		if most := 4 * 7 * 24 * 2; tries > most || tries < most/2-100 {
			t.Errorf("%d tries in four weeks", tries)
		}
	})
}

// TestRenewalThatDoesNotHelp gets certificates that are as old as the one that there is.
func TestRenewalThatDoesNotHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		identity, err := pki.Found(filepath.Join(t.TempDir(), "fleet"), "alpha", localhost, pki.Membership{Role: pki.RoleServer}, begin)
		if err != nil {
			t.Fatal(err)
		}
		tries := 0
		r := &Renewer{
			Identity: identity, Jitter: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
			Sign: func(_ context.Context, request []byte) ([]byte, error) {
				tries++
				return identity.Authority().Sign(request, "alpha", localhost, true, begin)
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 250*day)
		defer cancel()
		r.Run(ctx)
		if tries == 0 || tries > 7*24*2 {
			t.Errorf("%d tries", tries)
		}
	})
}

func TestAskServers(t *testing.T) {
	w := newWorld(t)
	beta := w.join("beta", pki.RoleAgent).Identity
	servers := []string{"127.0.0.1:1", newWorld(t).address, w.address}
	sign := AskServers(w.client(beta), func() []string { return servers })
	request, err := beta.Request()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := sign(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if err := beta.Renew(certificate); err != nil {
		t.Error(err)
	}
	// What a node says of itself makes it no server.
	if err := w.memory.Register(t.Context(), fleet.Node{Name: "beta", Server: true, Voter: true}); err != nil {
		t.Fatal(err)
	}
	if certificate, err = sign(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := beta.Renew(certificate); err != nil {
		t.Errorf("an agent got a certificate of another role: %v", err)
	}
	servers = servers[:2]
	if _, err := sign(t.Context(), request); !errors.Is(err, pki.ErrOtherFleet) {
		t.Errorf("nobody signs: %v", err)
	}
	servers = nil
	if _, err := sign(t.Context(), request); err == nil {
		t.Error("nobody is known, and that is no error")
	}
}
