package fleet

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Annotations on objects that Skerry heeds.
const (
	AnnotationOnFailure       = "skerry.dev/on-failure"        // hold or rollback; before the source's onFailure
	AnnotationSteps           = "skerry.dev/steps"             // of a Deployment: ParseSteps
	AnnotationDependsOn       = "skerry.dev/depends-on"        // of a workload: ParseDependsOn
	AnnotationRestartOnConfig = "skerry.dev/restart-on-config" // of a workload: "true" or "false"
	AnnotationPrune           = "skerry.dev/prune"             // "true" or "false"
	// Of a Service of type LoadBalancer: the name of the pool that its address is to be of; and a word: Services with the same one have one
	// address, as far as their ports differ.
	AnnotationPool          = "skerry.dev/pool"
	AnnotationSharedAddress = "skerry.dev/shared-address"

	// AnnotationRestartedAt is what kubectl rollout restart sets on a template.
	AnnotationRestartedAt = "kubectl.kubernetes.io/restartedAt"
	// AnnotationConfig is on pods that roll with their configuration: a hash of it.
	AnnotationConfig = "skerry.dev/config-hash"
	// AnnotationDeletionCost is what Kubernetes orders the pods of a set by for removal. It is checked and no more: here
	// all pods of a set have it from one template, and nobody gives one of them another.
	AnnotationDeletionCost = "controller.kubernetes.io/pod-deletion-cost"
)

// What AnnotationOnFailure and a source's onFailure may say.
const (
	OnFailureHold     = "hold"
	OnFailureRollback = "rollback"
)

// CanaryStep is one step of a Deployment's rollout: a number of new pods, or a pause.
type CanaryStep struct {
	// Size is how many pods are new, or which share of them; nil for a pause.
	Size *intstr.IntOrString
	// Pause is how long to wait; zero until somebody resumes.
	Pause time.Duration
}

// ParseSteps reads "1, 25%, pause 10m, 50%": sizes and pauses in the order in which they are gone through. All pods are
// new after the last. Sizes of one form must grow.
func ParseSteps(text string) ([]CanaryStep, error) {
	var steps []CanaryStep
	last := map[intstr.Type]int{}
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		words := strings.Fields(part)
		if part == "" {
			return nil, fmt.Errorf("a step is missing between two commas: write steps such as %q", "1, 25%, pause 10m, 50%")
		}
		if words[0] == "pause" {
			step := CanaryStep{}
			if len(words) > 2 {
				return nil, fmt.Errorf("step %q: write pause, or pause and one duration such as 10m", part)
			}
			if len(words) == 2 {
				d, err := time.ParseDuration(words[1])
				if err != nil || d <= 0 {
					return nil, fmt.Errorf("step %q: %q is no duration such as 30s, 10m or 1h", part, words[1])
				}
				step.Pause = d
			}
			steps = append(steps, step)
			continue
		}
		digits, percent := strings.CutSuffix(part, "%")
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || (percent && n > 100) || digits[0] == '+' {
			return nil, fmt.Errorf("step %q: must be a number of pods, a percentage such as 25%%, or pause", part)
		}
		size := intstr.FromInt32(int32(min(n, 1<<30)))
		if percent {
			size = intstr.FromString(part)
		}
		if n <= last[size.Type] {
			return nil, fmt.Errorf("step %q: must be more than the step before it", part)
		}
		last[size.Type] = n
		steps = append(steps, CanaryStep{Size: &size})
	}
	return steps, nil
}

// ParseDependsOn reads "Deployment/db, Job/migrate": objects of the same namespace, in order, each once.
func ParseDependsOn(text, namespace string) ([]ObjectID, error) {
	var ids []ObjectID
	seen := map[ObjectID]bool{}
	for _, part := range strings.Split(text, ",") {
		kind, name, ok := strings.Cut(strings.TrimSpace(part), "/")
		if !ok || kind == "" || name == "" || strings.ContainsAny(name, "/ ") {
			return nil, fmt.Errorf("%q: write Kind/name, such as Deployment/db", strings.TrimSpace(part))
		}
		switch kind {
		case KindDeployment, KindStatefulSet, KindDaemonSet, KindReplicaSet, KindJob, KindPod:
		default:
			return nil, fmt.Errorf("%q: a %s is never ready or complete: name a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or Pod", strings.TrimSpace(part), kind)
		}
		id := ObjectID{Kind: kind, Namespace: namespace, Name: name}
		if seen[id] {
			return nil, fmt.Errorf("%q is named twice", strings.TrimSpace(part))
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids, nil
}
