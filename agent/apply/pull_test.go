package apply_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// registrar is a machine that notes what it is asked to pull, and has none of it.
type registrar struct {
	host.Host
	pulls []host.Pull
}

func (r *registrar) Pull(_ context.Context, p host.Pull) error {
	p.Progress = nil
	r.pulls = append(r.pulls, p)
	return errors.New("no route to the registry")
}

// pulled runs the pull of an image for a pod, and returns what the machine was asked for and what came of it.
func pulled(t *testing.T, image string, refs []string, objects ...fleet.Object) (host.Pull, error) {
	t.Helper()
	b, w := newBench(1), work()
	r := &registrar{Host: b.Host}
	b.runner.Host = r
	w.Desired = sorted(objects)
	for _, name := range refs {
		w.Pod.Spec.ImagePullSecrets = append(w.Pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Pull, Container: "web", Image: image, Policy: corev1.PullAlways})
	o := b.run(t.Context(), w)
	if len(r.pulls) != 1 || len(o.Steps) != 1 {
		t.Fatalf("the machine was asked for %+v; %v", r.pulls, text(o))
	}
	return r.pulls[0], o.Steps[0].Err
}

// sorted is what is desired, in the order that it has to have.
func sorted(objects []fleet.Object) fleet.Desired {
	return fleet.Desired{Objects: slices.SortedFunc(slices.Values(objects), func(a, b fleet.Object) int { return a.ID.Compare(b.ID) })}
}

func secretOf(name string, kind corev1.SecretType, key, data string) fleet.Object {
	return fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindSecret, Namespace: "shop", Name: name}, Value: &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Type: kind, Data: map[string][]byte{key: []byte(data)},
	}}
}

// config is a Secret with a docker configuration, whose users are named after what they are for.
func config(t *testing.T, name string, registries ...string) fleet.Object {
	t.Helper()
	auths := map[string]any{}
	for _, registry := range registries {
		auths[registry] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(registry + " of " + name + "?:secret:with:colons"))}
	}
	raw, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		t.Fatal(err)
	}
	return secretOf(name, corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, string(raw))
}

