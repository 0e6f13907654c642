package manifest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// node checks what Git says of a machine. The machine itself is there or not, whatever Git says.
func (c *checker) node(s *corev1.NodeSpec, p *field.Path) {
	type mark struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[mark]bool{}
	for i, t := range s.Taints {
		at := p.Child("taints").Index(i)
		c.all(at.Child("key"), t.Key, validation.IsQualifiedName(t.Key))
		c.all(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
		c.effect(t.Effect, at.Child("effect"))
		if now := (mark{t.Key, t.Effect}); seen[now] {
			c.bad(at, "has the key and effect of another taint: remove one")
		} else {
			seen[now] = true
		}
	}
}

// systemClasses are the priorities that every fleet has.
var systemClasses = map[string]int32{"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}

// highestPriority is the highest that users may give; those above are the system's.
const highestPriority = 1_000_000_000

func (c *checker) priorityClass(o *schedulingv1.PriorityClass) {
	c.preemption(o.PreemptionPolicy, field.NewPath("preemptionPolicy"))
	if strings.HasPrefix(o.Name, "system-") {
		if value, known := systemClasses[o.Name]; !known || value != o.Value || o.GlobalDefault {
			c.bad(field.NewPath("metadata", "name"), "%q is not allowed: names that begin with system- are the system's", o.Name)
		}
		return
	}
	if o.Value > highestPriority {
		c.bad(field.NewPath("value"), "must not be more than %d", highestPriority)
	}
}
