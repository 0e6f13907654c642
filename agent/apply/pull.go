package apply

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Pulls says how far transfers of images are. The zero value is ready to use, by any number of goroutines.
type Pulls struct {
	mu  sync.Mutex
	all map[string]Pulling // by pod UID and container
}

// Pulling is an image on its way.
type Pulling struct {
	Pod         fleet.PodID
	Container   string
	Image       string
	Done, Total int64 // bytes; Total is 0 until anything is known
}

// List are the transfers under way, in the order of their pods.
func (p *Pulls) List() []Pulling {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Pulling
	for _, one := range p.all {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Pulling) int {
		if c := a.Pod.Compare(b.Pod); c != 0 {
			return c
		}
		return strings.Compare(a.Container, b.Container)
	})
	return list
}

func (p *Pulls) set(key string, one Pulling) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[string]Pulling{}
	}
	p.all[key] = one
}

func (p *Pulls) end(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, key)
}

// successorSilence is how long a pod that is to go waits for its successor's image without anything of it coming: a
// registry that does not answer holds up nobody's end.
const successorSilence = 5 * time.Minute

// patience is a context that ends when nothing was heard for too long, for a pod that is to go; every other pod has all
// the time there is.
func patience(ctx context.Context, goal fleet.Goal) (_ context.Context, heard, stop func()) {
	if goal != fleet.Drain {
		return ctx, func() {}, func() {}
	}
	bounded, cancel := context.WithCancel(ctx)
	silence := time.AfterFunc(successorSilence, cancel)
	return bounded, func() { silence.Reset(successorSilence) }, func() { silence.Stop(); cancel() }
}

// pull has an image, with the secrets that the pod says go with it.
func (r *run) pull(ctx context.Context, s fleet.Step) error {
	ctx, heard, stop := patience(ctx, r.Chain.Goal)
	defer stop()
	logins, missing := r.logins(s.Image)
	key := r.Chain.UID + "/" + s.Container
	defer r.Pulls.end(key)
	err := r.Host.Pull(ctx, host.Pull{
		Image: s.Image, Policy: s.Policy, Logins: logins,
		Progress: func(done, total int64) {
			heard()
			r.Pulls.set(key, Pulling{Pod: s.Pod, Container: s.Container, Image: s.Image, Done: done, Total: total})
		},
	})
	if err != nil && len(missing) > 0 {
		return fmt.Errorf("%w (imagePullSecrets that are not there: %s)", err, strings.Join(missing, ", "))
	}
	return err
}

// logins are those that the pod's pull secrets have for an image's registry, those of the longest path first; and the
// names of secrets that are not there or hold none. A pod that names no secret has those of its service account.
func (r *run) logins(image string) (logins []host.Login, missing []string) {
	if r.Pod == nil {
		return nil, nil
	}
	refs := r.Pod.Spec.ImagePullSecrets
	if len(refs) == 0 {
		name := r.Pod.Spec.ServiceAccountName
		if name == "" {
			name = "default"
		}
		if account, ok := r.config().ServiceAccount(r.Slot.Pod.Namespace, name); ok {
			refs = account.ImagePullSecrets
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, nil // pulling says so
	}
	var found []entry
	for _, ref := range refs {
		secret, ok := r.config().Secret(r.Slot.Pod.Namespace, ref.Name)
		entries := entriesOf(secret)
		if !ok || len(entries) == 0 {
			missing = append(missing, ref.Name)
		}
		found = append(found, entries...)
	}
	slices.SortStableFunc(found, func(a, b entry) int { return strings.Compare(b.registry, a.registry) }) // as the kubelet does
	for _, e := range found {
		if e.fits(reference.Domain(named), named.Name()) {
			logins = append(logins, e.login)
		}
	}
	return logins, missing
}

// entry is one line of a docker configuration.
type entry struct {
	registry string // host, perhaps with a port and a path
	login    host.Login
}

// entriesOf reads both forms of pull secrets. What makes no sense is passed over.
func entriesOf(s *corev1.Secret) []entry {
	if s == nil {
		return nil
	}
	type auth struct{ Username, Password, Auth, IdentityToken string }
	var auths map[string]auth
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var config struct{ Auths map[string]auth }
		if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config) != nil {
			return nil
		}
		auths = config.Auths
	case corev1.SecretTypeDockercfg:
		if json.Unmarshal(s.Data[corev1.DockerConfigKey], &auths) != nil {
			return nil
		}
	}
	var list []entry
	for registry, a := range auths {
		login := host.Login{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
		if pair, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.Auth, "=")); err == nil && a.Auth != "" {
			login.Username, login.Password, _ = strings.Cut(string(pair), ":")
		}
		list = append(list, entry{registryOf(registry), login})
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.registry, b.registry) })
	return list
}

// registryOf is a key of a docker configuration without what is not part of a registry's name.
func registryOf(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	if name, rest, _ := strings.Cut(key, "/"); name == "index.docker.io" || name == "registry-1.docker.io" {
		key = strings.TrimSuffix("docker.io/"+rest, "/")
	}
	for _, version := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, version)
	}
	return key
}

// fits reports whether an entry is for an image: its host is the same, or matches with a * for parts of it, and the
// image lies below its path.
func (e entry) fits(domain, name string) bool {
	pattern, below, _ := strings.Cut(e.registry, "/")
	if strings.Count(pattern, ".") != strings.Count(domain, ".") {
		return false
	}
	if same, err := path.Match(pattern, domain); err != nil || !same {
		return false
	}
	rest := strings.TrimPrefix(name, domain+"/")
	return below == "" || rest == below || strings.HasPrefix(rest, strings.TrimSuffix(below, "/")+"/")
}
