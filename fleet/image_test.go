package fleet

import "testing"

func TestImageName(t *testing.T) {
	for image, want := range map[string]string{
		"nginx":                           "docker.io/library/nginx:latest",
		"nginx:1":                         "docker.io/library/nginx:1",
		"docker.io/nginx":                 "docker.io/library/nginx:latest",
		"grafana/loki:3":                  "docker.io/grafana/loki:3",
		"localhost/app":                   "localhost/app:latest",
		"registry.example:5000/app":       "registry.example:5000/app:latest",
		"quay.io/a/b@sha256:0123":         "quay.io/a/b@sha256:0123",
		"registry.example:5000/a/b/c:1.2": "registry.example:5000/a/b/c:1.2",
	} {
		if got := ImageName(image); got != want || ImageName(got) != got {
			t.Errorf("%s: %s", image, got)
		}
	}
}
