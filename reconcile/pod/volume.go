package pod

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Written reports whether the agent writes that volume's files, and whether they are secret and so must
// lie in memory only.
func Written(v *corev1.Volume) (written, secret bool) {
	return v.ConfigMap != nil || v.Secret != nil, v.Secret != nil
}

// Files are the wanted content of a written volume, in the order of their paths (semantics 2.7). The error
// says which object or key is missing.
func Files(namespace string, v *corev1.Volume, config Config) ([]fleet.File, error) {
	switch {
	case v.ConfigMap != nil:
		src := v.ConfigMap
		m, ok := config.ConfigMap(namespace, src.Name)
		if !ok {
			return nil, missing(src.Optional, "ConfigMap", namespace, src.Name)
		}
		data := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
		for key, value := range m.Data {
			data[key] = []byte(value)
		}
		for key, value := range m.BinaryData {
			data[key] = value
		}
		return project(data, src.Items, src.DefaultMode, src.Optional, "ConfigMap", namespace, src.Name)
	case v.Secret != nil:
		src := v.Secret
		s, ok := config.Secret(namespace, src.SecretName)
		if !ok {
			return nil, missing(src.Optional, "Secret", namespace, src.SecretName)
		}
		return project(s.Data, src.Items, src.DefaultMode, src.Optional, "Secret", namespace, src.SecretName)
	default:
		return nil, fmt.Errorf("volume %s is not one the agent writes", v.Name)
	}
}

func project(data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool, kind, namespace, name string) ([]fleet.File, error) {
	fallback := int32(0o644)
	if mode != nil {
		fallback = *mode
	}
	var files []fleet.File
	var faults []error
	if len(items) == 0 {
		for key, value := range data {
			files = append(files, fleet.File{Path: key, Data: value, Mode: fallback})
		}
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			faults = append(faults, missingKey(optional, kind, namespace, name, item.Key))
			continue
		}
		file := fleet.File{Path: item.Path, Data: value, Mode: fallback}
		if item.Mode != nil {
			file.Mode = *item.Mode
		}
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b fleet.File) int { return cmp.Compare(a.Path, b.Path) })
	return files, errors.Join(faults...)
}

// ContentHash identifies a written volume's content: paths, modes and data.
func ContentHash(files []fleet.File) fleet.Hash {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %o %d\n", f.Path, f.Mode, len(f.Data))
		_, _ = h.Write(f.Data)
	}
	return fleet.Hash(hex.EncodeToString(h.Sum(nil)[:16]))
}

// volumesWanted are the content hashes of the pod's written volumes, and what keeps them from being
// written.
func volumesWanted(spec *corev1.Pod, config Config) (fleet.Volumes, error) {
	want := fleet.Volumes{}
	var faults []error
	for i := range spec.Spec.Volumes {
		v := &spec.Spec.Volumes[i]
		if written, _ := Written(v); !written {
			continue
		}
		files, err := Files(spec.Namespace, v, config)
		if err != nil {
			faults = append(faults, fmt.Errorf("volume %s: %w", v.Name, err))
			continue
		}
		want[v.Name] = ContentHash(files)
	}
	return want, errors.Join(faults...)
}
