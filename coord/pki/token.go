package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-dev/skerry/coord"
)

// Fingerprint is the SHA-256 of an authority's certificate.
type Fingerprint [sha256.Size]byte

const (
	tokenPrefix = "skerry"
	dateSize    = 8 // an ID begins with when the token ends, in seconds, so that an old token can be told from a used one
	idSize      = dateSize + 7
	secretSize  = 20
)

// words are letters and digits that a terminal selects as one word and nobody mistakes.
var words = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes a token for the fleet with that authority: the text is for whoever is to join, the rest for coord.Tokens. The
// secret is nowhere else.
func NewToken(root Fingerprint, server bool, now time.Time, ttl time.Duration) (text string, token coord.Token) {
	expires := now.Add(ttl).Truncate(time.Second).UTC()
	id := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	id = append(id, make([]byte, idSize-dateSize)...)
	rand.Read(id[dateSize:])
	secret := make([]byte, secretSize)
	rand.Read(secret)
	token = coord.Token{ID: words.EncodeToString(id), Hash: hash(secret), Server: server, Expires: expires}
	text = strings.Join([]string{tokenPrefix, token.ID, words.EncodeToString(secret), words.EncodeToString(root[:])}, ".")
	return text, token
}

// Token is what a token's text says. It prints without its secret.
type Token struct {
	ID   string
	Root Fingerprint // of the only fleet that may be told the text
	Ends time.Time   // as the text says, which anybody can write: good for an explanation, and for nothing else

	secret []byte
}

// ParseToken reads a token's text. The error does not quote it.
func ParseToken(text string) (Token, error) {
	broken := errors.New("this is no token: it has the form skerry.….….…, in one word, as the command that made it has printed it")
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return Token{}, broken
	}
	id, err1 := words.DecodeString(parts[1])
	secret, err2 := words.DecodeString(parts[2])
	root, err3 := words.DecodeString(parts[3])
	if errors.Join(err1, err2, err3) != nil || len(id) != idSize || len(secret) != secretSize || len(root) != len(Fingerprint{}) {
		return Token{}, broken
	}
	ends := int64(binary.BigEndian.Uint64(id)) // what is out of range is only a strange date
	return Token{ID: parts[1], Root: Fingerprint(root), Ends: time.Unix(ends, 0).UTC(), secret: secret}, nil
}

// Proves is whether the secret is that of an offered token. It takes as long whatever is wrong.
func (t Token) Proves(offered coord.Token) bool {
	return subtle.ConstantTimeCompare(hash(t.secret), offered.Hash) == 1
}

// Format prints the token without its secret, however it is asked to.
func (t Token) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "token %s", t.ID) }

func hash(secret []byte) []byte {
	h := sha256.Sum256(secret)
	return h[:]
}
