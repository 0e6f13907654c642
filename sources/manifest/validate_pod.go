package manifest

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podSpec checks a pod spec with its defaults filled in. Claims are volumes that the pod gets beside its own.
func (c *checker) podSpec(s *corev1.PodSpec, p *field.Path, claims ...string) {
	oneOf(c, p.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	c.dns(s, p)
	notNegative(c, p.Child("terminationGracePeriodSeconds"), s.TerminationGracePeriodSeconds)
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		c.bad(p.Child("activeDeadlineSeconds"), "must be between 1 and %d", math.MaxInt32)
	}
	if s.Hostname != "" {
		c.all(p.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))
	}
	if s.Subdomain != "" {
		c.all(p.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))
	}
	if s.ServiceAccountName != "" {
		c.all(p.Child("serviceAccountName"), s.ServiceAccountName, validation.IsDNS1123Subdomain(s.ServiceAccountName))
	}
	c.placing(s, p)
	c.hostAliases(s.HostAliases, p.Child("hostAliases"))
	c.pullSecrets(s.ImagePullSecrets, p.Child("imagePullSecrets"))
	for i, gate := range s.ReadinessGates {
		c.all(p.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType), validation.IsQualifiedName(string(gate.ConditionType)))
	}
	if len(s.EphemeralContainers) > 0 {
		c.bad(p.Child("ephemeralContainers"), "is not allowed here: ephemeral containers are added to pods that run")
	}
	c.podSecurity(s, p)
	volumes := c.volumes(s.Volumes, p.Child("volumes"))
	for _, claim := range claims {
		volumes[claim] = true
	}
	c.containers(s, p, volumes)
	c.resourcesOf(s, p)
}

// pullSecrets checks the names of Secrets for registries. One without a name is passed over, as in Kubernetes:
// charts write it where nothing was configured.
func (c *checker) pullSecrets(list []corev1.LocalObjectReference, p *field.Path) {
	for i, secret := range list {
		if secret.Name == "" {
			c.warn(p.Index(i), "has no effect: it names no Secret")
			continue
		}
		c.objectName(secret.Name, p.Index(i).Child("name"))
	}
}

func (c *checker) podSecurity(s *corev1.PodSpec, p *field.Path) {
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		c.bad(p.Child("shareProcessNamespace"), "is not allowed together with hostPID")
	}
	sc := s.SecurityContext
	p = p.Child("securityContext")
	c.userID(p.Child("runAsUser"), sc.RunAsUser)
	c.groupID(p.Child("runAsGroup"), sc.RunAsGroup)
	c.groupID(p.Child("fsGroup"), sc.FSGroup)
	for i := range sc.SupplementalGroups {
		c.groupID(p.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])
	}
	if policy := sc.SupplementalGroupsPolicy; policy != nil {
		oneOf(c, p.Child("supplementalGroupsPolicy"), *policy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if policy := sc.FSGroupChangePolicy; policy != nil {
		oneOf(c, p.Child("fsGroupChangePolicy"), *policy, corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)
	}
	c.seccomp(sc.SeccompProfile, p.Child("seccompProfile"))
	c.sysctls(s, p.Child("sysctls"))
}

func (c *checker) userID(p *field.Path, id *int64) {
	if id != nil {
		c.all(p, fmt.Sprint(*id), validation.IsValidUserID(*id))
	}
}

func (c *checker) groupID(p *field.Path, id *int64) {
	if id != nil {
		c.all(p, fmt.Sprint(*id), validation.IsValidGroupID(*id))
	}
}

func (c *checker) seccomp(s *corev1.SeccompProfile, p *field.Path) {
	if s == nil {
		return
	}
	oneOf(c, p.Child("type"), s.Type, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	if local := s.Type == corev1.SeccompProfileTypeLocalhost; local && (s.LocalhostProfile == nil || *s.LocalhostProfile == "") {
		c.bad(p.Child("localhostProfile"), "is required for the type Localhost")
	} else if !local && s.LocalhostProfile != nil {
		c.bad(p.Child("localhostProfile"), "is only allowed for the type Localhost")
	} else if local {
		c.localPath(*s.LocalhostProfile, p.Child("localhostProfile"))
	}
}
