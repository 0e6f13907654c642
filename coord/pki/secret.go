package pki

import (
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/skerry-dev/skerry/fleet"
)

// secretLength is that of a key for HMAC-SHA256.
const secretLength = 32

// ErrStranger says that a certificate is not that of the node it is said to be of.
var ErrStranger = errors.New("the certificate is not that of this node, or not from this fleet")

// Certificate is what others know this node by, for Secret. It is no secret.
func (i *Identity) Certificate() []byte { return i.current.Load().Leaf.Raw }

// Secret is what this node and another one know and nobody else does, by the other's certificate: a key for messages that go without TLS. It
// stays the same when certificates are renewed, and no clock is looked at. The error is ErrStranger for a certificate that is another's.
func (i *Identity) Secret(peer fleet.NodeName, certificate []byte) ([]byte, error) {
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, ErrStranger
	}
	name, _, err := nodeOf(leaf)
	if err != nil || name != peer || leaf.CheckSignatureFrom(i.root) != nil {
		return nil, ErrStranger
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, ErrStranger
	}
	theirs, err := public.ECDH()
	if err != nil {
		return nil, ErrStranger
	}
	own, err := i.key.ECDH()
	if err != nil {
		return nil, fmt.Errorf("use this node's key: %w", err)
	}
	shared, err := own.ECDH(theirs)
	if err != nil {
		return nil, ErrStranger
	}
	first, second := i.name, peer
	if second < first {
		first, second = second, first
	}
	return hkdf.Key(sha256.New, shared, nil, fmt.Sprintf("skerry datagrams %q %q", first, second), secretLength)
}

// Seed is what the node makes its private key of WireGuard of, and nobody else knows. It is made when it is asked for first, and goes when
// the node leaves its fleet.
func (i *Identity) Seed() ([]byte, error) {
	seed, err := os.ReadFile(i.path(wireguardFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		seed = make([]byte, secretLength)
		_, _ = rand.Read(seed) // never fails
		err = writeFile(i.path(wireguardFile), seed)
	case err == nil && len(seed) != secretLength:
		err = fmt.Errorf("%s has %d bytes, want %d: without it another is made", i.path(wireguardFile), len(seed), secretLength)
	}
	if err != nil {
		return nil, fmt.Errorf("this node's key of WireGuard: %w", err)
	}
	return seed, nil
}
