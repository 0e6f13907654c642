// Package pki is who a machine is in its fleet, as it lies on disk, and how machines prove it to one another.
//
// A fleet has one authority, which its servers share. It signs a certificate for each node, for a year; the node's key is made
// on the node, never leaves it, and stays the same when the certificate is renewed, so that renewing is the exchange of one file.
// All connections are TLS 1.3 with certificates at both ends. Who was removed from the fleet still has a certificate: that a
// peer belongs to it is for its roll to say, and for whoever serves to ask.
//
// A token lets a machine in that has no certificate yet. It pins the fleet's authority, so that the machine tells its secret to
// nobody else.
//
// No error, and nothing that prints itself, has a key or a secret in it.
package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// The files of an identity.
const (
	authorityFile    = "ca.crt"
	authorityKeyFile = "ca.key" // servers only
	nodeFile         = "node.crt"
	nodeKeyFile      = "node.key"
	membershipFile   = "fleet.json"
	wireguardFile    = "wireguard.key"
)

// ErrNone says that a machine belongs to no fleet.
var ErrNone = errors.New("this machine belongs to no fleet")

// Identity is a node's place in its fleet. Safe for concurrent use.
type Identity struct {
	dir       string
	name      fleet.NodeName
	server    bool
	root      *x509.Certificate
	roots     *x509.CertPool
	authority atomic.Pointer[Authority] // nil unless server, and on one that was removed
	key       *ecdsa.PrivateKey
	current   atomic.Pointer[tls.Certificate]
}

// Load reads what Draft.Finish wrote. The error is ErrNone, wrapped, when there is nothing. A certificate that has ended is no
// error: what runs on the machine runs on, and whoever connects is told.
func Load(dir string) (*Identity, error) {
	i := &Identity{dir: dir, roots: x509.NewCertPool()}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no folder %s", ErrNone, dir)
	}
	if err := i.load(); err != nil {
		return nil, fmt.Errorf("read the fleet's files in %s: %w", dir, err)
	}
	return i, nil
}

func (i *Identity) load() error {
	files := map[string][]byte{}
	for _, name := range []string{authorityFile, nodeFile, nodeKeyFile} {
		text, err := os.ReadFile(i.path(name))
		if err != nil {
			return err
		}
		files[name] = text
	}
	var err error
	if i.root, err = parseCertificate(files[authorityFile]); err != nil {
		return fmt.Errorf("%s: %w", authorityFile, err)
	}
	i.roots.AddCert(i.root)
	if i.key, err = parseKey(files[nodeKeyFile]); err != nil {
		return fmt.Errorf("%s: %w", nodeKeyFile, err)
	}
	own, err := i.own(files[nodeFile])
	if err != nil {
		return fmt.Errorf("%s: %w", nodeFile, err)
	}
	i.name, i.server, _ = nodeOf(own.Leaf) // own did
	i.current.Store(own)
	if !i.server {
		return nil
	}
	key, err := os.ReadFile(i.path(authorityKeyFile))
	if errors.Is(err, fs.ErrNotExist) { // Disown was here
		return nil
	}
	if err != nil {
		return err
	}
	authority, err := parseAuthority(files[authorityFile], key)
	i.authority.Store(authority)
	return err
}

// Disown removes the key of the fleet's authority, from disk first: this node was a server, and the fleet has removed it. Twice is once.
func (i *Identity) Disown() error {
	if err := os.Remove(i.path(authorityKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	i.authority.Store(nil)
	return syncDir(i.dir)
}

// own reads a certificate that must be for the node's key and from its fleet.
func (i *Identity) own(text []byte) (*tls.Certificate, error) {
	leaf, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	if _, _, err := nodeOf(leaf); err != nil {
		return nil, err
	}
	if err := leaf.CheckSignatureFrom(i.root); err != nil {
		return nil, fmt.Errorf("is not signed by this fleet's authority: %w", err)
	}
	if !i.key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("is not for this node's key")
	}
	// The authority's certificate goes along: who joins knows only its fingerprint.
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, i.root.Raw}, PrivateKey: i.key, Leaf: leaf}, nil
}

func (i *Identity) path(name string) string { return filepath.Join(i.dir, name) }

// Name is what the node is called in its fleet.
func (i *Identity) Name() fleet.NodeName { return i.name }

// Server is whether the node may vote and sign.
func (i *Identity) Server() bool { return i.server }

// Authority is the fleet's, on servers; nil on others, and on a server that was removed.
func (i *Identity) Authority() *Authority { return i.authority.Load() }

// Root is the certificate of the fleet's authority, in PEM.
func (i *Identity) Root() []byte { return encode(certificateBlock, i.root.Raw) }

// Paths are the files for programs that read them themselves, at each handshake: etcd does.
func (i *Identity) Paths() (root, certificate, key string) {
	return i.path(authorityFile), i.path(nodeFile), i.path(nodeKeyFile)
}

// Validity is from when to when the node's certificate holds.
func (i *Identity) Validity() (from, to time.Time) {
	leaf := i.current.Load().Leaf
	return leaf.NotBefore, leaf.NotAfter
}

// Request asks for a certificate for the node's key.
func (i *Identity) Request() ([]byte, error) { return request(i.key, i.name) }

func request(key *ecdsa.PrivateKey, name fleet.NodeName) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(name)}}, key)
	if err != nil {
		return nil, err
	}
	return encode(requestBlock, der), nil
}

// Renew replaces the node's certificate, on disk first. Handshakes from now on use it.
func (i *Identity) Renew(certificate []byte) error {
	next, err := i.own(certificate)
	if err != nil {
		return fmt.Errorf("the new certificate %w", err)
	}
	name, server, _ := nodeOf(next.Leaf) // own did
	if name != i.name || server != i.server {
		return errors.New("the new certificate is for another node or another role")
	}
	if err := writeFile(i.path(nodeFile), certificate); err != nil {
		return err
	}
	i.current.Store(next)
	return nil
}

// Membership reads how the node takes part in its fleet.
func (i *Identity) Membership() (Membership, error) { return LoadMembership(i.dir) }

// String names the node: an identity that is printed tells no key.
func (i *Identity) String() string { return "node " + string(i.name) }
