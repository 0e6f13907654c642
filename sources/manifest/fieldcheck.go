package manifest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// treatment is what Skerry does with a field that is set.
type treatment int

const (
	done    treatment = iota // as Kubernetes does
	refused                  // the object is not taken: running it without would do harm
	noted                    // the object is taken and the field has no effect, or not the whole one
)

// fieldRule says what happens to one field of a type. A path that ends in /... stands for everything below
// it too; [] stands for any index.
type fieldRule struct {
	path      string
	treatment treatment
	text      string // instead of the usual words for refused and noted
	quiet     string // values, divided by blanks, that ask for what happens anyway
}

// fieldTable has every field of a type; tests compare it with the type.
type fieldTable []fieldRule

// rule finds the entry for a path; whole says that it stands for everything below. Init containers have the
// entries of other containers, but for those of their own.
func (t fieldTable) rule(path string) (rule fieldRule, whole, ok bool) {
	for _, f := range t {
		if f.path == path {
			return f, false, true
		}
		if base, isWhole := strings.CutSuffix(f.path, "/..."); isWhole && base == path {
			return f, true, true
		}
	}
	if rest, isInit := strings.CutPrefix(path, "initContainers[]."); isInit {
		return t.rule("containers[]." + rest)
	}
	return fieldRule{}, false, false
}

// podCheck reports the fields of a pod spec as written that are not done.
func podCheck(spec *corev1.PodSpec, path string) []problem {
	c := fieldCheck{table: podFields}
	c.visit(reflect.ValueOf(spec).Elem(), "", path)
	for i := range spec.InitContainers {
		c.resources(&spec.InitContainers[i].Resources, fmt.Sprintf("%s.initContainers[%d].resources", path, i))
	}
	for i := range spec.Containers {
		c.resources(&spec.Containers[i].Resources, fmt.Sprintf("%s.containers[%d].resources", path, i))
	}
	c.disks(spec, path)
	return c.problems
}

// fieldsCheck reports the fields of a struct as written that its table does not have as done. Path is where the struct
// stands in its object.
func fieldsCheck[T any](table fieldTable, of *T, path string) []problem {
	c := fieldCheck{table: table}
	c.visit(reflect.ValueOf(of).Elem(), "", path)
	return c.problems
}

type fieldCheck struct {
	table    fieldTable
	problems []problem
}

func (c *fieldCheck) say(t treatment, path, text string) {
	switch {
	case t == refused && text == "":
		text = "is not done yet: the object is left out"
	case t == noted && text == "":
		text = "has no effect yet"
	}
	why := Warning
	if t == refused {
		why = NotRun
	}
	c.problems = append(c.problems, problem{path: path, kind: why, text: text})
}

// visit looks at what is set in a struct. General is its path in the table, exact the one in the object.
func (c *fieldCheck) visit(v reflect.Value, general, exact string) {
	for i := range v.NumField() {
		name := jsonName(v.Type().Field(i))
		if name == "" {
			c.visit(v.Field(i), general, exact)
			continue
		}
		c.field(v.Field(i), join(general, name), join(exact, name))
	}
}

func (c *fieldCheck) field(v reflect.Value, general, exact string) {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return
	}
	if rule, _, ok := c.table.rule(general); ok {
		if rule.treatment != done && !slices.Contains(strings.Fields(rule.quiet), plain(v)) {
			c.say(rule.treatment, exact, rule.text)
		}
		return
	}
	if v = reflect.Indirect(v); v.Kind() == reflect.Slice {
		for i := range v.Len() {
			c.visit(v.Index(i), general+"[]", fmt.Sprintf("%s[%d]", exact, i))
		}
		return
	}
	c.visit(v, general, exact)
}

// plain is the value of a field as it is written.
func plain(v reflect.Value) string {
	if share, ok := v.Interface().(*intstr.IntOrString); ok {
		return share.String()
	}
	return fmt.Sprint(reflect.Indirect(v))
}

// resources looks at what is asked for beside CPU and memory.
func (c *fieldCheck) resources(r *corev1.ResourceRequirements, path string) {
	for name, list := range map[string]corev1.ResourceList{"limits": r.Limits, "requests": r.Requests} {
		for resource := range list {
			switch resource {
			case corev1.ResourceCPU, corev1.ResourceMemory:
			case corev1.ResourceEphemeralStorage:
				c.say(noted, keyed(path+"."+name, string(resource)), noStorage)
			default:
				c.say(refused, keyed(path+"."+name, string(resource)), "")
			}
		}
	}
}

// disks notes limits that are kept only in memory.
func (c *fieldCheck) disks(spec *corev1.PodSpec, path string) {
	for i := range spec.Volumes {
		if e := spec.Volumes[i].EmptyDir; e != nil && e.SizeLimit != nil && e.Medium == corev1.StorageMediumDefault {
			c.say(noted, fmt.Sprintf("%s.volumes[%d].emptyDir.sizeLimit", path, i), noStorage)
		}
	}
}
