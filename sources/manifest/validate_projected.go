package manifest

import (
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumeFacts are the fields of a pod that a volume may have.
var volumeFacts = []string{"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"}

// projected checks a volume of several sources, whose files must not be in each other's way.
func (c *checker) projected(o *corev1.ProjectedVolumeSource, p *field.Path) {
	c.mode(o.DefaultMode, p.Child("defaultMode"))
	files := map[string]bool{}
	for i := range o.Sources {
		s := &o.Sources[i]
		at := p.Child("sources").Index(i)
		switch names := sources(s); {
		case len(names) == 0:
			c.bad(at, "has no source: give one of configMap, secret, downwardAPI")
		case len(names) > 1:
			c.bad(at, "has more than one source: give only one")
		}
		if s.ConfigMap != nil {
			c.objectName(s.ConfigMap.Name, at.Child("configMap", "name"))
			c.items(s.ConfigMap.Items, at.Child("configMap", "items"))
			c.once(files, s.ConfigMap.Items, at.Child("configMap", "items"))
		}
		if s.Secret != nil {
			c.objectName(s.Secret.Name, at.Child("secret", "name"))
			c.items(s.Secret.Items, at.Child("secret", "items"))
			c.once(files, s.Secret.Items, at.Child("secret", "items"))
		}
		if s.DownwardAPI != nil {
			c.downward(s.DownwardAPI.Items, at.Child("downwardAPI", "items"), files)
		}
	}
}

// once reports files that are there already.
func (c *checker) once(files map[string]bool, items []corev1.KeyToPath, p *field.Path) {
	for i := range items {
		c.file(files, items[i].Path, p.Index(i).Child("path"))
	}
}

func (c *checker) file(files map[string]bool, name string, p *field.Path) {
	if name == "" || files == nil {
		return
	}
	if name = path.Clean(name); files[name] {
		c.bad(p, "%q stands twice in this volume: each file needs a path of its own", name)
	}
	files[name] = true
}

// downward checks files with what a pod is. In files are those that are there already; nil where it does not
// matter.
func (c *checker) downward(items []corev1.DownwardAPIVolumeFile, p *field.Path, files map[string]bool) {
	for i := range items {
		item, at := &items[i], p.Index(i)
		c.filePath(item.Path, at.Child("path"))
		c.file(files, item.Path, at.Child("path"))
		c.mode(item.Mode, at.Child("mode"))
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			c.bad(at, "has two sources: give either fieldRef or resourceFieldRef")
		case item.FieldRef == nil && item.ResourceFieldRef == nil:
			c.bad(at, "has no source: give fieldRef or resourceFieldRef")
		}
		if item.FieldRef != nil {
			c.fieldRef(item.FieldRef, at.Child("fieldRef"), volumeFacts)
		}
		if ref := item.ResourceFieldRef; ref != nil {
			if ref.ContainerName == "" {
				c.bad(at.Child("resourceFieldRef", "containerName"), "is required in a volume")
			}
			c.resourceRef(ref, at.Child("resourceFieldRef"))
		}
	}
}

// resourcesOf warns of containers whose resources are asked for and that are not in the pod.
func (c *checker) resourcesOf(s *corev1.PodSpec, p *field.Path) {
	all := slices.Concat(s.InitContainers, s.Containers)
	look := func(ref *corev1.ResourceFieldSelector, p *field.Path) {
		if ref == nil || ref.ContainerName == "" || slices.ContainsFunc(all, func(o corev1.Container) bool { return o.Name == ref.ContainerName }) {
			return
		}
		c.warn(p.Child("resourceFieldRef", "containerName"), fmt.Sprintf("there is no container %q in this pod: it can never start", ref.ContainerName))
	}
	files := func(items []corev1.DownwardAPIVolumeFile, p *field.Path) {
		for i := range items {
			look(items[i].ResourceFieldRef, p.Child("items").Index(i))
		}
	}
	for i := range s.Volumes {
		at := p.Child("volumes").Index(i)
		if d := s.Volumes[i].DownwardAPI; d != nil {
			files(d.Items, at.Child("downwardAPI"))
		}
		if v := s.Volumes[i].Projected; v != nil {
			for j := range v.Sources {
				if d := v.Sources[j].DownwardAPI; d != nil {
					files(d.Items, at.Child("projected", "sources").Index(j).Child("downwardAPI"))
				}
			}
		}
	}
	for i := range all {
		at := p.Child("initContainers").Index(i)
		if n := len(s.InitContainers); i >= n {
			at = p.Child("containers").Index(i - n)
		}
		for j := range all[i].Env {
			if from := all[i].Env[j].ValueFrom; from != nil {
				look(from.ResourceFieldRef, at.Child("env").Index(j).Child("valueFrom"))
			}
		}
	}
}
