package pki

import (
	"bytes"
	"errors"
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
