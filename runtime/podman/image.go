package podman

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/images"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// Pull makes sure of an image.
func (m *Machine) Pull(ctx context.Context, p host.Pull) error {
	name, err := reference.ParseNormalizedNamed(p.Image)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", host.ErrImageName, p.Image, err)
	}
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if p.Policy != corev1.PullAlways {
		there, err := images.Exists(conn, p.Image, nil)
		if err != nil {
			return fmt.Errorf("look for image %s: %w", p.Image, kind(ctx, err))
		}
		if there {
			return nil
		}
		if p.Policy == corev1.PullNever {
			return fmt.Errorf("%w: %s", host.ErrNeverPulled, p.Image)
		}
	}
	// A name without a registry means Docker's, as everywhere in Kubernetes; Podman would ask the user.
	full := reference.TagNameOnly(name).String()
	if p.Progress != nil { // that it is on its way is worth knowing before anything of it has come
		p.Progress(0, 0)
	}
	err = m.transfers.join(ctx, transferKey(full, p.Logins), p.Progress, func(ctx context.Context, progress func(done, total int64)) error {
		return pullAs(call{Context: ctx, conn: conn}, full, p.Logins, progress) //nolint:contextcheck // it is one that carries ctx
	})
	if err != nil {
		return fmt.Errorf("pull image %s: %w", p.Image, err)
	}
	return nil
}

// pullAs pulls as each of the logins, until the registry takes one.
func pullAs(ctx context.Context, image string, logins []host.Login, progress func(done, total int64)) error {
	if len(logins) == 0 {
		return pull(ctx, image, nil, progress)
	}
	var err error
	for i := range logins {
		if err = pull(ctx, image, &logins[i], progress); err == nil || !refusedLogin(err) {
			return err
		}
	}
	return err
}

// refusedLogin reports whether a registry's answer is about who asked.
func refusedLogin(err error) bool {
	text := strings.ToLower(err.Error())
	for _, word := range []string{"unauthorized", "authentication", "denied", "forbidden", " 401", " 403", "invalid username/password"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// pull transfers an image by the call that Docker has, too: it alone says how far it is.
func pull(ctx context.Context, image string, login *host.Login, progress func(done, total int64)) error {
	client, err := bindings.GetClient(ctx)
	if err != nil {
		return err
	}
	address := "http://d/v1.40/images/create?" + url.Values{"fromImage": {image}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return err
	}
	if login != nil {
		header, err := json.Marshal(map[string]string{
			"username": login.Username, "password": login.Password, "identitytoken": login.IdentityToken,
		})
		if err != nil {
			return err
		}
		request.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(header))
	}
	response, err := client.Client.Do(request)
	if err != nil {
		return kind(ctx, err)
	}
	defer response.Body.Close()
	return pullError(ctx, follow(response.Body, response.StatusCode, progress))
}

// follow reads what Podman says of a transfer. Its last word may be an error, whatever the status was.
func follow(body io.Reader, status int, progress func(done, total int64)) error {
	layers := map[string][2]int64{}
	decoder := json.NewDecoder(body)
	failed := ""
	for {
		var line struct {
			ID             string
			ProgressDetail struct{ Current, Total int64 }
			Error          string
			Message        string
			ErrorDetail    struct{ Message string }
		}
		err := decoder.Decode(&line)
		switch {
		case errors.Is(err, io.EOF) && (failed != "" || status >= http.StatusBadRequest):
			if failed == "" {
				failed = fmt.Sprintf("status %d", status)
			}
			return errors.New(failed)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		for _, text := range []string{line.Error, line.ErrorDetail.Message, line.Message} {
			if text != "" {
				failed = text
				break
			}
		}
		if d := line.ProgressDetail; d.Total > 0 && progress != nil {
			layers[line.ID] = [2]int64{d.Current, d.Total}
			var done, total int64
			for _, l := range layers {
				done, total = done+l[0], total+l[1]
			}
			progress(done, total)
		}
	}
}

// pullError keeps the last of what Podman says: it repeats itself for every layer of its own code.
func pullError(ctx context.Context, err error) error {
	if err == nil {
		return ctx.Err()
	}
	if strings.TrimSpace(err.Error()) == io.ErrUnexpectedEOF.Error() && ctx.Err() == nil {
		err = io.ErrUnexpectedEOF // also as a text of Podman's own, whose connection to the registry broke
	}
	err = kind(ctx, err)
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	if len(lines) > 1 {
		return shortened{strings.TrimSpace(lines[len(lines)-1]), err}
	}
	return err
}

// shortened is an error of which only the end is worth showing.
type shortened struct {
	text string
	err  error
}

func (e shortened) Error() string { return e.text }
func (e shortened) Unwrap() error { return e.err }

// ImageUser is whom an image's process runs as by itself.
func (m *Machine) ImageUser(ctx context.Context, image string) (string, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return "", err
	}
	i, err := images.GetImage(ctx, image, nil)
	if err != nil {
		return "", fmt.Errorf("inspect image %s: %w", image, kind(ctx, err))
	}
	return i.User, nil
}

// ImageNames are the names of all images that are there.
func (m *Machine) ImageNames(ctx context.Context) ([]string, error) {
	ctx, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	list, err := images.List(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", kind(ctx, err))
	}
	var names []string
	for _, i := range list {
		for _, name := range slices.Concat(i.RepoTags, i.RepoDigests) {
			names = append(names, fleet.ImageName(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
