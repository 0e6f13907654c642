package pki

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// met is what both ends know after a handshake.
type met struct {
	peer      fleet.NodeName
	server    bool
	noPeer    error // why the listener does not know who connected
	refused   error // by the listener
	gaveUp    error // by who connected
	presented *tls.ConnectionState
}

// meet connects over the loopback and exchanges a byte, without which TLS 1.3 does not tell who connected that it was refused.
func meet(t *testing.T, listening, connecting *tls.Config) met {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var m met
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			m.refused = err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		server := tls.Server(conn, listening)
		if m.refused = server.HandshakeContext(t.Context()); m.refused != nil {
			return
		}
		state := server.ConnectionState()
		m.peer, m.server, m.noPeer = PeerName(&state)
		_, _ = server.Write([]byte("x"))
		_, _ = io.Copy(io.Discard, server)
	}()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	client := tls.Client(conn, connecting)
	if m.gaveUp = client.HandshakeContext(t.Context()); m.gaveUp == nil {
		state := client.ConnectionState()
		m.presented = &state
		_, m.gaveUp = client.Read(make([]byte, 1))
	}
	conn.Close()
	<-done
	return m
}

func TestHandshakes(t *testing.T) {
	now := time.Now()
	alpha, stranger := found(t), found(t)
	beta := enlist(t, alpha, "beta", RoleAgent, now)
	gamma := enlist(t, alpha, "gamma", RoleWitness, now)
	early := enlist(t, alpha, "early", RoleServer, now.Add(time.Hour))
	late := enlist(t, alpha, "late", RoleServer, now.Add(-2*365*24*time.Hour))
	bare := &tls.Config{InsecureSkipVerify: true}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	pin := alpha.Authority().Fingerprint()
	for name, c := range map[string]struct {
		listening, connecting *tls.Config
		gaveUp, refused       string // "any" for some error
		is                    error
		peer                  fleet.NodeName
	}{
		"by name":                     {alpha.ServerTLS(), beta.ClientTLS("alpha"), "", "", nil, "beta"},
		"any":                         {beta.DoorTLS(), alpha.AnyTLS(), "", "", nil, "alpha"},
		"any server":                  {gamma.ServerTLS(), beta.AnyServerTLS(), "", "", nil, "beta"},
		"another node":                {gamma.ServerTLS(), beta.ClientTLS("alpha"), "the node gamma answers and not alpha", "any", nil, ""},
		"no server":                   {beta.ServerTLS(), alpha.AnyServerTLS(), "no server", "any", nil, ""},
		"a listener of another fleet": {stranger.ServerTLS(), beta.ClientTLS("alpha"), "", "any", ErrOtherFleet, ""},
		"a caller of another fleet":   {alpha.ServerTLS(), withCertificate(bare, stranger), "any", "unknown authority", nil, ""},
		"the same through the door":   {alpha.DoorTLS(), withCertificate(bare, stranger), "any", "unknown authority", nil, ""},
		"no certificate":              {alpha.ServerTLS(), bare, "any", "didn't provide a certificate", nil, ""},
		"none at the door":            {alpha.DoorTLS(), bare, "", "", nil, ""},
		"TLS 1.2":                     {alpha.DoorTLS(), old, "any", "versions", nil, ""},
		"token":                       {alpha.DoorTLS(), JoinTLS(pin), "", "", nil, ""},
		"token at any server":         {gamma.DoorTLS(), JoinTLS(pin), "", "", nil, ""},
		"token at an agent":           {beta.DoorTLS(), JoinTLS(pin), "no server", "any", nil, ""},
		"token at another fleet":      {stranger.DoorTLS(), JoinTLS(pin), "", "any", ErrOtherFleet, ""},
		"token at a forger":           {forger(stranger, alpha), JoinTLS(pin), "", "any", ErrOtherFleet, ""},
		"listener not yet valid":      {early.ServerTLS(), beta.AnyTLS(), "node early begins", "any", ErrClock, ""},
		"listener no longer valid":    {late.ServerTLS(), beta.AnyTLS(), "node late ended", "any", ErrClock, ""},
		"token and clock":             {early.DoorTLS(), JoinTLS(pin), "timedatectl", "any", ErrClock, ""},
		"caller not yet valid":        {alpha.ServerTLS(), early.AnyTLS(), "this node begins", "any", ErrClock, ""},
		"caller no longer valid":      {alpha.ServerTLS(), late.AnyTLS(), "this node ended", "any", ErrClock, ""},
		"caller that shows it still":  {alpha.ServerTLS(), withCertificate(bare, late), "any", "expired", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := meet(t, c.listening, c.connecting)
			for who, end := range map[string]struct {
				err  error
				want string
			}{"who connects": {m.gaveUp, c.gaveUp}, "who listens": {m.refused, c.refused}} {
				switch {
				case end.want == "any" && end.err == nil:
					t.Errorf("%s has no error", who)
				case end.want != "" && end.want != "any":
					has(t, end.err, end.want)
				case end.want == "" && c.is == nil && end.err != nil:
					t.Errorf("%s: %v", who, end.err)
				}
			}
			if c.is != nil && !errors.Is(m.gaveUp, c.is) {
				t.Errorf("error is %v, want %v", m.gaveUp, c.is)
			}
			if m.peer != c.peer {
				t.Errorf("the peer is %q, want %q", m.peer, c.peer)
			}
			if m.refused == nil && c.peer == "" && m.noPeer == nil {
				t.Error("who showed no certificate has a name")
			}
		})
	}
}

func withCertificate(c *tls.Config, who *Identity) *tls.Config {
	c = c.Clone()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return who.current.Load(), nil }
	return c
}

// forger shows another fleet's authority, which anybody can have, behind a certificate that it has not signed.
func forger(who, victim *Identity) *tls.Config {
	c := who.DoorTLS()
	own := *who.current.Load()
	own.Certificate = [][]byte{own.Certificate[0], victim.root.Raw}
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }
	return c
}

func TestRenewedCertificateIsShownAtOnce(t *testing.T) {
	alpha := found(t)
	beta := enlist(t, alpha, "beta", RoleAgent, time.Now())
	listening, connecting := beta.ServerTLS(), alpha.ClientTLS("beta")
	before := meet(t, listening, connecting)
	request, _ := beta.Request()
	next, err := alpha.Authority().Sign(request, "beta", loopback, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := beta.Renew(next); err != nil {
		t.Fatal(err)
	}
	after := meet(t, listening, connecting)
	if before.gaveUp != nil || after.gaveUp != nil {
		t.Fatal(before.gaveUp, after.gaveUp)
	}
	if before.presented.PeerCertificates[0].Equal(after.presented.PeerCertificates[0]) {
		t.Error("the old certificate is shown still")
	}
}