func account(name string, secrets ...string) fleet.Object {
	a := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	for _, s := range secrets {
		a.ImagePullSecrets = append(a.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return fleet.Object{ID: fleet.ObjectID{Kind: fleet.KindServiceAccount, Namespace: "shop", Name: name}, Value: a}
}

// A line of a docker configuration is for an image or it is not.
func TestLoginsFit(t *testing.T) {
	for _, c := range []struct {
		registry, image string
		fits            bool
	}{
		{"registry.example", "registry.example/app:1", true},
		{"registry.example", "registry.example/team/app@sha256:" + strings.Repeat("a", 64), true},
		{"registry.example", "registry.example:5000/app", false},
		{"registry.example", "other.example/app", false},
		{"registry.example", "a.registry.example/app", false},
		{"registry.example", "registry.example.evil.example/app", false},
		{"registry.example", "docker.io/registry.example/app", false},
		{"registry.example", "app", false},
		{"registry.example:5000", "registry.example:5000/app", true},
		{"registry.example:5000", "registry.example/app", false},
		{"registry.example:5000", "registry.example:5001/app", false},
		{"https://registry.example", "registry.example/app", true},
		{"https://registry.example/", "registry.example/app", true},
		{"http://registry.example", "registry.example/app", true},
		{"https://registry.example/v1/", "registry.example/app", true},
		{"https://registry.example/v2/", "registry.example/app", true},
		{"registry.example/team", "registry.example/team/app", true},
		{"registry.example/team/", "registry.example/team/app", true},
		{"registry.example/team/app", "registry.example/team/app:1", true},
		{"registry.example/team", "registry.example/other/app", false},
		{"registry.example/team", "registry.example/teammate/app", false},
		{"registry.example/team/app", "registry.example/team", false},
		{"*.example", "registry.example/app", true},
		{"*.example", "a.registry.example/app", false},
		{"*.registry.example", "a.registry.example/app", true},
		{"r*.example", "registry.example/app", true},
		{"*.example:5000", "registry.example:5000/app", true},
		{"*", "localhost/app", true},
		{"*", "registry.example/app", false},
		{"[", "registry.example/app", false},
		{"", "registry.example/app", false},
		// Docker's own registry has many names.
		{"https://index.docker.io/v1/", "app", true},
		{"https://index.docker.io/v1/", "docker.io/team/app", true},
		{"index.docker.io", "team/app:1", true},
		{"registry-1.docker.io", "app", true},
		{"docker.io", "library/app", true},
		{"docker.io/library", "app", true},
		{"docker.io/team", "app", false},
		{"docker.io", "registry.example/app", false},
	} {
		pull, err := pulled(t, c.image, []string{"mine"}, config(t, "mine", c.registry))
		if len(pull.Logins) > 0 != c.fits {
			t.Errorf("of %q for %s the logins are %+v", c.registry, c.image, pull.Logins)
		}
		if err == nil || strings.Contains(err.Error(), "imagePullSecrets") {
			t.Errorf("of %q for %s: %v", c.registry, c.image, err)
		}
	}
}

func users(p host.Pull) []string {
	var list []string
	for _, l := range p.Logins {
		list = append(list, l.Username)
	}
	return list
}

func TestLoginsInTurn(t *testing.T) {
	const image = "registry.example/team/app:1"
	for _, c := range []struct {
		name    string
		refs    []string
		objects []fleet.Object
		want    []string
	}{
		{"the longest path first, whatever the order", []string{"a"}, []fleet.Object{config(t, "a", "registry.example", "registry.example/team/app", "registry.example/team", "other.example")},
			[]string{"registry.example/team/app of a?", "registry.example/team of a?", "registry.example of a?"}},
		{"over all secrets", []string{"a", "b"}, []fleet.Object{config(t, "a", "registry.example"), config(t, "b", "registry.example/team")},
			[]string{"registry.example/team of b?", "registry.example of a?"}},
		{"of the same path in the order of the secrets", []string{"b", "a"}, []fleet.Object{config(t, "a", "registry.example"), config(t, "b", "registry.example")},
			[]string{"registry.example of b?", "registry.example of a?"}},
		{"of the account, when the pod names none", nil, []fleet.Object{config(t, "a", "registry.example"), config(t, "b", "registry.example"), account("default", "a")},
			[]string{"registry.example of a?"}},
		{"not of the account, when it does", []string{"b"}, []fleet.Object{config(t, "a", "registry.example"), config(t, "b", "registry.example"), account("default", "a")},
			[]string{"registry.example of b?"}},
		{"not of another account", nil, []fleet.Object{config(t, "a", "registry.example"), account("builder", "a")}, nil},
		{"none", nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			pull, _ := pulled(t, image, c.refs, c.objects...)
			if diff := cmp.Diff(c.want, users(pull)); diff != "" {
				t.Error(diff)
			}
			if pull.Image != image || pull.Policy != corev1.PullAlways {
				t.Errorf("the machine was asked for %+v", pull)
			}
		})
	}
	t.Run("of the account that the pod names", func(t *testing.T) {
		b, w := newBench(1), work()
		r := &registrar{Host: b.Host}
		b.runner.Host = r
		w.Desired = sorted([]fleet.Object{config(t, "a", "registry.example"), config(t, "b", "registry.example"), account("default", "a"), account("builder", "b")})
		w.Pod.Spec.ServiceAccountName = "builder"
		w.Chain.Steps = steps(fleet.Step{Verb: fleet.Pull, Container: "web", Image: image})
		b.run(t.Context(), w)
		if diff := cmp.Diff([]string{"registry.example of b?"}, users(r.pulls[0])); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFormsOfLogins(t *testing.T) {
	encode := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		name, entry string
		want        []host.Login
	}{
		{"both in one", `{"auth":"` + encode([]byte("me:pass:word")) + `"}`, []host.Login{{Username: "me", Password: "pass:word"}}},
		{"each apart", `{"username":"me","password":"word","email":"me@example"}`, []host.Login{{Username: "me", Password: "word"}}},
		{"both ways", `{"username":"you","password":"other","auth":"` + encode([]byte("me:word")) + `"}`, []host.Login{{Username: "me", Password: "word"}}},
		{"a token", `{"identitytoken":"token"}`, []host.Login{{IdentityToken: "token"}}},
		// As the kubelet takes it.
		{"without padding", `{"auth":"` + strings.TrimRight(encode([]byte("me:words")), "=") + `"}`, []host.Login{{Username: "me", Password: "words"}}},
	} {
		for kind, text := range map[corev1.SecretType]string{
			corev1.SecretTypeDockerConfigJson: `{"auths":{"registry.example":` + c.entry + `},"credsStore":"none"}`,
			corev1.SecretTypeDockercfg:        `{"registry.example":` + c.entry + `}`,
		} {
			t.Run(c.name+" "+string(kind), func(t *testing.T) {
				key := corev1.DockerConfigJsonKey
				if kind == corev1.SecretTypeDockercfg {
					key = corev1.DockerConfigKey
				}
				pull, err := pulled(t, "registry.example/app", []string{"mine"}, secretOf("mine", kind, key, text))
				if diff := cmp.Diff(c.want, pull.Logins); diff != "" {
					t.Error(diff)
				}
				if strings.Contains(err.Error(), "imagePullSecrets") {
					t.Error(err)
				}
			})
		}
	}
}

// A secret that cannot be used is no obstacle, and is named when the pull fails.
func TestLoginsThatAreNone(t *testing.T) {
	const good = `{"auths":{"registry.example":{"auth":"bWU6d29yZA=="}}}`
	for name, object := range map[string]fleet.Object{
		"another type":  secretOf("mine", corev1.SecretTypeOpaque, corev1.DockerConfigJsonKey, good),
		"another key":   secretOf("mine", corev1.SecretTypeDockerConfigJson, "config.json", good),
		"no JSON":       secretOf("mine", corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, "hunter2"),
		"nobody in it":  secretOf("mine", corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, `{"auths":{}}`),
		"not there":     secretOf("other", corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, good),
		"another space": {ID: fleet.ObjectID{Kind: fleet.KindSecret, Namespace: "other", Name: "mine"}, Value: config(t, "mine", "registry.example").Value},
	} {
		t.Run(name, func(t *testing.T) {
			pull, err := pulled(t, "registry.example/app", []string{"mine", "right"}, object, config(t, "right", "registry.example"))
			if diff := cmp.Diff([]string{"registry.example of right?"}, users(pull)); diff != "" {
				t.Error(diff)
			}
			if want := "no route to the registry (imagePullSecrets that are not there: mine)"; err.Error() != want {
				t.Errorf("it says %q, want %q", err, want)
			}
		})
	}
	// What is no name of an image has no logins, and it is for the machine to say so.
	if pull, _ := pulled(t, "Not an Image", []string{"right"}, config(t, "right", "registry.example")); len(pull.Logins) > 0 {
		t.Errorf("logins are %+v", pull.Logins)
	}
}

// How far pulls are is told while they last, to whoever asks.
func TestPulls(t *testing.T) {
	b, w := newBench(1), work()
	b.Publish("far:1", 0)
	release := b.Hold("far:1")
	w.Pod.Spec.Containers[0].Image = "far:1"
	w.Chain.Steps = steps(fleet.Step{Verb: fleet.Pull, Container: "web", Image: "far:1"})
	if list := b.runner.Pulls.List(); len(list) != 0 {
		t.Errorf("before: %+v", list)
	}
	told := make(chan struct{}, 16)
	b.runner.Host = &teller{Host: b.Host, told: told}
	b.runner.Go(t.Context(), w)
	<-told
	list := b.runner.Pulls.List()
	if len(list) != 1 || list[0].Pod != id || list[0].Container != "web" || list[0].Image != "far:1" || list[0].Total == 0 || list[0].Done > list[0].Total {
		t.Errorf("meanwhile: %+v", list)
	}
	release()
	if o := <-b.outcomes; o.Steps[0].Err != nil {
		t.Error(o.Steps[0].Err)
	}
	if list := b.runner.Pulls.List(); len(list) != 0 {
		t.Errorf("after: %+v", list)
	}
}

// teller says so when somebody was told how far a pull is.
type teller struct {
	host.Host
	told chan struct{}
}

func (h *teller) Pull(ctx context.Context, p host.Pull) error {
	next := p.Progress
	p.Progress = func(done, total int64) {
		next(done, total)
		select {
		case h.told <- struct{}{}:
		default:
		}
	}
	return h.Host.Pull(ctx, p)
}
