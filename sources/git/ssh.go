package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	hosts "github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshSession is one run of git-upload-pack on a server. It is ours and not go-git's, because go-git's looks
// neither at the context while it shakes hands nor at a known_hosts file's place, and reads ~/.ssh/config.
type sshSession struct {
	client *ssh.Client
	run    *ssh.Session
	in     io.WriteCloser
	out    io.Reader
	told   *firstWords
	free   func() bool // lets go of the context
}

// dialSSH connects, checks the host's key, logs in and starts git-upload-pack. When ctx ends the connection
// is closed, and whatever waits on it returns.
func (s *Source) dialSSH(ctx context.Context) (transport.UploadPackSession, error) {
	key, err := s.sshKey()
	if err != nil {
		return nil, err
	}
	known, err := s.knownHosts()
	if err != nil {
		return nil, err
	}
	place := net.JoinHostPort(s.addr.host, strconv.Itoa(cmp.Or(s.addr.port, 22)))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", place)
	if err != nil {
		return nil, err
	}
	free := context.AfterFunc(ctx, func() { _ = conn.Close() })

	var refused error
	accepted := false
	c, channels, requests, err := ssh.NewClientConn(conn, place, &ssh.ClientConfig{
		User: cmp.Or(s.addr.user, s.cfg.Username, "git"),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		// Without this a server might offer a kind of key that the file does not have, though it has another.
		HostKeyAlgorithms: known.HostKeyAlgorithms(place),
		HostKeyCallback: func(host string, remote net.Addr, offered ssh.PublicKey) error {
			refused = s.judge(host, offered, known.HostKeyCallback()(host, remote, offered))
			accepted = refused == nil
			return refused
		},
	})
	if err != nil {
		free()
		_ = conn.Close()
		_, network := errors.AsType[*net.OpError](err)
		switch {
		case refused != nil:
			return nil, refused
		case accepted && !network && !errors.Is(err, io.EOF):
			return nil, faultf(ErrAuth, "the server refuses the key %s (%s): check that it is a deploy key of this repository, and the user %s",
				s.cfg.SSHKeyFile, ssh.FingerprintSHA256(key.PublicKey()), cmp.Or(s.addr.user, s.cfg.Username, "git"))
		case network:
			return nil, err
		}
		return nil, faultf(ErrUnreachable, "no ssh connection (%v): check that an ssh server listens at %s", err, place)
	}
	x := &sshSession{client: ssh.NewClient(c, channels, requests), free: free, told: &firstWords{}}
	if err := x.start(s.addr.path); err != nil {
		_ = x.Close()
		return nil, faultf(ErrUnreachable, "start git-upload-pack: %v: check that the server allows it", err)
	}
	return x, nil
}

func (s *Source) sshKey() (ssh.Signer, error) {
	raw, err := os.ReadFile(s.cfg.SSHKeyFile)
	if err != nil {
		return nil, faultf(ErrAuth, "ssh key: %v: put it there, or correct its path", err)
	}
	var key ssh.Signer
	if s.cfg.SSHKeyPassphrase != "" {
		key, err = ssh.ParsePrivateKeyWithPassphrase(raw, []byte(s.cfg.SSHKeyPassphrase))
	} else {
		key, err = ssh.ParsePrivateKey(raw)
	}
	if _, missing := errors.AsType[*ssh.PassphraseMissingError](err); missing {
		return nil, faultf(ErrAuth, "ssh key %s has a passphrase: set it, or use a key without one", s.cfg.SSHKeyFile)
	}
	if err != nil {
		return nil, faultf(ErrAuth, "ssh key %s cannot be read (%v): check that it is a private key, and its passphrase", s.cfg.SSHKeyFile, err)
	}
	return key, nil
}

func (s *Source) knownHosts() (*hosts.HostKeyDB, error) {
	files := []string{s.cfg.KnownHostsFile}
	if s.cfg.KnownHostsFile == "" {
		files = nil
		candidates := []string{"/etc/ssh/ssh_known_hosts"}
		if home, err := os.UserHomeDir(); err == nil {
			candidates = append([]string{filepath.Join(home, ".ssh", "known_hosts")}, candidates...)
		}
		for _, name := range candidates {
			if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
				files = append(files, name)
			}
		}
		if len(files) == 0 {
			return nil, faultf(ErrHostKey, "no known_hosts file (looked for %s): verify the server's key and write it there, with ssh-keyscan %s",
				strings.Join(candidates, ", "), s.addr.host)
		}
	}
	db, err := hosts.NewDB(files...)
	if err != nil {
		return nil, faultf(ErrHostKey, "known_hosts: %v: correct the file", err)
	}
	return db, nil
}

