package podman

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/podman/v4/pkg/bindings/images"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/runtime/host"
)

// Pull makes sure of an image.
func (m *Machine) Pull(ctx context.Context, image string, policy corev1.PullPolicy) error {
	ctx, err := m.connect(ctx)
	if err != nil {
		return err
	}
	name, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("image %q is no valid reference: %w", image, err)
	}
	if policy != corev1.PullAlways {
		there, err := images.Exists(ctx, image, nil)
		if err != nil {
			return fmt.Errorf("look for image %s: %w", image, kind(ctx, err))
		}
		if there {
			return nil
		}
		if policy == corev1.PullNever {
			return fmt.Errorf("image %s: %w on this node, and its pull policy is Never", image, host.ErrNotFound)
		}
	}
	// A name without a registry means Docker's, as everywhere in Kubernetes; Podman would ask the user.
	options := new(images.PullOptions).WithQuiet(true).WithPolicy("always")
	_, err = images.Pull(ctx, reference.TagNameOnly(name).String(), options)
	if err == nil {
		err = ctx.Err() // the bindings take an end of the caller for an end of the answer
	}
	if err != nil {
		return fmt.Errorf("pull image %s: %w", image, pullError(ctx, err))
	}
	return nil
}

// pullError keeps the last of what Podman says: it repeats itself for every layer of its own code.
func pullError(ctx context.Context, err error) error {
	if strings.TrimSpace(err.Error()) == io.ErrUnexpectedEOF.Error() { // the bindings have made a text of it
		err = io.ErrUnexpectedEOF
	}
	err = kind(ctx, err)
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	if len(lines) > 1 {
		return fmt.Errorf("%s", strings.TrimSpace(lines[len(lines)-1]))
	}
	return err
}
