package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// ErrMember says that a machine belongs to a fleet already.
var ErrMember = errors.New("this machine belongs to a fleet already")

// Draft is an identity before it has a certificate. It lies in a folder beside the one it is for, and is moved there as a whole:
// either all of it is there or nothing.
type Draft struct {
	dir  string
	name fleet.NodeName
	role string
	key  *ecdsa.PrivateKey
}

// Grant is what a fleet gives to a machine that it lets in.
type Grant struct {
	Certificate []byte // the node's, in PEM
	Root        []byte // the authority's, in PEM
	RootKey     []byte // servers only
}

// NewDraft makes the key of a machine that is to be called name in the fleet and have that role (of Membership). The error is ErrMember, wrapped, when there is
// something in dir.
func NewDraft(dir string, name fleet.NodeName, role string) (*Draft, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := (Membership{Version: membershipVersion, Role: role}).check(); err != nil {
		return nil, err
	}
	if err := vacant(dir); err != nil {
		return nil, err
	}
	d := &Draft{dir: dir, name: name, role: role}
	var err error
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the folder %s: %w", dir, err), d.Discard())
	}
	return d, nil
}

// prepare finds out before anybody is asked that the disk takes the files.
func (d *Draft) prepare() error {
	if err := d.Discard(); err != nil { // of one that was killed
		return err
	}
	if err := os.MkdirAll(d.folder(), 0o700); err != nil {
		return err
	}
	key, err := encodeKey(d.key)
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(d.folder(), nodeKeyFile), key)
}

func (d *Draft) folder() string { return d.dir + ".new" }

// Request asks for a certificate.
func (d *Draft) Request() ([]byte, error) { return request(d.key, d.name) }

// Finish writes the rest and puts all of it in place. What does not fit together is refused and leaves nothing.
func (d *Draft) Finish(grant Grant, membership Membership) (*Identity, error) {
	if err := d.fill(grant, membership); err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return Load(d.dir)
}

func (d *Draft) fill(grant Grant, membership Membership) error {
	files := map[string][]byte{nodeFile: grant.Certificate, authorityFile: grant.Root}
	if len(grant.RootKey) > 0 {
		files[authorityKeyFile] = grant.RootKey
	}
	membership.Version, membership.Role = membershipVersion, d.role
	var err error
	if files[membershipFile], err = json.MarshalIndent(membership, "", "  "); err != nil {
		return err
	}
	for name, content := range files {
		if err := writeSynced(filepath.Join(d.folder(), name), content); err != nil {
			return err
		}
	}
	written, err := Load(d.folder())
	if err != nil {
		return err
	}
	if written.name != d.name || written.server != membership.Votes() {
		return fmt.Errorf("the fleet gave a certificate for %s (a server: %t), and %s as %s was asked for", written.name, written.server, d.name, membership.Role)
	}
	if written.server && written.Authority() == nil {
		return fmt.Errorf("the fleet gave no %s, and a server needs it", authorityKeyFile)
	}
	if err := syncDir(d.folder()); err != nil {
		return err
	}
	if err := vacant(d.dir); err != nil {
		return err
	}
	if err := os.Rename(d.folder(), d.dir); err != nil { // over an empty folder at most
		return err
	}
	return syncDir(filepath.Dir(d.dir))
}

// Discard removes what was written. After Finish it does nothing.
func (d *Draft) Discard() error { return os.RemoveAll(d.folder()) }

// Found makes a fleet of one: its authority and its first server.
func Found(dir string, name fleet.NodeName, addresses []netip.Addr, membership Membership, now time.Time) (*Identity, error) {
	d, err := NewDraft(dir, name, membership.Role)
	if err != nil {
		return nil, err
	}
	grant, err := d.found(addresses, now)
	if err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d.Finish(grant, membership)
}

func (d *Draft) found(addresses []netip.Addr, now time.Time) (Grant, error) {
	authority, err := NewAuthority(now)
	if err != nil {
		return Grant{}, err
	}
	request, err := d.Request()
	if err != nil {
		return Grant{}, err
	}
	certificate, err := authority.Sign(request, d.name, addresses, true, now)
	if err != nil {
		return Grant{}, err
	}
	key, err := authority.Key()
	return Grant{Certificate: certificate, Root: authority.Certificate(), RootKey: key}, err
}
