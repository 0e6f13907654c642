package git

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// tokenUser goes with a token that was given without a username. GitHub asks for this name; GitLab and
// Gitea take any.
const tokenUser = "x-access-token"

// webSession is go-git's, with connections that end with it.
type webSession struct {
	transport.UploadPackSession
	conns *http.Transport
}

func (w *webSession) Close() error {
	err := w.UploadPackSession.Close()
	w.conns.CloseIdleConnections()
	return err
}

// openHTTP prepares a visit; nothing is sent yet. The CA file is read each time, so that it can be replaced.
func (s *Source) openHTTP() (transport.UploadPackSession, error) {
	conns := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{ClientSessionCache: s.tls, MinVersion: tls.VersionTLS12},
	}
	if s.cfg.CAFile != "" {
		pem, err := os.ReadFile(s.cfg.CAFile)
		if err != nil {
			return nil, faultf(ErrAuth, "CA file: %v: put it there, or correct its path", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, faultf(ErrAuth, "CA file %s has no PEM certificate: give one that begins with -----BEGIN CERTIFICATE-----", s.cfg.CAFile)
		}
		conns.TLSClientConfig.RootCAs = pool
	}
	user, password := s.addr.user, s.addr.password
	switch {
	case s.cfg.Token != "":
		user, password = cmp.Or(s.cfg.Username, tokenUser), s.cfg.Token
	case s.cfg.Username != "":
		user, password = s.cfg.Username, s.cfg.Password
	}
	// A nil interface, not a nil pointer in one: go-git tells them apart.
	var auth transport.AuthMethod
	if user != "" {
		auth = &githttp.BasicAuth{Username: user, Password: password}
	}
	client := githttp.NewClient(&http.Client{Transport: conns, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		return follow(req, via, auth != nil)
	}})
	host := s.addr.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	session, err := client.NewUploadPackSession(&transport.Endpoint{
		Protocol: s.addr.scheme, Host: host, Port: s.addr.port, Path: "/" + strings.TrimPrefix(s.addr.path, "/"),
	}, auth)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	return &webSession{session, conns}, nil
}

// follow decides about a redirect. go-git sends the credentials to wherever the first request ended, so a
// redirect must not lead them to another host or into the clear.
func follow(req *http.Request, via []*http.Request, credentials bool) error {
	from := via[0].URL
	switch {
	case len(via) >= 10:
		return faultf(ErrUnreachable, "the server redirects in a circle: correct the URL")
	case from.Scheme == "https" && req.URL.Scheme != "https":
		return faultf(ErrUnreachable, "the server redirects from https to %s: correct the URL", req.URL.Scheme)
	case credentials && req.URL.Host != from.Host:
		return faultf(ErrAuth, "the server redirects to %s, which the credentials are not meant for: set that URL if it is right", req.URL.Host)
	}
	return nil
}