// judge says why a host's key was not accepted.
func (s *Source) judge(host string, offered ssh.PublicKey, err error) error {
	if err == nil {
		return nil
	}
	print := ssh.FingerprintSHA256(offered)
	host = knownhosts.Normalize(host)
	file := cmp.Or(s.cfg.KnownHostsFile, "known_hosts")
	if e, ok := errors.AsType[*knownhosts.KeyError](err); ok && len(e.Want) > 0 {
		known := e.Want[0]
		return faultf(ErrHostKey, "the host key of %s is %s (%s), but %s line %d has %s: somebody may sit in between; if the key was changed on purpose, replace that line",
			host, print, offered.Type(), known.Filename, known.Line, ssh.FingerprintSHA256(known.Key))
	}
	if e, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
		return faultf(ErrHostKey, "the host key of %s is %s, which %s line %d revokes: give the server another key",
			host, print, e.Revoked.Filename, e.Revoked.Line)
	} else if _, unknown := errors.AsType[*knownhosts.KeyError](err); !unknown {
		return faultf(ErrHostKey, "the host key %s of %s is not accepted (%v): check %s", print, host, err, file)
	}
	return faultf(ErrHostKey, "the host key of %s is not known: %s (%s) is not in %s: verify this fingerprint with the server's owner, then add the line: %s",
		host, print, offered.Type(), file, knownhosts.Line([]string{host}, offered))
}

func (x *sshSession) start(path string) (err error) {
	if x.run, err = x.client.NewSession(); err != nil {
		return err
	}
	if x.in, err = x.run.StdinPipe(); err != nil {
		return err
	}
	if x.out, err = x.run.StdoutPipe(); err != nil {
		return err
	}
	x.run.Stderr = x.told
	// Hosts that allow nothing else look for exactly this form.
	return x.run.Start("git-upload-pack '" + strings.ReplaceAll(path, "'", `'\''`) + "'")
}

// AdvertisedReferences is AdvertisedReferencesContext; transport.Session wants both.
func (x *sshSession) AdvertisedReferences() (*packp.AdvRefs, error) {
	return x.AdvertisedReferencesContext(context.Background())
}

// AdvertisedReferencesContext reads what the server says first. The session's own context ends it.
func (x *sshSession) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	answer := packp.NewAdvRefs()
	err := answer.Decode(x.out)
	if errors.Is(err, packp.ErrEmptyAdvRefs) || (err == nil && answer.IsEmpty()) {
		return nil, transport.ErrEmptyRemoteRepository
	}
	if err != nil {
		_ = x.in.Close()
		_ = x.run.Wait() // the server's words are complete only then
		return nil, faultf(ErrRepository, "no Git repository answers (the server says %q): check the path, and that the key may read it", x.told.String())
	}
	transport.FilterUnsupportedCapabilities(answer.Capabilities)
	return answer, nil
}

// UploadPack asks for commits; the pack follows in the response.
func (x *sshSession) UploadPack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := req.UploadRequest.Encode(x.in); err != nil {
		return nil, fmt.Errorf("ask for commit: %w", err)
	}
	if err := req.UploadHaves.Encode(x.in, false); err != nil {
		return nil, fmt.Errorf("tell commits: %w", err)
	}
	if err := pktline.NewEncoder(x.in).EncodeString("done\n"); err != nil {
		return nil, fmt.Errorf("ask for commit: %w", err)
	}
	answer := packp.NewUploadPackResponse(req)
	if err := answer.Decode(io.NopCloser(x.out)); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return answer, nil
}

// Close ends the connection and with it the program at the other side.
func (x *sshSession) Close() error {
	x.free()
	if x.in != nil {
		_ = pktline.NewEncoder(x.in).Flush() // a polite end where nothing was asked for
	}
	return x.client.Close()
}

// firstWords keeps the beginning of what a server writes to its standard error.
type firstWords struct{ bytes.Buffer }

func (w *firstWords) Write(p []byte) (int, error) {
	if room := 500 - w.Len(); room > 0 {
		w.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
