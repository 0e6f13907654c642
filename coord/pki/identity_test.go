package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/fleet"
)

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	alpha := found(t)
	beta := enlist(t, alpha, "beta", RoleAgent, time.Now())
	for i, want := range map[*Identity][]string{
		alpha: {"ca.crt", "ca.key", "fleet.json", "node.crt", "node.key"},
		beta:  {"ca.crt", "fleet.json", "node.crt", "node.key"},
	} {
		about, err := os.Stat(i.dir)
		if err != nil || about.Mode().Perm() != 0o700 {
			t.Errorf("folder: %v %v", about, err)
		}
		entries, err := os.ReadDir(i.dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			if about, err := e.Info(); err != nil || about.Mode() != 0o600 {
				t.Errorf("%s: %v %v", e.Name(), about.Mode(), err)
			}
		}
		if d := cmp.Diff(want, names); d != "" {
			t.Error(d)
		}
		if siblings, _ := os.ReadDir(filepath.Dir(i.dir)); len(siblings) != 1 {
			t.Errorf("something was left beside the folder: %v", siblings)
		}
		again, err := Load(i.dir)
		if err != nil {
			t.Fatal(err)
		}
		if again.Name() != i.Name() || again.Server() != i.Server() || (again.Authority() != nil) != i.Server() {
			t.Errorf("%s is read as %s, server: %t", i, again, again.Server())
		}
		key := string(read(t, i.path(nodeKeyFile)))
		for _, text := range []string{fmt.Sprint(i), fmt.Sprintf("%+v", i)} {
			if strings.Contains(text, key) || len(text) > 20 {
				t.Errorf("printed, an identity tells too much: %s", text)
			}
		}
	}
	if _, err := Load(t.TempDir() + "/none"); !errors.Is(err, ErrNone) {
		t.Errorf("no folder: %v", err)
	}
}

func TestCertificateSaysWhoItIs(t *testing.T) {
	alpha := found(t)
	d, err := NewDraft(filepath.Join(t.TempDir(), "fleet"), "beta.attic", RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := d.Request()
	now := time.Now()
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.12"), netip.MustParseAddr("::ffff:10.0.0.12"), netip.MustParseAddr("fd00::2")}
	raw, err := alpha.Authority().Sign(request, "beta.attic", addresses, false, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Subject, c.DNSNames, c.IPAddresses, c.URIs, c.NotBefore.Sub(now.Truncate(time.Second)), c.NotAfter.Sub(now.Truncate(time.Second)), c.ExtKeyUsage, c.IsCA)
	want := "CN=beta.attic [beta.attic] [127.0.0.1 10.0.0.12 fd00::2] [skerry://node/beta.attic] -5m0s 8760h0m0s [clientAuth serverAuth] false"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if c.VerifyHostname(ServerHost) == nil || CheckName(ServerHost) == nil {
		t.Error("an agent can be taken for a server")
	}
	if own := alpha.current.Load().Leaf; own.Subject.String() != "CN=alpha,OU=server" || own.VerifyHostname(ServerHost) != nil {
		t.Error(own.Subject, own.DNSNames)
	}
}

func TestSignRefuses(t *testing.T) {
	alpha := found(t)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	good, _ := request(p256, "beta")
	of := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "beta"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return encode(requestBlock, der)
	}
	forged, _ := parsedPEM(good)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		request []byte
		node    fleet.NodeName
		want    string
	}{
		"another name":     {good, "gamma", "its own name only"},
		"another kind":     {of(edwards), "beta", "P-256"},
		"a forged one":     {encode(requestBlock, forged), "beta", "not signed with its own key"},
		"no PEM":           {[]byte("x"), "beta", "not in PEM"},
		"something behind": {append(good, "x"...), "beta", "not in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := alpha.Authority().Sign(c.request, c.node, nil, false, time.Now())
			has(t, err, c.want)
		})
	}
	for _, name := range []fleet.NodeName{"", "Beta", "a b", "../a", fleet.NodeName(strings.Repeat("a", 64))} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

func parsedPEM(text []byte) ([]byte, error) {
	csr, err := ParseRequest(text, "beta")
	return csr.Raw, err
}

