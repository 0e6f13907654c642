package podsecurity

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

func droppedCapabilities(p *pod) {
	for _, c := range p.containers {
		if o := c.security.Capabilities; o == nil || !slices.Contains(o.Drop, "ALL") {
			p.refuse(c.at("capabilities", "drop"), "must have ALL in it")
		}
	}
	onlyCapabilities(p, []corev1.Capability{"NET_BIND_SERVICE"})
}

// volumeTypes lets those volumes pass that hold nothing but the pod's own data. A volume that names no source is
// an emptyDir.
func volumeTypes(p *pod) {
	for i := range p.template.Spec.Volumes {
		v := p.template.Spec.Volumes[i].VolumeSource
		harmless := v.ConfigMap != nil || v.CSI != nil || v.DownwardAPI != nil || v.EmptyDir != nil || v.Ephemeral != nil || v.Image != nil ||
			v.PersistentVolumeClaim != nil || v.Projected != nil || v.Secret != nil || v == (corev1.VolumeSource{})
		at := p.path.Child("volumes").Index(i)
		switch {
		case harmless:
		case v.HostPath != nil:
			p.refuse(at.Child("hostPath"), "must not be used")
		default:
			p.refuse(at, "must be one of configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected, secret")
		}
	}
}

func seccompIsSet(p *pod) {
	seccomp(p)
	if p.security().SeccompProfile != nil {
		return
	}
	for _, c := range p.containers {
		if c.security.SeccompProfile == nil {
			p.refuse(c.at("seccompProfile", "type"), profiles+", here or for the whole pod")
		}
	}
}

func escalation(p *pod) {
	for _, c := range p.containers {
		if !is(c.security.AllowPrivilegeEscalation, false) {
			p.refuse(c.at("allowPrivilegeEscalation"), "must be false")
		}
	}
}

func nonRoot(p *pod) {
	if p.inUserNamespace() {
		return
	}
	whole := p.security().RunAsNonRoot
	if is(whole, false) {
		p.refuse(p.at("runAsNonRoot"), "must be true")
	}
	for _, c := range p.containers {
		switch own := c.security.RunAsNonRoot; {
		case is(own, false):
			p.refuse(c.at("runAsNonRoot"), "must be true")
		case own == nil && whole == nil:
			p.refuse(c.at("runAsNonRoot"), "must be true, here or for the whole pod")
		}
	}
}

func userNotRoot(p *pod) {
	if p.inUserNamespace() {
		return
	}
	isRoot := func(user *int64) bool { return user != nil && *user == 0 }
	if isRoot(p.security().RunAsUser) {
		p.refuse(p.at("runAsUser"), "must not be 0")
	}
	for _, c := range p.containers {
		if isRoot(c.security.RunAsUser) {
			p.refuse(c.at("runAsUser"), "must not be 0")
		}
	}
}
