package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/skerry-dev/skerry/fleet"
)

// intentKey is one for all intents that equal one another.
func (s *Store) intentKey(i fleet.Intent) (key string, value []byte, err error) {
	i.At = i.At.Round(0).UTC()
	value, err = json.Marshal(i)
	sum := sha256.Sum256(value)
	return s.key(intentsArea + "/" + hex.EncodeToString(sum[:])), value, err
}

// Intend remembers an intent.
func (s *Store) Intend(ctx context.Context, intent fleet.Intent) error {
	key, value, err := s.intentKey(intent)
	if err != nil {
		return err
	}
	return s.write(ctx, "keep intent", op{key: key, value: value})
}

// Intents returns what is remembered.
func (s *Store) Intents(context.Context) ([]fleet.Intent, error) { return s.mirror.intents() }

// Withdraw forgets intents.
func (s *Store) Withdraw(ctx context.Context, list []fleet.Intent) error {
	ops := make([]op, 0, len(list))
	known := map[string]bool{}
	for _, i := range list {
		key, _, err := s.intentKey(i)
		if err != nil {
			return err
		}
		if !known[key] { // etcd refuses two writes of one key
			known[key] = true
			ops = append(ops, op{key: key, gone: true})
		}
	}
	return s.write(ctx, "withdraw intents", ops...)
}