// TestDraftIsAllOrNothing finishes drafts with what does not fit.
func TestDraftIsAllOrNothing(t *testing.T) {
	alpha, stranger := found(t), found(t)
	for name, c := range map[string]struct {
		role string
		turn func(g *Grant)
		want string
	}{
		"another fleet's certificate": {RoleAgent, func(g *Grant) { g.Root = stranger.Root() }, "not signed by this fleet's authority"},
		"another node's certificate":  {RoleAgent, func(g *Grant) { g.Certificate = read(t, alpha.path(nodeFile)) }, "not for this node's key"},
		"no certificate":              {RoleAgent, func(g *Grant) { g.Certificate = nil }, "not one certificate"},
		"a server without the key":    {RoleServer, func(g *Grant) { g.RootKey = nil }, "ca.key"},
		"a server with another key":   {RoleServer, func(g *Grant) { g.RootKey, _ = stranger.Authority().Key() }, "do not belong together"},
		"no vote for a witness":       {RoleWitness, func(*Grant) {}, "as witness was asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "fleet")
			d, err := NewDraft(dir, "beta", c.role)
			if err != nil {
				t.Fatal(err)
			}
			g := granted(t, alpha, d, c.role == RoleServer, time.Now())
			c.turn(&g)
			_, err = d.Finish(g, Membership{Role: c.role})
			has(t, err, c.want)
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	_, err := NewDraft(filepath.Join(t.TempDir(), "fleet"), "beta", "king")
	has(t, err, `"king"`)
	if _, err := NewDraft(alpha.dir, "beta", RoleAgent); !errors.Is(err, ErrMember) {
		t.Errorf("over an identity: %v", err)
	}
	if again, err := Load(alpha.dir); err != nil || again.Name() != "alpha" {
		t.Errorf("the identity that was there: %v %v", again, err)
	}
}

// TestDraftMeetsAnother finishes two drafts for one folder.
func TestDraftMeetsAnother(t *testing.T) {
	alpha := found(t)
	dir := filepath.Join(t.TempDir(), "fleet")
	if err := os.Mkdir(dir, 0o700); err != nil { // an empty one is no identity
		t.Fatal(err)
	}
	late, err := NewDraft(dir, "beta", RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Finish(granted(t, alpha, late, false, time.Now()), Membership{Role: RoleAgent}); !errors.Is(err, ErrMember) {
		t.Errorf("over what came meanwhile: %v", err)
	}
}

func TestRenewIsForTheSameNode(t *testing.T) {
	alpha, stranger := found(t), found(t)
	beta := enlist(t, alpha, "beta", RoleAgent, time.Now().Add(-300*24*time.Hour))
	request, _ := beta.Request()
	sign := func(by *Identity, server bool) []byte {
		raw, err := by.Authority().Sign(request, "beta", nil, server, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	_, before := beta.Validity()
	has(t, beta.Renew(sign(stranger, false)), "not signed by this fleet")
	has(t, beta.Renew(sign(alpha, true)), "another role")
	has(t, beta.Renew(read(t, alpha.path(nodeFile))), "not for this node's key")
	if _, to := beta.Validity(); to != before {
		t.Error("a certificate was taken that was refused")
	}
	if err := beta.Renew(sign(alpha, false)); err != nil {
		t.Fatal(err)
	}
	again, err := Load(beta.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, to := again.Validity(); !to.After(before) {
		t.Errorf("after a renewal the certificate on disk ends %s, before %s", to, before)
	}
}

func TestMembership(t *testing.T) {
	alpha := found(t)
	want := Membership{
		Version: 1, Role: RoleServer, Listen: "10.0.0.11:7443", Servers: []string{"10.0.0.12:7443"}, Endpoints: []string{"https://10.0.0.11:7444"},
		InitialCluster: map[string]string{"alpha": "https://10.0.0.11:7445"}, Existing: true, PeerURL: "https://10.0.0.11:7445", ClientURL: "https://10.0.0.11:7444",
	}
	if err := want.Save(alpha.dir); err != nil {
		t.Fatal(err)
	}
	got, err := alpha.Membership()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for text, word := range map[string]string{
		`{"version":1,"role":"agent","colour":"red"}`: `"colour"`,
		`{"version":2,"colour":"red"}`:                "version 2",
		`{}`:                                          "version 0",
		`{"version":1,"role":"king"}`:                 `"king"`,
		`{"version":1,"role":"agent"} {}`:             "",
		``:                                            "JSON",
	} {
		if err := os.WriteFile(alpha.path(membershipFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := alpha.Membership()
		has(t, err, word)
	}
	if _, err := LoadMembership(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("no file: %v", err)
	}
}
