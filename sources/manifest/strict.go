package manifest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// problem is a fault inside one document, before it is known whose it is.
type problem struct {
	path string
	line int
	kind FaultKind
	text string
	// where is the path to look up the line of, if it is not path.
	where string
	// hides are paths about which nothing more should be said: what is wrong here is what is missing there.
	hides string
}

// decoder fills typed values from nodes, strictly: it collects everything that a Kubernetes API server
// would refuse in strict mode, each with its path and line, and never quotes a value.
type decoder struct {
	problems []problem
	secret   bool // the object is a Secret: keys that cannot be keys may be values
}

func (d *decoder) fault(line int, path, format string, args ...any) {
	d.problems = append(d.problems, problem{path: path, line: line, kind: Error, text: fmt.Sprintf(format, args...)})
}

// decode reads n into the value that v points to. What is wrong is left zero.
func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.form == formNull {
		return // as in Kubernetes: null is the same as absent
	}
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		before := len(d.problems)
		d.decode(n, fresh.Elem(), path)
		if len(d.problems) == before || fresh.Elem().Kind() == reflect.Struct {
			v.Set(fresh)
		}
		return
	}
	if d.special(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.slice(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// special decodes the types that have a form of their own in JSON.
func (d *decoder) special(n *node, v reflect.Value, path string) bool {
	switch target := v.Addr().Interface().(type) {
	case *resource.Quantity:
		if d.is(n, path, "a quantity such as 500m or 1Gi", formString, formInt, formFloat) {
			q, err := quantity(strings.TrimSpace(n.text))
			if err != nil {
				d.fault(n.line, path, "must be a quantity such as 500m, 2 or 1Gi")
				break
			}
			*target = q
		}
	case *intstr.IntOrString:
		if !d.is(n, path, "a whole number or a string", formString, formInt) {
			break
		}
		if n.form == formString {
			*target = intstr.FromString(n.text)
			break
		}
		i, err := strconv.ParseInt(n.text, 10, 32)
		if err != nil {
			d.fault(n.line, path, "must be a number that fits into 32 bits")
			break
		}
		*target = intstr.FromInt32(int32(i))
	case *metav1.Time, *metav1.MicroTime, *metav1.Duration:
		if d.is(n, path, "a string", formString) && unmarshal(n, target) != nil {
			d.fault(n.line, path, "must be a time such as 2006-01-02T15:04:05Z")
		}
	case json.Unmarshaler:
		if unmarshal(n, target) != nil {
			d.fault(n.line, path, "cannot be read")
		}
	case *[]byte:
		if !d.is(n, path, "a string in base64", formString) {
			break
		}
		raw, err := base64.StdEncoding.DecodeString(n.text)
		if err != nil {
			d.fault(n.line, path, "must be base64: encode it, or put the plain text into %s", plainField(path))
			break
		}
		*target = raw
	default:
		return false
	}
	return true
}

// farOut matches quantities whose exponent has three digits or more.
var farOut = regexp.MustCompile(`[eE][-+]?0*[1-9][0-9]{2,}$`)

// quantity parses a quantity. The library works through each power of ten: with a large exponent, a dozen
// characters would keep it busy for ever.
func quantity(s string) (resource.Quantity, error) {
	if len(s) > 64 || farOut.MatchString(s) {
		return resource.Quantity{}, resource.ErrNumeric
	}
	return resource.ParseQuantity(s)
}

// plainField is where a Secret or ConfigMap takes what is not encoded.
func plainField(path string) string {
	if strings.HasPrefix(path, "binaryData") {
		return "data"
	}
	return "stringData"
}

func unmarshal(n *node, target any) error {
	raw, err := json.Marshal(n.value())
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, target)
}

// is reports whether a node has one of the forms, and says so where it has not.
func (d *decoder) is(n *node, path, want string, forms ...form) bool {
	for _, f := range forms {
		if n.form == f {
			return true
		}
	}
	hint := ""
	if strings.HasPrefix(want, "a string") && (n.form == formBool || n.form == formInt || n.form == formFloat) {
		hint = ": quote it"
	}
	d.fault(n.line, path, "must be %s, not %s%s", want, n.form, hint)
	return false
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if !d.is(n, path, "a map", formMap) {
		return
	}
	for _, f := range n.fields {
		at := join(path, f.key)
		target, ok := member(v, f.key)
		if !ok {
			d.unknown(f, v, path)
			continue
		}
		d.decode(f.value, target, at)
	}
	d.repeated(n, path, join)
}

// unknown reports a field that the type does not have.
func (d *decoder) unknown(f entry, v reflect.Value, path string) {
	name, glued := unglue(f.key)
	p := problem{path: join(path, name), line: f.line, kind: Error, text: fmt.Sprintf("unknown field %q", name)}
	if near := nearest(strings.TrimSuffix(name, ":…"), members(v.Type())); glued {
		p.text, p.hides = p.text+": put a blank behind the colon", join(path, near)
	} else if near != "" {
		p.text += fmt.Sprintf(", did you mean %q?", near)
		p.hides = join(path, near)
	}
	d.problems = append(d.problems, p)
}

// unglue shortens a key that has swallowed its value, as in {value:secret}, which must not be quoted.
func unglue(key string) (name string, glued bool) {
	name, _, glued = strings.Cut(key, ":")
	if glued {
		name += ":…"
	}
	return name, glued
}

// keyed is the path of a key in a map. Of a Secret, keys that Kubernetes would not take are left out, for
// the same reason.
func (d *decoder) keyed(path, key string) string {
	if d.secret && len(validation.IsConfigMapKey(key)) > 0 {
		return path
	}
	return keyed(path, key)
}

// repeated reports keys that stand more than once in a map.
func (d *decoder) repeated(n *node, path string, add func(path, key string) string) {
	for _, f := range n.twice {
		d.fault(f.line, add(path, f.key), "stands twice, first in line %d: remove one", n.find(f.key).line)
	}
}

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if !d.is(n, path, "a map", formMap) {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.fields)))
	for _, f := range n.fields {
		value, before := reflect.New(v.Type().Elem()).Elem(), len(d.problems)
		d.decode(f.value, value, d.keyed(path, f.key))
		if len(d.problems) > before {
			continue
		}
		v.SetMapIndex(reflect.ValueOf(f.key).Convert(v.Type().Key()), value)
	}
	for _, f := range n.odd {
		d.problems = append(d.problems, problem{path: d.keyed(path, f.key), line: f.line, kind: Warning,
			text: fmt.Sprintf("the key is not written as a string and is read as %q: quote it", f.key)})
	}
	d.repeated(n, path, d.keyed)
}

func (d *decoder) slice(n *node, v reflect.Value, path string) {
	if !d.is(n, path, "a list", formList) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		d.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) scalar(n *node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if d.is(n, path, "a string", formString) {
			v.SetString(n.text)
		}
	case reflect.Bool:
		if d.is(n, path, "true or false", formBool) {
			v.SetBool(n.text == "true")
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if !d.is(n, path, "a whole number", formInt, formFloat) {
			return
		}
		i, err := strconv.ParseInt(n.text, 10, v.Type().Bits())
		if err != nil {
			d.fault(n.line, path, "must be a whole number that fits into %d bits", v.Type().Bits())
			return
		}
		v.SetInt(i)
	default: // a type of k8s.io/api that this package was not written for
		d.fault(n.line, path, "cannot be read")
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func keyed(path, key string) string { return path + "[" + key + "]" }
