package coordtest

import (
	"encoding/json"
	"reflect"
)

// weigh is how many bytes of JSON differ between two values of one struct: of lists the elements that are new, of all else fields that
// changed. It is about what a store that writes only what changed has to write.
func weigh(before, after any) int64 {
	b, a := reflect.ValueOf(before), reflect.ValueOf(after)
	var n int64
	for i := range a.NumField() {
		old, now := b.Field(i), a.Field(i)
		if now.Kind() != reflect.Slice {
			if text := written(now); text != written(old) {
				n += int64(len(text))
			}
			continue
		}
		had := map[string]bool{}
		for j := range old.Len() {
			had[written(old.Index(j))] = true
		}
		for j := range now.Len() {
			if text := written(now.Index(j)); !had[text] {
				n += int64(len(text))
			}
		}
	}
	return n
}

func written(v reflect.Value) string {
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		panic(err) // of a programmer: all that a store keeps can be written
	}
	return string(raw)
}
