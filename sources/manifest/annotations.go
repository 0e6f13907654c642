package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skerry-dev/skerry/fleet"
)

// ourDomain is what annotations of Skerry's begin with.
const ourDomain = "skerry.dev/"

// annotated are the kinds on whose objects an annotation has an effect; none are named where it has one on all.
var annotated = map[string][]string{
	fleet.AnnotationOnFailure:       {fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet},
	fleet.AnnotationSteps:           {fleet.KindDeployment},
	fleet.AnnotationDependsOn:       {fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet, fleet.KindReplicaSet, fleet.KindJob, fleet.KindPod},
	fleet.AnnotationRestartOnConfig: {fleet.KindDeployment, fleet.KindStatefulSet, fleet.KindDaemonSet},
	fleet.AnnotationPrune:           nil,
	fleet.AnnotationPool:            {fleet.KindService},
	fleet.AnnotationSharedAddress:   {fleet.KindService},
}

// annotations checks those of Skerry's on an object.
func (c *checker) annotations(list map[string]string, id fleet.ObjectID, p *field.Path) {
	for _, key := range ours(list) {
		at, value := p.Key(key), list[key]
		kinds, known := annotated[key]
		switch {
		case !known:
			c.unknownAnnotation(key, at)
			continue
		case kinds != nil && !slices.Contains(kinds, id.Kind):
			c.warn(at, fmt.Sprintf("has no effect on a %s: it is for %s", id.Kind, strings.Join(kinds, ", ")))
			continue
		}
		var err error
		switch key {
		case fleet.AnnotationOnFailure:
			oneOf(c, at, value, fleet.OnFailureHold, fleet.OnFailureRollback)
		case fleet.AnnotationRestartOnConfig, fleet.AnnotationPrune:
			oneOf(c, at, value, "true", "false")
		case fleet.AnnotationSteps:
			_, err = fleet.ParseSteps(value)
		case fleet.AnnotationDependsOn:
			var on []fleet.ObjectID
			if on, err = fleet.ParseDependsOn(value, id.Namespace); slices.Contains(on, id) {
				c.bad(at, "names the object itself: remove %s/%s", id.Kind, id.Name)
			}
		}
		if err != nil {
			c.bad(at, "%s", err)
		}
	}
}

// noAnnotations warns of annotations of Skerry's where none has an effect, whose reads "of a pod template".
func (c *checker) noAnnotations(list map[string]string, p *field.Path, whose string) {
	for _, key := range ours(list) {
		if _, known := annotated[key]; known {
			c.warn(p.Key(key), fmt.Sprintf("has no effect in the metadata %s: put it into that of the object", whose))
			continue
		}
		c.unknownAnnotation(key, p.Key(key))
	}
}

func (c *checker) unknownAnnotation(key string, p *field.Path) {
	name := strings.TrimPrefix(key, ourDomain)
	var names []string
	for known := range annotated {
		names = append(names, strings.TrimPrefix(known, ourDomain))
	}
	slices.Sort(names)
	switch near := nearest(name, names); {
	case key == fleet.AnnotationConfig:
		c.warn(p, "has no effect: Skerry writes it itself")
	case near != "":
		c.warn(p, fmt.Sprintf("unknown annotation %q, did you mean %q?", key, ourDomain+near))
	default:
		c.warn(p, fmt.Sprintf("unknown annotation %q: it has no effect", key))
	}
}

// ours are the keys of annotations that begin as Skerry's do, in order.
func ours(list map[string]string) []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(list)) {
		if strings.HasPrefix(key, ourDomain) {
			keys = append(keys, key)
		}
	}
	return keys
}

// wholeNumber is how a number is written that has nothing to leave out.
var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// podAnnotations checks the annotations that Kubernetes itself heeds on a pod, or on the template of one.
func (c *checker) podAnnotations(list map[string]string, p *field.Path) {
	cost, ok := list[fleet.AnnotationDeletionCost]
	if !ok {
		return
	}
	if _, err := strconv.ParseInt(cost, 10, 32); err != nil || !wholeNumber.MatchString(cost) {
		c.bad(p.Key(fleet.AnnotationDeletionCost), "%q is not allowed: must be a whole number such as \"-10\" that fits into 32 bits", cost)
	}
}
