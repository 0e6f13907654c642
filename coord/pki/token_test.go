package pki

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestToken(t *testing.T) {
	alpha := found(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	text, offered := NewToken(alpha.Authority().Fingerprint(), true, now, time.Hour)
	other, _ := NewToken(alpha.Authority().Fingerprint(), true, now, time.Hour)
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567.") != "" {
		t.Errorf("%s is not one word", text)
	}
	held, err := ParseToken(" " + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if held.ID != offered.ID || held.Root != alpha.Authority().Fingerprint() || !offered.Server ||
		!held.Ends.Equal(offered.Expires) || !offered.Expires.Equal(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)) {
		t.Errorf("offered %+v, held %v until %s", offered, held, held.Ends)
	}
	if !held.Proves(offered) {
		t.Error("a token does not prove itself")
	}
	strange, _ := ParseToken(other)
	if strange.Proves(offered) || strange.ID == held.ID {
		t.Error("another token proves it, too")
	}
	parts := strings.Split(text, ".")
	secret := parts[2]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if printed := fmt.Sprintf(verb, held); printed != "token "+held.ID {
			t.Errorf("%s prints %q", verb, printed)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", offered), secret) {
		t.Error("what is stored has the secret")
	}
	for _, broken := range []string{
		"", secret, "skerry", strings.ToUpper(text), text + "a", text + ".", "x" + text, strings.Join(parts[:3], "."),
		strings.Join([]string{parts[0], parts[1], parts[3], parts[2]}, "."), strings.Replace(text, secret, secret[1:], 1),
	} {
		_, err := ParseToken(broken)
		has(t, err, "no token")
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Error("an error tells the secret")
		}
	}
}

func FuzzParseToken(f *testing.F) {
	text, _ := NewToken(Fingerprint{}, false, time.Unix(1, 0), time.Hour)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text string) {
		if held, err := ParseToken(text); err == nil && !strings.Contains(text, held.ID) {
			t.Errorf("%q has the ID %q", text, held.ID)
		}
	})
}
