package git

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/skerry-dev/skerry/fleet"
)

// Config says what to read and with which rights. Secrets are plain strings here: the caller read them from
// the environment or a file. No error and no String of this package contains one.
type Config struct {
	Name   fleet.SourceName
	URL    string // https, http, ssh or file URL, user@host:path, or an absolute path
	Branch string // empty: the branch that the remote's HEAD names
	Path   string // folder inside the repository to read manifests from; empty: all of it
	Dir    string // where the clone is kept; only this source may use it

	// For https and http. A token is sent as the password of basic auth, with Username or, without one,
	// a name that the large hosts accept.
	Username, Password, Token string
	CAFile                    string // PEM certificates trusted beside the system's

	// For ssh. The files are read at each Fetch, so that they can be replaced while the agent runs.
	SSHKeyFile, SSHKeyPassphrase string
	// KnownHostsFile has the host keys that are accepted; empty: ~/.ssh/known_hosts and
	// /etc/ssh/ssh_known_hosts.
	KnownHostsFile string
}

// String names the source without secrets.
func (c Config) String() string {
	return fmt.Sprintf("%s from %s", c.Name, Redact(c.URL))
}

// GoString is String, so that no verb of fmt prints the secrets.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate returns every fault, joined, each with what to do. It reads no file.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		text := fmt.Sprintf("source %q: ", c.Name) + fmt.Sprintf(format, args...)
		faults = append(faults, errors.New(c.scrub(text)))
	}
	if c.Name == "" {
		fault("name is empty: give the source a name")
	}
	if !filepath.IsAbs(c.Dir) {
		fault("folder of the clone %q is not absolute: give it an absolute path", c.Dir)
	}
	if _, ok := folder(c.Path); !ok {
		fault("path %q leads out of the repository: give a folder inside it, such as clusters/home", c.Path)
	}
	if strings.HasPrefix(c.Branch, "refs/") {
		fault("branch %q is a ref: give the branch's name alone, such as main", c.Branch)
	} else if c.Branch != "" && plumbing.NewBranchReferenceName(c.Branch).Validate() != nil {
		fault("branch %q is not a name that Git allows: correct it", c.Branch)
	}
	if c.Password != "" && c.Token != "" {
		fault("both a password and a token are set: keep one")
	}
	if c.Password != "" && c.Username == "" {
		fault("a password is set without a username: set the username too")
	}
	a, err := parse(c.URL)
	if err != nil {
		fault("%v", err)
		return errors.Join(faults...)
	}
	web := a.scheme == "https" || a.scheme == "http"
	if !web && (c.Password != "" || c.Token != "") {
		fault("a password or token is set, but %s does not use one: remove it, or use an https URL", a)
	}
	if web && a.password != "" && (c.Username != "" || c.Token != "") {
		fault("credentials are both in the URL and beside it: remove them from the URL")
	}
	if a.scheme != "https" && c.CAFile != "" {
		fault("a CA file is set, but %s does not use TLS: remove it, or use an https URL", a)
	}
	if a.scheme == "ssh" && c.SSHKeyFile == "" {
		fault("%s needs an ssh key: set the file of a private key that may read the repository", a)
	}
	if a.scheme != "ssh" && (c.SSHKeyFile != "" || c.KnownHostsFile != "") {
		fault("an ssh key or known_hosts file is set, but %s does not use ssh: remove it, or use an ssh URL", a)
	}
	if c.SSHKeyPassphrase != "" && c.SSHKeyFile == "" {
		fault("a passphrase is set without an ssh key: set the key's file too")
	}
	return errors.Join(faults...)
}

