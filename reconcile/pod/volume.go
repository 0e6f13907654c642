package pod

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
)

// Written reports whether the agent writes that volume's files, and whether they are secret and so must
// lie in memory only.
func Written(v *corev1.Volume) (written, secret bool) {
	if v.Projected != nil {
		for i := range v.Projected.Sources {
			secret = secret || v.Projected.Sources[i].Secret != nil
		}
		return true, secret
	}
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil, v.Secret != nil
}

// Files are the wanted content of a written volume, in the order of their paths (semantics 2.7). The error
// says which object or key is missing.
func Files(spec *corev1.Pod, v *corev1.Volume, config Config, place Place) ([]fleet.File, error) {
	p := projection{spec: spec, config: config, place: place}
	switch {
	case v.ConfigMap != nil:
		p.mode(v.ConfigMap.DefaultMode)
		p.configMap(v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		p.mode(v.Secret.DefaultMode)
		p.secret(v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		p.mode(v.DownwardAPI.DefaultMode)
		p.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		p.mode(v.Projected.DefaultMode)
		for i := range v.Projected.Sources {
			switch s := &v.Projected.Sources[i]; {
			case s.ConfigMap != nil:
				p.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
			case s.Secret != nil:
				p.secret(s.Secret.Name, s.Secret.Items, s.Secret.Optional)
			case s.DownwardAPI != nil:
				p.downward(s.DownwardAPI.Items)
			}
		}
	default:
		return nil, fmt.Errorf("volume %s is not one the agent writes", v.Name)
	}
	return p.result()
}

// projection gathers the files of one volume. Where two sources have the same path, the later one wins.
type projection struct {
	spec     *corev1.Pod
	config   Config
	place    Place
	fallback int32
	files    map[string]fleet.File
	faults   []error
}

func (p *projection) mode(m *int32) {
	p.fallback = 0o644
	if m != nil {
		p.fallback = *m
	}
}

func (p *projection) fault(err error) {
	if err != nil {
		p.faults = append(p.faults, err)
	}
}

func (p *projection) add(path string, data []byte, mode *int32) {
	if p.files == nil {
		p.files = map[string]fleet.File{}
	}
	f := fleet.File{Path: path, Data: data, Mode: p.fallback}
	if mode != nil {
		f.Mode = *mode
	}
	p.files[path] = f
}

func (p *projection) result() ([]fleet.File, error) {
	files := slices.SortedFunc(maps.Values(p.files), func(a, b fleet.File) int { return cmp.Compare(a.Path, b.Path) })
	return files, errors.Join(p.faults...)
}

func (p *projection) configMap(name string, items []corev1.KeyToPath, optional *bool) {
	m, ok := p.config.ConfigMap(p.spec.Namespace, name)
	if !ok {
		p.fault(missing(optional, fleet.KindConfigMap, p.spec.Namespace, name))
		return
	}
	data := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
	for key, value := range m.Data {
		data[key] = []byte(value)
	}
	maps.Copy(data, m.BinaryData)
	p.keys(data, items, optional, fleet.KindConfigMap, name)
}

func (p *projection) secret(name string, items []corev1.KeyToPath, optional *bool) {
	s, ok := p.config.Secret(p.spec.Namespace, name)
	if !ok {
		p.fault(missing(optional, fleet.KindSecret, p.spec.Namespace, name))
		return
	}
	p.keys(s.Data, items, optional, fleet.KindSecret, name)
}

// keys adds all keys of an object, or those that items name.
func (p *projection) keys(data map[string][]byte, items []corev1.KeyToPath, optional *bool, kind, name string) {
	if len(items) == 0 {
		for key, value := range data {
			p.add(key, value, nil)
		}
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			p.fault(missingKey(optional, kind, p.spec.Namespace, name, item.Key))
			continue
		}
		p.add(item.Path, value, item.Mode)
	}
}

func (p *projection) downward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		item := &items[i]
		value, err := p.item(item)
		if err != nil {
			p.fault(err)
			continue
		}
		p.add(item.Path, []byte(value), item.Mode)
	}
}

func (p *projection) item(item *corev1.DownwardAPIVolumeFile) (string, error) {
	switch {
	case item.FieldRef != nil && item.FieldRef.FieldPath == "metadata.labels":
		return lines(p.spec.Labels), nil
	case item.FieldRef != nil && item.FieldRef.FieldPath == "metadata.annotations":
		return lines(p.spec.Annotations), nil
	case item.FieldRef != nil:
		return Field(p.spec, item.FieldRef.FieldPath, p.place)
	case item.ResourceFieldRef != nil:
		return resourceField(p.spec, nil, item.ResourceFieldRef, p.place)
	default:
		return "", fmt.Errorf("%s names neither a field nor a resource", item.Path)
	}
}

// lines are labels or annotations as the kubelet writes them into a file: key="value", sorted.
func lines(m map[string]string) string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key + "=" + strconv.Quote(m[key]))
	}
	return b.String()
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

// volumesWanted are the content hashes of the pod's written volumes, and what keeps its volumes from being
// made ready.
func (n *next) volumesWanted() (fleet.Volumes, error) {
	want := fleet.Volumes{}
	var faults []error
	for i := range n.Spec.Spec.Volumes {
		v := &n.Spec.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil {
			if !n.claimed(v.PersistentVolumeClaim.ClaimName) {
				faults = append(faults, fmt.Errorf("volume %s: %w", v.Name,
					missing(nil, fleet.KindPersistentVolumeClaim, n.Spec.Namespace, v.PersistentVolumeClaim.ClaimName)))
			}
			continue
		}
		if written, _ := Written(v); !written {
			continue
		}
		files, err := Files(n.Spec, v, n.Config, n.Place)
		if err != nil {
			faults = append(faults, fmt.Errorf("volume %s: %w", v.Name, err))
			continue
		}
		want[v.Name] = ContentHash(files)
	}
	return want, errors.Join(faults...)
}

// claimed reports whether a claim can be had: it is desired, or its file went while the volume is still there.
func (n *next) claimed(name string) bool {
	if _, ok := n.Config.Claim(n.Spec.Namespace, name); ok {
		return true
	}
	id := fleet.ClaimID{Namespace: n.Spec.Namespace, Name: name}
	return slices.ContainsFunc(n.Claims, func(c fleet.ObservedClaim) bool { return c.Claim == id })
}
