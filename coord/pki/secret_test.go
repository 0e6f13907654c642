package pki

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSecret: two nodes come to the same secret, which no third one has, and only by certificates of their fleet.
func TestSecret(t *testing.T) {
	a := found(t)
	b, c, other := enlist(t, a, "b", RoleAgent, time.Now()), enlist(t, a, "c", RoleWitness, time.Now()), enlist(t, found(t), "b", RoleAgent, time.Now())
	secret := func(i *Identity, peer *Identity) []byte {
		t.Helper()
		s, err := i.Secret(peer.Name(), peer.Certificate())
		if err != nil || len(s) != 32 {
			t.Fatalf("%s with %s: %d bytes, %v", i, peer, len(s), err)
		}
		return s
	}
	if !bytes.Equal(secret(a, b), secret(b, a)) {
		t.Error("two nodes differ")
	}
	if bytes.Equal(secret(a, b), secret(a, c)) || bytes.Equal(secret(a, b), secret(b, c)) {
		t.Error("a third node has it")
	}
	for what, certificate := range map[string][]byte{"another node's": c.Certificate(), "another fleet's": other.Certificate(), "none": []byte("x")} {
		if _, err := a.Secret("b", certificate); !errors.Is(err, ErrStranger) {
			t.Errorf("%s certificate: %v", what, err)
		}
	}
}

// TestSeed: a node makes it once, for itself alone.
func TestSeed(t *testing.T) {
	a, b := found(t), found(t)
	first, err := a.Seed()
	if err != nil || len(first) != 32 || bytes.Equal(first, make([]byte, 32)) {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	again, err := Load(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := again.Seed(); err != nil || !bytes.Equal(first, second) {
		t.Errorf("it is another after a start: %v", err)
	}
	if other, err := b.Seed(); err != nil || bytes.Equal(first, other) {
		t.Errorf("another node has it: %v", err)
	}
	is, err := os.Stat(a.path(wireguardFile))
	if err != nil || is.Mode() != 0o600 || is.Size() != 32 {
		t.Errorf("%v, %v", is, err)
	}
	if err := os.WriteFile(a.path(wireguardFile), first[:9], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Seed(); err == nil || !strings.Contains(err.Error(), "has 9 bytes") {
		t.Errorf("half a file: %v", err)
	}
}
