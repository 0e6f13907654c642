package fleet

import "strings"

// ImageName is an image's whole name, as registries and Podman know it: a name without a registry is of docker.io, one without a
// tag or digest is the latest.
func ImageName(image string) string {
	registry, rest, found := strings.Cut(image, "/")
	switch {
	case !found:
		image = "docker.io/library/" + image
	case !strings.ContainsAny(registry, ".:") && registry != "localhost":
		image = "docker.io/" + image
	case registry == "docker.io" && !strings.Contains(rest, "/"):
		image = "docker.io/library/" + rest
	}
	if !strings.ContainsAny(image[strings.LastIndexByte(image, '/')+1:], ":@") {
		image += ":latest"
	}
	return image
}
