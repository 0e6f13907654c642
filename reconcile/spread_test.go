package reconcile

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestRolloutSpreads: the pods of a new version are spread for themselves. Those of the old one say nothing about where the new
// ones will be once it is gone.
func TestRolloutSpreads(t *testing.T) {
	for replicas, want := range map[int32]string{
		4: "alpha×1 beta×1 delta×1 gamma×1", 8: "alpha×2 beta×2 delta×2 gamma×2",
	} {
		version := func(value string) func(*corev1.PodSpec) {
			return func(s *corev1.PodSpec) { s.Containers[0].Env = []corev1.EnvVar{{Name: "VERSION", Value: value}} }
		}
		c := newCrowd(t, 4, webLike(replicas, version("1"))).settle()
		c.wantSpread(webID, want)
		// All that is old is on two nodes when the new one comes, as after the loss of the others.
		c.lose("alpha").lose("gamma").after(time.Minute)
		c.regain("alpha").regain("gamma").settle()
		c.push(webLike(replicas, version("2"))).settle()
		c.wantSpread(webID, want)
	}
}