// scrub takes every secret of the configuration out of a text that somebody else may have written (a
// server, a library), and makes it one line.
func (c Config) scrub(text string) string {
	secrets := []string{c.Password, c.Token, c.SSHKeyPassphrase}
	if a, err := parse(c.URL); err == nil {
		secrets = append(secrets, a.password)
		if a.scheme != "ssh" { // a user of ssh is no secret, one of https may be a token
			secrets = append(secrets, a.user)
		}
	}
	for _, s := range secrets {
		if len(s) < 4 { // a shorter one protects nothing and would tear holes into ordinary words
			continue
		}
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}

// Redact is a repository's URL as it may be shown: without password, without the user of a web URL (which
// may be a token) and without query. What is no URL is returned without anything before its last @.
func Redact(raw string) string {
	if a, err := parse(raw); err == nil {
		return a.String()
	}
	raw, _, _ = strings.Cut(raw, "?")
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		scheme, rest = "", raw
	} else {
		scheme += "://"
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + rest
}

// folder is a configured path in the form of fs.ValidPath.
func folder(p string) (string, bool) {
	if slices.Contains(strings.Split(p, "/"), "..") || strings.ContainsAny(p, "\\\x00") {
		return "", false
	}
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return ".", true
	}
	return p, true
}

// address is a repository's URL taken apart.
type address struct {
	scheme         string
	user, password string
	host           string // without brackets
	port           int    // 0: the scheme's own
	path           string // file: on disk; ssh: as the server gets it; otherwise escaped for a URL
	brief          bool   // was written as user@host:path
}

var briefSSH = regexp.MustCompile(`^(?:([^@/:]+)@)?(\[[0-9a-fA-F:.%]+\]|[^@/:\[\]]+):(.+)$`)

func parse(raw string) (address, error) {
	if raw == "" {
		return address{}, errors.New("URL is empty: set where the repository is")
	}
	if strings.HasPrefix(raw, "/") {
		return address{scheme: "file", path: filepath.Clean(raw)}, nil
	}
	if !strings.Contains(raw, "://") {
		m := briefSSH.FindStringSubmatch(raw)
		if m == nil {
			return address{}, fmt.Errorf("URL %q is neither a URL nor an absolute path: write https://…, ssh://…, user@host:path, file:///… or /…", raw[strings.LastIndex(raw, "@")+1:])
		}
		return address{scheme: "ssh", user: m[1], host: strings.Trim(m[2], "[]"), path: m[3], brief: true}, nil
	}
	u, err := url.Parse(raw)
	if err != nil { // its text would quote the URL with all that is in it
		return address{}, errors.New("URL cannot be read: check for spaces and unescaped characters, also in user and password")
	}
	a := address{scheme: strings.ToLower(u.Scheme), user: u.User.Username(), host: u.Hostname(), path: u.Path}
	a.password, _ = u.User.Password()
	if u.RawQuery != "" || u.Fragment != "" {
		return address{}, errors.New("URL has a query or a fragment: remove what follows the ? or #")
	}
	if p := u.Port(); p != "" {
		if a.port, err = strconv.Atoi(p); err != nil || a.port < 1 || a.port > 65535 {
			return address{}, fmt.Errorf("URL has port %q: give a number from 1 to 65535", p)
		}
	}
	switch a.scheme {
	case "https", "http":
		a.path = u.EscapedPath()
	case "ssh":
		if strings.HasPrefix(a.path, "/~") { // a home folder, as git has it
			a.path = a.path[1:]
		}
	case "file":
		if a.host != "" && a.host != "localhost" {
			return address{}, fmt.Errorf("file URL names the host %q: write file:///path with three slashes", a.host)
		}
		a.path = filepath.Clean(a.path)
		return a, nil
	default:
		return address{}, fmt.Errorf("URL has the scheme %q: use https, http, ssh or file", a.scheme)
	}
	if a.host == "" || strings.Trim(a.path, "/") == "" {
		return address{}, errors.New("URL lacks a host or a path: write it in full")
	}
	return a, nil
}

// String is the address as it may be shown.
func (a address) String() string {
	host := a.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.scheme == "ssh" && a.user != "" {
		host = a.user + "@" + host
	}
	if a.port != 0 {
		host += ":" + strconv.Itoa(a.port)
	}
	if a.brief {
		return host + ":" + a.path
	}
	return a.scheme + "://" + host + "/" + strings.TrimPrefix(a.path, "/")
}
