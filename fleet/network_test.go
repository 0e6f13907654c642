package fleet_test

import (
	"encoding/json"
	"testing"

	"github.com/skerry-dev/skerry/fleet"
)

// TestPublicKey: a node's key is written as wg(8) writes it, and a node without one says nothing of it.
func TestPublicKey(t *testing.T) {
	const text = `{"name":"a","key":"AQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`
	raw, err := json.Marshal(fleet.Node{Name: "a", Key: fleet.PublicKey{1, 2}})
	if err != nil || string(raw) != text {
		t.Errorf("%s, %v", raw, err)
	}
	var n fleet.Node
	if err := json.Unmarshal([]byte(text), &n); err != nil || n.Key != (fleet.PublicKey{1, 2}) {
		t.Errorf("%v, %v", n.Key, err)
	}
	if raw, err := json.Marshal(fleet.Node{Name: "a"}); err != nil || string(raw) != `{"name":"a"}` {
		t.Errorf("%s, %v", raw, err)
	}
	for _, wrong := range []string{`"AQI="`, `"?"`, `""`} {
		if err := json.Unmarshal([]byte(`{"key":`+wrong+`}`), &n); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}
