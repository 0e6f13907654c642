package workload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// judgeFailure says what a failed pod means, and why where it ends the Job: the first rule that matches decides, and without
// one the failure counts.
func judgeFailure(policy *batchv1.PodFailurePolicy, m Member) (batchv1.PodFailurePolicyAction, string) {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i, rule := range policy.Rules {
		if rule.OnExitCodes != nil {
			if c := exitMatches(rule.OnExitCodes, &m.Report.Status); c != nil {
				return rule.Action, fmt.Sprintf("Container %s for pod %s failed with exit code %d matching %s rule at index %d",
					c.Name, m.Slot.Pod, c.State.Terminated.ExitCode, rule.Action, i)
			}
			continue
		}
		for _, pattern := range rule.OnPodConditions {
			if c := m.Report.Condition(pattern.Type); c != nil && c.Status == pattern.Status {
				return rule.Action, fmt.Sprintf("Pod %s has condition %s matching %s rule at index %d", m.Slot.Pod, c.Type, rule.Action, i)
			}
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// exitMatches is the first container whose exit code a rule speaks of; nil for none. Zero never matches.
func exitMatches(rule *batchv1.PodFailurePolicyOnExitCodesRequirement, status *corev1.PodStatus) *corev1.ContainerStatus {
	for _, c := range slices.Concat(status.ContainerStatuses, status.InitContainerStatuses) {
		if (rule.ContainerName != nil && *rule.ContainerName != c.Name) || c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 {
			continue
		}
		in := slices.Contains(rule.Values, c.State.Terminated.ExitCode)
		if in == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return &c
		}
	}
	return nil
}

// successRule is the index of the first rule of a success policy that is met.
func successRule(s *batchv1.JobSpec, done []int32) (string, bool) {
	if s.SuccessPolicy == nil {
		return "", false
	}
	for i, rule := range s.SuccessPolicy.Rules {
		among := done
		required := int32(0)
		if rule.SucceededIndexes != nil {
			wanted := ParseIndexes(*rule.SucceededIndexes)
			among = slices.DeleteFunc(slices.Clone(done), func(n int32) bool { return !slices.Contains(wanted, n) })
			required = int32(len(wanted))
		}
		if rule.SucceededCount != nil {
			required = *rule.SucceededCount
		}
		if int32(len(among)) >= required {
			return strconv.Itoa(i), true
		}
	}
	return "", false
}

// FormatIndexes writes sorted indexes as a Job's status has them: "1,3-5,7".
func FormatIndexes(list []int32) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch {
		case j == i:
			parts = append(parts, strconv.Itoa(int(list[i])))
		case j == i+1: // Kubernetes writes two neighbours apart
			parts = append(parts, strconv.Itoa(int(list[i])), strconv.Itoa(int(list[j])))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ParseIndexes reads what FormatIndexes writes. What makes no sense is left out: validation has refused it.
func ParseIndexes(text string) []int32 {
	var list []int32
	for _, part := range strings.Split(text, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.ParseInt(from, 10, 32)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.ParseInt(to, 10, 32); err != nil {
				continue
			}
		}
		for n := first; n <= last; n++ {
			list = append(list, int32(n))
		}
	}
	return list
}
