// Package diff turns two values into the fields that differ, for people. It finds them with go-cmp over the
// values' JSON form, so that paths are the ones users write, and masks what is secret. It decides nothing.
package diff

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	corev1 "k8s.io/api/core/v1"
)

// Field is one field that differs.
type Field struct {
	Path string `json:"path"`          // spec.template.spec.containers[web].image
	Old  string `json:"old,omitempty"` // as JSON, strings without quotes; empty: absent
	New  string `json:"new,omitempty"`
}

// masked is what stands for a secret value.
const masked = "(masked)"

// Fields are the fields in which two objects of one kind differ, in the order of their paths. Values of
// Secrets are masked: that they differ can be seen, not what they are.
func Fields(before, after runtime.Object) []Field {
	_, secret := before.(*corev1.Secret)
	var r reporter
	cmp.Equal(tree(before), tree(after), cmp.Reporter(&r))
	for i := range r.fields {
		f := &r.fields[i]
		if secret && (strings.HasPrefix(f.Path, "data[") || strings.HasPrefix(f.Path, "data.") || f.Path == "data") {
			f.Old, f.New = mask(f.Old), mask(f.New)
		}
	}
	return r.fields
}

func mask(s string) string {
	if s == "" {
		return ""
	}
	return masked
}

// tree is a value in its JSON form. Lists of things with names become maps by name, so that one more
// container is one difference and not a shift of all that follow.
func tree(v runtime.Object) any {
	raw, err := json.Marshal(v)
	if err != nil { // cannot happen: what was decoded can be encoded
		return err.Error()
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		return err.Error()
	}
	if m, ok := out.(map[string]any); ok {
		delete(m, "status")
	}
	return byName(out)
}

// named is a list whose items have names.
type named map[string]any

func byName(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
				continue
			}
			v[key] = byName(value)
		}
	case []any:
		m := named{}
		for i := range v {
			v[i] = byName(v[i])
			item, ok := v[i].(map[string]any)
			name, hasName := item["name"].(string)
			if _, twice := m[name]; !ok || !hasName || twice {
				m = nil
				continue
			}
			if m != nil {
				m[name] = v[i]
			}
		}
		if m != nil && len(v) > 0 {
			return m
		}
	}
	return v
}

// reporter collects differences as go-cmp walks.
type reporter struct {
	path   cmp.Path
	fields []Field
}

// PushStep is for go-cmp.
func (r *reporter) PushStep(s cmp.PathStep) { r.path = append(r.path, s) }

// PopStep is for go-cmp.
func (r *reporter) PopStep() { r.path = r.path[:len(r.path)-1] }

// Report is for go-cmp.
func (r *reporter) Report(result cmp.Result) {
	if result.Equal() {
		return
	}
	before, after := r.path.Last().Values()
	f := Field{Path: r.name()}
	if before.IsValid() {
		f.Old = text(before.Interface())
	}
	if after.IsValid() {
		f.New = text(after.Interface())
	}
	r.fields = append(r.fields, f)
}

// name is where the walk is, as Kubernetes writes it.
func (r *reporter) name() string {
	var b strings.Builder
	inNamed := false
	for _, step := range r.path {
		switch s := step.(type) {
		case cmp.MapIndex:
			switch key := s.Key().String(); {
			case inNamed || strings.ContainsAny(key, "./"):
				fmt.Fprintf(&b, "[%s]", key)
			case b.Len() == 0:
				b.WriteString(key)
			default:
				b.WriteString("." + key)
			}
		case cmp.SliceIndex:
			at := s.Key()
			if at < 0 {
				before, after := s.SplitKeys()
				at = max(before, after)
			}
			fmt.Fprintf(&b, "[%d]", at)
		}
		inNamed = step.Type().String() == "diff.named"
	}
	return b.String()
}

func text(v any) string {
	if s, ok := v.(string); ok {
		if s == "" {
			return `""`
		}
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
