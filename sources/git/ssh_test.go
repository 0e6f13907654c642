package git

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

var (
	quiet       = log.New(io.Discard, "", 0)
	execPath, _ = func() (string, error) {
		out, err := exec.Command("git", "--exec-path").Output()
		return strings.TrimSpace(string(out)), err
	}()
)

// incompressible is text of a given length that no packing makes shorter by more than half.
func incompressible(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}

func keyFile(t *testing.T) (string, ssh.PublicKey) {
	t.Helper()
	return encrypted(t, "")
}

func encrypted(t *testing.T, passphrase string) (string, ssh.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return name, key
}

// sshServer lets one key in and runs git-upload-pack for it. It returns its address and host key.
func sshServer(t *testing.T, allowed ssh.PublicKey) (string, ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || string(key.Marshal()) != string(allowed.Marshal()) {
			return nil, errors.New("not you")
		}
		return &ssh.Permissions{}, nil
	}}
	cfg.AddHostKey(host)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, channels, requests, err := ssh.NewServerConn(conn, cfg)
				if err != nil {
					_ = conn.Close()
					return
				}
				go ssh.DiscardRequests(requests)
				for c := range channels {
					channel, asked, err := c.Accept()
					if err != nil {
						return
					}
					go run(channel, asked)
				}
			}()
		}
	}()
	return l.Addr().String(), host.PublicKey()
}

func run(channel ssh.Channel, asked <-chan *ssh.Request) {
	for req := range asked {
		if req.Type != "exec" {
			_ = req.Reply(false, nil)
			continue
		}
		_ = req.Reply(true, nil)
		var line struct{ Command string }
		_ = ssh.Unmarshal(req.Payload, &line)
		// A shell, as at a real server: this is what the quoting of the path is for.
		cmd := exec.Command("sh", "-c", line.Command) //nolint:noctx // ends with its input
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		in, _ := cmd.StdinPipe()
		go func() {
			_, _ = io.Copy(in, channel)
			_ = in.Close()
		}()
		code := byte(0)
		if cmd.Run() != nil {
			code = 128
		}
		_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, code})
		_ = channel.Close()
	}
}

func TestSSH(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	odd := filepath.Join(t.TempDir(), "it's odd.git")
	r.git(r.work, "clone", "-q", "--bare", r.bare, odd)
	empty := filepath.Join(t.TempDir(), "empty.git")
	r.git(r.work, "init", "-q", "--bare", empty)
	key, public := keyFile(t)
	other, _ := keyFile(t)
	place, host := sshServer(t, public)
	lockedKey, lockedPublic := encrypted(t, planted)
	lockedPlace, lockedHost := sshServer(t, lockedPublic)
	_, strange := keyFile(t)
	known := func(lines ...string) string {
		name := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	line := func(place string, key ssh.PublicKey) string {
		return knownhosts.Line([]string{knownhosts.Normalize(place)}, key)
	}
	good := known(line(place, host))
	wrong := known("# a comment", line(place, strange))
	unknown := known(line("git.example:22", host))
	url := "ssh://git@" + place

	tests := map[string]struct {
		url, key, passphrase, known string
		kind                        error
		texts                       []string
	}{
		"key":              {url + r.bare, key, "", good, nil, nil},
		"odd path":         {url + strings.ReplaceAll(odd, " ", "%20"), key, "", good, nil, nil},
		"user by default":  {"ssh://" + place + r.bare, key, "", good, nil, nil},
		"hashed host":      {url + r.bare, key, "", known(knownhosts.HashHostname(knownhosts.Normalize(place)) + strings.TrimPrefix(line(place, host), knownhosts.Normalize(place))), nil, nil},
		"passphrase":       {"ssh://git@" + lockedPlace + r.bare, lockedKey, planted, known(line(lockedPlace, lockedHost)), nil, nil},
		"no passphrase":    {url + r.bare, lockedKey, "", good, ErrAuth, []string{"has a passphrase"}},
		"wrong passphrase": {url + r.bare, lockedKey, planted + "x", good, ErrAuth, []string{"cannot be read", lockedKey}},
		"wrong host key": {url + r.bare, key, "", wrong, ErrHostKey,
			[]string{ssh.FingerprintSHA256(host), ssh.FingerprintSHA256(strange), wrong + " line 2", "replace that line"}},
		"unknown host": {url + r.bare, key, "", unknown, ErrHostKey,
			[]string{ssh.FingerprintSHA256(host), unknown, "add the line: " + line(place, host)}},
		"no known_hosts": {url + r.bare, key, "", unknown + "x", ErrHostKey, []string{unknown + "x"}},
		"wrong key":      {url + r.bare, other, "", good, ErrAuth, []string{"refuses the key " + other}},
		"wrong user":     {"ssh://root@" + place + r.bare, key, "", good, ErrAuth, []string{"user root"}},
		"no key file":    {url + r.bare, key + "x", "", good, ErrAuth, []string{key + "x", "no such file"}},
		"no repository":  {url + "/nowhere", key, "", good, ErrRepository, []string{"does not appear to be a git repository"}},
		"empty":          {url + empty, key, "", good, ErrBranch, []string{"is empty"}},
		"dead":           {"ssh://git@" + closedPort(t) + "/x", key, "", good, ErrUnreachable, []string{"refused"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, test.url)
			cfg.SSHKeyFile, cfg.SSHKeyPassphrase, cfg.KnownHostsFile = test.key, test.passphrase, test.known
			s := open(t, cfg)
			if test.kind == nil {
				fetched(t, s, r.head())
				fetched(t, s, r.head())
				holds(t, s, r.head(), "apps/db.yaml", "kind: Pod\n")
				return
			}
			_, err := s.Fetch(t.Context())
			fails(t, s, err, test.kind, test.texts...)
		})
	}
}

func TestSSHIncremental(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("ballast", incompressible(1<<19))
	r.push("much")
	key, public := keyFile(t)
	place, host := sshServer(t, public)
	cfg := config(t, "git@"+place)
	cfg.URL = "ssh://git@" + place + r.bare
	cfg.SSHKeyFile, cfg.KnownHostsFile = key, filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(cfg.KnownHostsFile, []byte(knownhosts.Line([]string{knownhosts.Normalize(place)}, host)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	first := r.head()
	fetched(t, s, first)
	r.write("apps/web.yaml", "kind: Deployment # 2\n")
	fetched(t, s, r.push("little"))
	r.git(r.work, "reset", "-q", "--hard", string(first))
	r.write("apps/web.yaml", "kind: Deployment # 3\n")
	forced := r.push("instead")
	fetched(t, s, forced)
	holds(t, s, forced, "apps/web.yaml", "kind: Deployment # 3\n")
	packs, err := filepath.Glob(filepath.Join(cfg.Dir, currentDir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) != 3 {
		t.Fatalf("%d packs, %v", len(packs), err)
	}
	large := 0
	for _, p := range packs {
		if about, err := os.Stat(p); err != nil || about.Size() > 4000 {
			large++
		}
	}
	if large != 1 {
		t.Errorf("%d of the packs are large, want only the first", large)
	}
}
