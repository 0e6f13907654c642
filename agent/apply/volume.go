package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/reconcile/pod"
	"github.com/skerry-dev/skerry/runtime/host"
)

// volumes makes the pod's volumes ready. What is as it should be is left as it is. In a pod that runs only what is written
// is written anew: the others are its containers' by now, and whose files are in them is no longer for fsGroup to say.
func (r *run) volumes(ctx context.Context) error {
	runs := !slices.ContainsFunc(r.Chain.Steps, func(s fleet.Step) bool { return s.Verb == fleet.Sandbox })
	for i := range r.Pod.Spec.Volumes {
		v := &r.Pod.Spec.Volumes[i]
		if written, _ := pod.Written(v); runs && !written && r.Seen.Volumes[r.Chain.UID] != nil {
			continue
		}
		if err := r.volume(ctx, v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

func (r *run) volume(ctx context.Context, v *corev1.Volume) error {
	uid := r.Chain.UID
	switch written, secret := pod.Written(v); {
	case written:
		files, err := pod.Files(r.Pod, v, r.config(), r.place())
		if err != nil {
			return err
		}
		return r.Volumes.Write(uid, v.Name, host.Written{
			Secret: secret, Files: files, Content: pod.ContentHash(files), Group: r.fsGroup(),
		})
	case v.EmptyDir != nil:
		var limit int64
		if v.EmptyDir.SizeLimit != nil {
			limit = v.EmptyDir.SizeLimit.Value()
		}
		if err := r.Volumes.Scratch(uid, v.Name, inMemory(v), limit); err != nil {
			return err
		}
		return r.own(r.Volumes.Path(uid, v.Name, inMemory(v)))
	case v.HostPath != nil:
		kind := corev1.HostPathUnset
		if v.HostPath.Type != nil {
			kind = *v.HostPath.Type
		}
		return r.Volumes.HostPath(v.HostPath.Path, kind)
	case v.PersistentVolumeClaim != nil:
		path, err := r.claim(ctx, v)
		if err != nil || v.PersistentVolumeClaim.ReadOnly {
			return err
		}
		return r.own(path)
	default:
		return errors.New("not a kind of volume that Skerry runs")
	}
}

func (r *run) fsGroup() *int64 {
	if x := r.Pod.Spec.SecurityContext; x != nil {
		return x.FSGroup
	}
	return nil
}

// own gives a volume to the pod's fsGroup, if it has one.
func (r *run) own(path string) error {
	group := r.fsGroup()
	if group == nil {
		return nil
	}
	policy := r.Pod.Spec.SecurityContext.FSGroupChangePolicy
	return r.Volumes.Own(path, *group, policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch)
}

// claim makes sure of a claim's volume and returns where it lies.
func (r *run) claim(ctx context.Context, v *corev1.Volume) (path string, err error) {
	id := fleet.ClaimID{Namespace: r.Slot.Pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
	c := host.Claim{Name: fleet.PodmanClaim(id), Labels: map[string]string{fleet.LabelClaim: id.String()}}
	if claim, there := r.config().Claim(id.Namespace, id.Name); there {
		at, _ := r.Desired.Find(id.Object())
		size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		c.Labels[fleet.LabelSource], c.Labels[fleet.LabelClaimSize] = string(at.Source), size.String()
	}
	return r.Host.CreateClaim(ctx, c)
}

func inMemory(v *corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
}

// mounts are what a container sees of the volumes, and the file for its last words.
func (r *run) mounts(ctx context.Context, c *corev1.Container, s fleet.Step, env map[string]string) ([]host.Mount, error) {
	var mounts []host.Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		at := slices.IndexFunc(r.Pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			continue // validation has refused it
		}
		v := &r.Pod.Spec.Volumes[at]
		source, err := r.source(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		below, err := pod.SubPath(m, env)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if below != "" {
			if source, err = r.Volumes.SubPath(r.Chain.UID, c.Name+"-"+strconv.Itoa(i), source, below); err != nil {
				return nil, fmt.Errorf("%w: volume %s: %w", ErrConfig, v.Name, err)
			}
		}
		written, _ := pod.Written(v)
		mount := host.Mount{
			Source: source, Target: m.MountPath,
			ReadOnly: m.ReadOnly || written || (v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly),
		}
		if m.MountPropagation != nil {
			mount.Propagation = *m.MountPropagation
		}
		mounts = append(mounts, mount)
	}
	// Two at a time are kept, as of the containers: the last and the one before.
	message, err := r.Volumes.Message(r.Chain.UID, c.Name+"-"+strconv.Itoa(s.Attempt%2))
	if err != nil {
		return nil, err
	}
	return append(mounts, host.Mount{Source: message, Target: messagePath(c)}), nil
}

func messagePath(c *corev1.Container) string {
	return cmp.Or(c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
}

// source is where a volume lies on the machine.
func (r *run) source(ctx context.Context, v *corev1.Volume) (string, error) {
	switch {
	case v.HostPath != nil:
		return v.HostPath.Path, nil
	case v.PersistentVolumeClaim != nil:
		return r.claim(ctx, v)
	}
	_, secret := pod.Written(v)
	return r.Volumes.Path(r.Chain.UID, v.Name, secret || inMemory(v)), nil
}
