package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Hash identifies a pod template by its content: 32 hex characters.
type Hash string

// HashTemplate hashes a pod template as written: canonical JSON without nulls and without the empty
// structs that Go's JSON adds by itself, so that neither formatting nor an upgrade of Skerry or of
// k8s.io/api changes it. The receiver must not be defaulted yet.
func HashTemplate(t *corev1.PodTemplateSpec) Hash {
	sum := sha256.Sum256(CanonicalTemplate(t))
	return Hash(hex.EncodeToString(sum[:16]))
}

// ShapeOf hashes a template without what may change in a living pod: images, labels and annotations
// (semantics 2.11). A bare Pod whose shape changes is replaced.
func ShapeOf(t *corev1.PodTemplateSpec) Hash {
	bare := &corev1.PodTemplateSpec{Spec: *t.Spec.DeepCopy()}
	for _, list := range [][]corev1.Container{bare.Spec.InitContainers, bare.Spec.Containers} {
		for i := range list {
			list[i].Image = ""
		}
	}
	return HashTemplate(bare)
}

// HashContainer identifies what a running container is made from, as far as a change replaces it alone.
func HashContainer(c *corev1.Container) Hash {
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Image))
	return Hash(hex.EncodeToString(sum[:16]))
}

// CanonicalTemplate is the byte form that HashTemplate hashes and that template stores keep.
func CanonicalTemplate(t *corev1.PodTemplateSpec) []byte {
	raw, err := json.Marshal(t)
	if err != nil { // cannot happen: a PodTemplateSpec that was decoded can be encoded
		panic(fmt.Sprintf("encode pod template: %v", err))
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		panic(fmt.Sprintf("decode pod template: %v", err))
	}
	out, err := json.Marshal(prune(tree)) // encoding/json sorts map keys
	if err != nil {
		panic(fmt.Sprintf("encode pod template: %v", err))
	}
	return out
}

// prune drops nulls, and the empty structs that Go writes whether or not the user did. An empty struct that
// means something (emptyDir: {}) has another key and stays.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			value = prune(value)
			m, isMap := value.(map[string]any)
			if value == nil || (isMap && len(m) == 0 && (key == "resources" || key == "metadata" || key == "status")) {
				delete(v, key)
				continue
			}
			v[key] = value
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// SafeSuffix turns any bytes into the suffix Kubernetes would put behind a name: a 32-bit FNV-1a hash in
// an alphabet without vowels, so that no words appear.
func SafeSuffix(parts ...string) string {
	h := fnv.New32a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// DeriveUID makes an RFC 4122 shaped identifier from its parts: equal parts, equal identifier.
func DeriveUID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x50
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
