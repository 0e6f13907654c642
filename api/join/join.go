// Package join is what the agents of a fleet say to one another over TLS: how a machine is let in, how its certificate is
// renewed, and how a node gets a commit from another that has it.
//
// Handler answers, Join and Client ask. Who may ask what hangs on the certificate of the connection and on the fleet's roll at
// the moment of each request; only a machine that joins has no certificate, and proves itself by a token.
//
// No error and no line of a log has a token or a key in it.
package join

import (
	"fmt"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

const (
	joinPath   = "/fleet/v1/join"
	renewPath  = "/fleet/v1/renew"
	commitPath = "/fleet/v1/commit"
)

// maxBody is the largest request or answer but for commits: a node's labels and a charter fit by far.
const maxBody = 1 << 20

// application is what a machine says that wants to join.
type application struct {
	Token   string     `json:"token"`
	Node    fleet.Node `json:"node"`
	Request []byte     `json:"request"` // to sign, in PEM
	Server  bool       `json:"server"`  // it wants to vote
	PeerURL string     `json:"peerURL,omitempty"`
	Now     time.Time  `json:"now"` // by its clock
}

// admission is the answer to it.
type admission struct {
	Certificate []byte `json:"certificate"`
	Root        []byte `json:"root"`
	RootKey     []byte `json:"rootKey,omitempty"` // servers only
	// Servers are fleet addresses of servers, Endpoints where their etcd serves clients.
	Servers        []string          `json:"servers"`
	Endpoints      []string          `json:"endpoints"`
	InitialCluster map[string]string `json:"initialCluster,omitempty"` // servers only
	Charter        fleet.Charter     `json:"charter"`
}

// renewal asks for another certificate for the key of the one that the connection has.
type renewal struct {
	Request []byte `json:"request"`
}

type renewed struct {
	Certificate []byte `json:"certificate"`
}

// refusal is the body of every answer that is not 200.
type refusal struct {
	Message string `json:"message"`
}

// Refusal is another node's no, in a sentence for people.
type Refusal struct {
	Text   string
	Status int // of HTTP
}

func (r *Refusal) Error() string { return r.Text }

func refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{Text: fmt.Sprintf(format, args...), Status: status}
}
