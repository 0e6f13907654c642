package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Roles of a node.
const (
	RoleServer  = "server"  // it keeps a copy of the fleet's memory, votes, and runs pods
	RoleAgent   = "agent"   // it runs pods
	RoleWitness = "witness" // it keeps a copy and votes, and runs nothing
)

// membershipVersion is of the form of the file. One that is not known is from a newer Skerry, and is not guessed at.
const membershipVersion = 1

// Membership is how a node takes part in its fleet, and where that can be reached.
type Membership struct {
	Version int    `json:"version"` // set by whoever writes it
	Role    string `json:"role"`
	Listen  string `json:"listen"` // host:port on which the agent serves the fleet
	// Servers are fleet addresses of servers, to ask for another certificate; Endpoints are where their etcd serves clients.
	Servers   []string `json:"servers,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
	// How a server's etcd begins: with which members, by name, and whether they have been running before it came.
	InitialCluster map[string]string `json:"initialCluster,omitempty"`
	Existing       bool              `json:"existing,omitempty"`
	PeerURL        string            `json:"peerURL,omitempty"`
	ClientURL      string            `json:"clientURL,omitempty"`
}

// Votes is whether the node keeps a copy of the fleet's memory.
func (m Membership) Votes() bool { return m.Role == RoleServer || m.Role == RoleWitness }

func (m Membership) check() error {
	if m.Version != membershipVersion {
		return fmt.Errorf("it is of version %d and this skerry knows version %d: use the skerry that wrote it, or a newer one", m.Version, membershipVersion)
	}
	if !slices.Contains([]string{RoleServer, RoleAgent, RoleWitness}, m.Role) {
		return fmt.Errorf("the role %q is none of %s, %s, %s", m.Role, RoleServer, RoleAgent, RoleWitness)
	}
	return nil
}

// LoadMembership reads the membership in an identity's folder. Keys that are not known are refused. The error is ErrNone,
// wrapped, when there is none.
func LoadMembership(dir string) (Membership, error) {
	path := filepath.Join(dir, membershipFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Membership{}, fmt.Errorf("%w: there is no %s", ErrNone, path)
	}
	if err != nil {
		return Membership{}, err
	}
	m, err := parseMembership(raw)
	if err != nil {
		return Membership{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func parseMembership(raw []byte) (Membership, error) {
	var version struct {
		Version int `json:"version"`
	}
	// The version first: keys that are not known are no surprise in a newer one.
	if err := json.Unmarshal(raw, &version); err != nil {
		return Membership{}, err
	}
	if version.Version != membershipVersion {
		return Membership{}, Membership{Version: version.Version}.check()
	}
	var m Membership
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Membership{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Membership{}, errors.New("something follows after the end")
	}
	return m, m.check()
}

// Save replaces the membership in an identity's folder.
func (m Membership) Save(dir string) error {
	m.Version = membershipVersion
	if err := m.check(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, membershipFile), raw)
}
