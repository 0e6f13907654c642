package git

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// What an error of Fetch is about, for errors.Is. An error that is none of these is about this machine, for
// example a full disk.
var (
	// ErrAuth: the server was reached and refuses us, or there is a fault in key or CA files.
	ErrAuth = errors.New("not allowed")
	// ErrUnreachable: the server could not be reached or did not answer in time, or answers that it is ill.
	ErrUnreachable = errors.New("unreachable")
	// ErrBranch: the repository is there, the branch is not; an empty repository has none.
	ErrBranch = errors.New("no such branch")
	// ErrRepository: something was reached that is no repository, or none that this program can read.
	ErrRepository = errors.New("no such repository")
	// ErrHostKey: an ssh server has another key than the known_hosts file says, or none is known.
	ErrHostKey = errors.New("host key not accepted")
)

// ErrPack says that what another clone sent is not the commit that was asked for, or that the commit is larger than is lent.
var ErrPack = errors.New("not the commit that was asked for")

// Why a file of a snapshot cannot be opened, for errors.Is. They are wrapped in *fs.PathError.
var (
	// ErrEscape: a symlink's target is outside of the repository.
	ErrEscape = errors.New("symlink leads out of the repository")
	// ErrLoop: symlinks lead back to themselves or to a folder that the path came through.
	ErrLoop = errors.New("symlink leads in a circle")
	// ErrSubmodule: the path is in a submodule, which is another repository.
	ErrSubmodule = errors.New("submodules are not followed")
	// ErrTooLarge: a file has more than MaxFile bytes.
	ErrTooLarge = errors.New("file is too large")
)

// fault is an error that is told in our own words. It wraps kinds and nothing else: the errors of libraries
// may quote a URL or a server, and somebody would print them.
type fault struct {
	text  string
	kinds []error
}

func (f *fault) Error() string   { return f.text }
func (f *fault) Unwrap() []error { return f.kinds }

func faultf(kind error, format string, args ...any) error {
	f := &fault{text: fmt.Sprintf(format, args...)}
	if kind != nil {
		f.kinds = []error{kind}
	}
	return f
}

// explain turns what went wrong in a fetch into one line that says what to do, without secrets.
func (s *Source) explain(ctx context.Context, err error) error {
	f := s.diagnose(ctx, err)
	return &fault{
		text:  s.cfg.scrub(fmt.Sprintf("fetch %s from %s: %s", s.cfg.Name, s.addr, f.text)),
		kinds: f.kinds,
	}
}

func (s *Source) diagnose(ctx context.Context, err error) *fault {
	switch ended := ctx.Err(); {
	case errors.Is(ended, context.DeadlineExceeded):
		return &fault{"no answer in time: check that the server is up and not overloaded", []error{ErrUnreachable, ended}}
	case ended != nil:
		return &fault{"stopped: " + ended.Error(), []error{ended}}
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	// go-git's UnexpectedError does not unwrap.
	if u, ok := errors.AsType[*plumbing.UnexpectedError](err); ok {
		return s.diagnose(ctx, u.Err)
	}
	if u, ok := errors.AsType[*plumbing.PermanentError](err); ok {
		return s.diagnose(ctx, u.Err)
	}
	tell := func(kind error, format string, args ...any) *fault {
		return &fault{fmt.Sprintf(format, args...), []error{kind}}
	}
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		if s.cfg.Token == "" && s.cfg.Password == "" && s.addr.user == "" {
			return tell(ErrAuth, "the server wants credentials and none are set: set a username and password, or a token")
		}
		return tell(ErrAuth, "the server refuses the credentials: check that they are right, not expired, and may read this repository")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return tell(ErrRepository, "the server knows no such repository: check the URL, and that the credentials may read it (hosts hide private repositories)")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return tell(ErrBranch, "the repository is empty: push a commit to it")
	}
	if e, ok := errors.AsType[*githttp.Err](err); ok {
		code := e.StatusCode()
		return tell(ErrUnreachable, "the server answers %d %s: check its health and the URL", code, http.StatusText(code))
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return tell(ErrUnreachable, "the server's certificate is not trusted (%v): set the CA file that signed it, or correct the URL", e.Err)
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return tell(ErrUnreachable, "the server does not speak TLS at this port: correct the port, or use http")
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return tell(ErrUnreachable, "the name %s does not resolve: check the URL and this machine's DNS", e.Name)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without method and URL, which are said already
		if _, ok := errors.AsType[*net.OpError](err); !ok {
			return tell(ErrUnreachable, "%v: check that the server is up, and the URL", err)
		}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return tell(ErrUnreachable, "%v: check that the server is up and this machine's network and firewall", e)
	}
	_, onDisk := errors.AsType[*fs.PathError](err)
	_, renaming := errors.AsType[*os.LinkError](err)
	switch {
	case onDisk || renaming || s.addr.scheme == "file":
		return &fault{fmt.Sprintf("%v: check the disk and folder of the clone", err), nil}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return tell(ErrUnreachable, "the connection ended early (%v): check the server's health", err)
	}
	return tell(ErrRepository, "no Git repository answers (%v): check the URL", err)
}
