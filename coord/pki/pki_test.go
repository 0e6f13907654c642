package pki

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// found makes a fleet whose first server is called alpha, some years ago, and brings that up to date.
func found(t *testing.T) *Identity {
	t.Helper()
	i, err := Found(filepath.Join(t.TempDir(), "fleet"), "alpha", loopback, Membership{Role: RoleServer, Listen: "127.0.0.1:7443"}, time.Now().AddDate(-5, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	request, err := i.Request()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := i.Authority().Sign(request, "alpha", loopback, true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Renew(certificate); err != nil {
		t.Fatal(err)
	}
	return i
}

// enlist makes another node of alpha's fleet, by whose clock it is now.
func enlist(t *testing.T, alpha *Identity, name fleet.NodeName, role string, now time.Time) *Identity {
	t.Helper()
	d, err := NewDraft(filepath.Join(t.TempDir(), "fleet"), name, role)
	if err != nil {
		t.Fatal(err)
	}
	m := Membership{Role: role}
	grant := granted(t, alpha, d, m.Votes(), now)
	i, err := d.Finish(grant, m)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func granted(t *testing.T, alpha *Identity, d *Draft, server bool, now time.Time) Grant {
	t.Helper()
	request, err := d.Request()
	if err != nil {
		t.Fatal(err)
	}
	grant := Grant{Root: alpha.Root()}
	if grant.Certificate, err = alpha.Authority().Sign(request, d.name, loopback, server, now); err != nil {
		t.Fatal(err)
	}
	if server {
		if grant.RootKey, err = alpha.Authority().Key(); err != nil {
			t.Fatal(err)
		}
	}
	return grant
}

// has checks that an error is there and has some words.
func has(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q, want it to have %q", err, w)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
