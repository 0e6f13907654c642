package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// ServerTLS is for listeners that only nodes of the fleet may connect to. Certificates are looked up at each handshake, so that
// a renewed one needs no restart.
func (i *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: i.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.current.Load(), nil },
		// Each connection shows its certificate: one that has ended meanwhile is noticed.
		SessionTicketsDisabled: true,
	}
}

// DoorTLS is ServerTLS for a listener to which machines may also connect that have no certificate yet. Whatever is served there
// asks PeerName, but for joining.
func (i *Identity) DoorTLS() *tls.Config {
	c := i.ServerTLS()
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c
}

// ClientTLS is for connections to one node of the fleet, wherever it is reached.
func (i *Identity) ClientTLS(peer fleet.NodeName) *tls.Config {
	return i.clientTLS(func(name fleet.NodeName, _ bool) error {
		if name != peer {
			return fmt.Errorf("the node %s answers and not %s: are addresses mixed up?", name, peer)
		}
		return nil
	})
}

// AnyTLS is for connections to any node of the fleet: for what is proven in another way.
func (i *Identity) AnyTLS() *tls.Config {
	return i.clientTLS(func(fleet.NodeName, bool) error { return nil })
}

// AnyServerTLS is for connections to any server of the fleet.
func (i *Identity) AnyServerTLS() *tls.Config { return i.clientTLS(wantServer) }

func wantServer(name fleet.NodeName, server bool) error {
	if !server {
		return fmt.Errorf("the node %s is no server of the fleet: give the address of one", name)
	}
	return nil
}

func (i *Identity) clientTLS(accept func(fleet.NodeName, bool) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Nodes are known by their names in the fleet, and not by where they are reached: verify does all of it.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s.PeerCertificates, i.roots, accept)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := i.current.Load()
			if err := inTime(own.Leaf, "this node", time.Now()); err != nil {
				return nil, err
			}
			return own, nil
		},
	}
}

// JoinTLS is for the first connection of a machine that has nothing but a token: to a server of the fleet that the token is for,
// and to nobody else.
func JoinTLS(root Fingerprint) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // there is nothing to verify with but the fingerprint
		VerifyConnection: func(s tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, c := range s.PeerCertificates[1:] {
				if sha256.Sum256(c.Raw) == root {
					roots.AddCert(c)
					found = true
				}
			}
			if !found {
				return ErrOtherFleet
			}
			return verify(s.PeerCertificates, roots, wantServer)
		},
	}
}

// ErrOtherFleet says that who answers does not belong to the fleet that was meant. Nothing was told to it.
var ErrOtherFleet = errors.New("who answers there does not belong to this fleet (its certificate is from another authority): " +
	"check the address, and that the token is from this very fleet")

// verify looks that the peer is a node of the fleet, and the one that is wanted.
func verify(chain []*x509.Certificate, roots *x509.CertPool, accept func(fleet.NodeName, bool) error) error {
	leaf, now := chain[0], time.Now()
	name, server, err := nodeOf(leaf)
	if err != nil {
		return ErrOtherFleet
	}
	// Clocks are looked at last, and in our own words: who is signed for can be told so.
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return ErrOtherFleet
	}
	if err := inTime(leaf, "node "+string(name), now); err != nil {
		return err
	}
	return accept(name, server)
}

// ErrClock says that a certificate does not hold now, by the clock of this machine.
var ErrClock = errors.New("a certificate does not hold at this time")

// inTime explains a certificate that does not hold now.
func inTime(c *x509.Certificate, whose string, now time.Time) error {
	const stamp = "2006-01-02 15:04:05 MST"
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w: that of %s begins %s, and the clock of this machine says %s: set the clocks of both (timedatectl set-ntp true)",
			ErrClock, whose, c.NotBefore.UTC().Format(stamp), now.UTC().Format(stamp))
	case now.After(c.NotAfter):
		return fmt.Errorf("%w: that of %s ended %s, and the clock of this machine says %s: if the clock is right, that node was away for too long and has to join again",
			ErrClock, whose, c.NotAfter.UTC().Format(stamp), now.UTC().Format(stamp))
	}
	return nil
}

// PeerName is who is at the other end of a connection that a listener of ServerTLS or DoorTLS took. It fails for a machine
// without a certificate.
func PeerName(s *tls.ConnectionState) (name fleet.NodeName, server bool, err error) {
	if s == nil || len(s.VerifiedChains) == 0 {
		return "", false, errors.New("a certificate of this fleet is needed")
	}
	return nodeOf(s.VerifiedChains[0][0])
}
