package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Whom servers see asking, as with the kubelet.
const (
	probeAgent = "kube-probe/skerry"
	hookAgent  = "kube-lifecycle/skerry"
)

// What is taken of a server.
const (
	maxHead     = 256 << 10
	maxBody     = 10 << 10 // the kubelet's
	maxRequests = 10       // the first, and one for each redirect
)

// answer is what came of an HTTP request.
type answer struct {
	code   int
	said   string // the first line of its body, if the code says that something is wrong
	broken error  // why the body did not come to its end
	next   string // where the answer redirects to; of the last answer: another host, which was not asked
}

// askHTTP is well when an answer has a code from 200 to 399. A redirect to another host, and any other that is not
// followed, is well and odd.
func askHTTP(ctx context.Context, a *corev1.HTTPGetAction, address string, named []corev1.ContainerPort) (odd string, err error) {
	got, err := get(ctx, a, address, named, probeAgent)
	switch {
	case err != nil:
		return "", err
	case got.code >= 400 || got.code < 200:
		return "", unwell(line(said(fmt.Sprintf("HTTP %d", got.code), got.said)))
	case errors.Is(got.broken, context.DeadlineExceeded):
		return "", unwellf("HTTP %d, but its body did not end in time", got.code)
	case got.broken != nil:
		return "", got.broken
	case got.next != "":
		return line(fmt.Sprintf("HTTP %d to another host, which was not asked: %s", got.code, got.next)), nil
	case got.code >= 300:
		return fmt.Sprintf("HTTP %d, which leads nowhere", got.code), nil
	}
	return "", nil
}

// get asks, and follows redirects on the same host, by whatever port.
func get(ctx context.Context, a *corev1.HTTPGetAction, address string, named []corev1.ContainerPort, agent string) (answer, error) {
	u, err := target(a, address, named)
	if err != nil {
		return answer{}, err
	}
	host, headers, err := complete(a.HTTPHeaders, agent)
	if err != nil {
		return answer{}, err
	}
	first := u.Hostname()
	for range maxRequests {
		got, err := exchange(ctx, u, host, headers)
		if err != nil || got.next == "" {
			return got, err
		}
		next, err := url.Parse(got.next)
		if err != nil {
			return answer{}, unwellf("HTTP %d to what is no URL: %s", got.code, got.next)
		}
		if next.IsAbs() {
			host = "" // the header was for where we were told to ask
		}
		u = u.ResolveReference(next)
		if u.Hostname() != first {
			got.next = u.Redacted()
			return got, nil
		}
	}
	return answer{}, unwellf("stopped after %d redirects", maxRequests)
}

// target is the URL to ask first.
func target(a *corev1.HTTPGetAction, address string, named []corev1.ContainerPort) (*url.URL, error) {
	port, err := number(a.Port, named)
	if err != nil {
		return nil, err
	}
	path := a.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u, err := url.Parse("http://pod" + path) // with a host before it, as a path may begin with two slashes
	if err != nil {
		u = &url.URL{Path: path} // as the kubelet does it: then there are strange letters in it, and no query
	}
	u.Scheme = strings.ToLower(string(cmp.Or(a.Scheme, corev1.URISchemeHTTP)))
	u.Host = net.JoinHostPort(cmp.Or(a.Host, address), port)
	return u, nil
}

// exchange sends one request and reads the answer. It is net/http's Transport without all that is for connections that
// are kept, which is most of what that costs.
func exchange(ctx context.Context, u *url.URL, host string, headers []corev1.HTTPHeader) (answer, error) {
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return answer{}, unwellf("%s is not asked, only http and https", u.Redacted())
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	c, err := connect(ctx, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return answer{}, err
	}
	if u.Scheme == "https" {
		// Certificates of pods are made out to names of services, if to anything; the kubelet does not verify them
		// either.
		c = tls.Client(c, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true})
	}
	defer c.Close()
	w := wires.Get().(*wire)
	defer w.free()
	got, err := w.ask(c, request(w.out[:0], u, host, headers))
	if err != nil {
		return answer{}, blame(ctx, "ask "+u.Host, err)
	}
	if got.broken != nil {
		got.broken = blame(ctx, fmt.Sprintf("HTTP %d, but its body broke off", got.code), got.broken)
	}
	return got, nil
}

// wire is what it takes to talk HTTP over a connection, for one exchange after another.
type wire struct {
	out   []byte
	limit io.LimitedReader // on what is still read of in
	in    *bufio.Reader
	body  bytes.Buffer
}

var wires = sync.Pool{New: func() any { return &wire{in: bufio.NewReader(nil)} }}

func (w *wire) free() {
	w.limit.R = nil
	wires.Put(w)
}

// ask sends a request, which it keeps for the next one to be written over, and reads what is wanted of the answer.
func (w *wire) ask(c net.Conn, out []byte) (answer, error) {
	w.out = out
	if _, err := c.Write(w.out); err != nil {
		return answer{}, err
	}
	w.limit = io.LimitedReader{R: c, N: maxHead}
	w.in.Reset(&w.limit)
	resp, err := w.head() //nolint:bodyclose // it would read all of the body, however long that is, and is no use: c ends
	if err != nil {
		return answer{}, err
	}
	got := answer{code: resp.StatusCode}
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		got.next = resp.Header.Get("Location")
		return got, nil
	}
	w.limit.N = math.MaxInt64 // the body has a limit of its own
	w.body.Reset()
	_, got.broken = w.body.ReadFrom(io.LimitReader(resp.Body, maxBody))
	if got.code >= 400 {
		got.said, _, _ = strings.Cut(strings.TrimSpace(w.body.String()), "\n")
	}
	return got, nil
}

// head reads an answer's header, past those that only say that there is one to come.
func (w *wire) head() (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(w.in, nil)
		switch {
		case err != nil && w.limit.N <= 0:
			return nil, fmt.Errorf("the answer's header is longer than %d KiB", maxHead>>10)
		case err != nil:
			return nil, err
		case resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
}
