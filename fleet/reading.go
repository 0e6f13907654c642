package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Reading is what the leader found in a source: enough for every node to come to the same objects from its own clone, or to
// notice that it does not.
type Reading struct {
	Source   SourceName `json:"source"`
	Revision Revision   `json:"revision"`
	// Kept are the objects that are taken from another revision than Revision, where they were last good.
	Kept map[ObjectID]Revision `json:"kept,omitempty"`
	// Held are those of Kept that were not to be had where it was decided, in order: they are left alone by all, also where they are.
	Held []ObjectID `json:"held,omitempty"`
	Hash Hash       `json:"hash"` // HashObjects of all others
}

// Equal reports whether two readings are the same.
func (r Reading) Equal(o Reading) bool {
	return r.Source == o.Source && r.Revision == o.Revision && r.Hash == o.Hash && maps.Equal(r.Kept, o.Kept) && slices.Equal(r.Held, o.Held)
}

// HashObjects tells sets of objects apart that were read from the same commits: by their IDs, the revisions they are taken from, and
// their templates as written. What else an object says that has a template (replicas, a strategy) is not in it. Objects without one are
// in it whole, as they were decoded and defaulted, but for Secrets: nobody is to guess from a hash at what they hold.
func HashObjects(objects []Object) (Hash, error) {
	sum := sha256.New()
	for _, o := range slices.SortedFunc(slices.Values(objects), func(a, b Object) int { return a.ID.Compare(b.ID) }) {
		_, _ = fmt.Fprintf(sum, "%s\x00%s\x00%s\x00", o.ID, o.Revision, o.Hash)
		if _, secret := o.Value.(*corev1.Secret); secret || o.Template != nil {
			continue
		}
		if err := json.NewEncoder(sum).Encode(o.Value); err != nil {
			return "", fmt.Errorf("hash %s: %w", o.ID, err)
		}
	}
	return Hash(hex.EncodeToString(sum.Sum(nil)[:16])), nil
}
