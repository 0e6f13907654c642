package pod

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// identity is who a container is asked to be: the container's settings over the pod's, field by field.
type identity struct {
	user, group *int64
	notRoot     bool
}

func identityOf(spec *corev1.Pod, c *corev1.Container) identity {
	var id identity
	take := func(user, group *int64, notRoot *bool) {
		if user != nil {
			id.user = user
		}
		if group != nil {
			id.group = group
		}
		if notRoot != nil {
			id.notRoot = *notRoot
		}
	}
	if x := spec.Spec.SecurityContext; x != nil {
		take(x.RunAsUser, x.RunAsGroup, x.RunAsNonRoot)
	}
	if x := c.SecurityContext; x != nil {
		take(x.RunAsUser, x.RunAsGroup, x.RunAsNonRoot)
	}
	return id
}

// NeedsImageUser reports whether User has to know whom the image runs as.
func NeedsImageUser(spec *corev1.Pod, c *corev1.Container) bool {
	id := identityOf(spec, c)
	return id.user == nil && (id.notRoot || id.group != nil)
}

// User is whom a container runs as, as Podman wants it: a user, perhaps with a group behind a colon; empty for
// whom the image says. The error is that of a container that must not be root and is, or may be (semantics 2.9).
func User(spec *corev1.Pod, c *corev1.Container, image string) (string, error) {
	id := identityOf(spec, c)
	user, _, _ := strings.Cut(image, ":")
	if id.user != nil {
		user = strconv.FormatInt(*id.user, 10)
	}
	if id.notRoot {
		number, err := strconv.ParseInt(cmp.Or(user, "0"), 10, 64)
		switch {
		case id.user != nil && *id.user == 0:
			return "", errors.New("container's runAsUser breaks non-root policy")
		case err != nil:
			return "", fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", user)
		case number == 0:
			return "", errors.New("container has runAsNonRoot and image will run as root")
		}
	}
	switch {
	case id.group != nil:
		return cmp.Or(user, "0") + ":" + strconv.FormatInt(*id.group, 10), nil
	case id.user != nil:
		return user, nil
	default:
		return "", nil
	}
}
