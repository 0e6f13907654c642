package podman

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containers/podman/v4/pkg/api/handlers"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/docker/docker/api/types"
)

// execOutput is how much of what a command writes is kept.
const execOutput = 10 << 10

// Exec runs a command in a running container.
func (m *Machine) Exec(ctx context.Context, container string, command []string) (int, []byte, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return 0, nil, err
	}
	session, err := newSession(conn, container, command)
	if err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", container, kind(ctx, err))
	}
	// From here on there may be a process, which must not outlive ctx: what is asked about it does.
	always := context.WithoutCancel(conn)
	type attached struct {
		output []byte
		err    error
	}
	done := make(chan attached, 1)
	var process atomic.Int64
	go func() {
		output, err := attach(always, session, &process)
		done <- attached{output, err}
	}()
	defer dismiss(session)
	var got attached
	select {
	case got = <-done:
	case <-ctx.Done():
		killExec(container, session, &process, func() bool { return len(done) > 0 })
		return 0, nil, ctx.Err()
	}
	code, err := 0, got.err
	if err == nil {
		code, err = ended(always, session)
	}
	if err != nil { // Podman went away, perhaps, and what it started is still there
		killExec(container, session, &process, nil)
		return 0, nil, fmt.Errorf("exec in container %s: %w", container, kind(ctx, err))
	}
	return code, got.output, nil
}

// newSession makes one. When ctx ends before Podman has answered, it may make one all the same, that nobody would ever start or remove:
// what comes of it is removed then, which is waited for a little.
func newSession(ctx context.Context, container string, command []string) (string, error) {
	var session string
	var err error
	always, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	answered, gone := make(chan struct{}), make(chan struct{})
	go func() {
		session, err = containers.ExecCreate(always, container, &handlers.ExecCreateConfig{ExecConfig: types.ExecConfig{
			AttachStdout: true, AttachStderr: true, Cmd: command,
		}})
		close(answered)
	}()
	select {
	case <-answered:
		cancel()
		return session, err
	case <-ctx.Done():
	}
	go func() {
		defer close(gone)
		defer cancel()
		if <-answered; err == nil {
			abandon(always, container, session)
		}
	}()
	select {
	case <-gone:
	case <-time.After(abandonPatience):
	}
	return "", ctx.Err()
}

// abandonPatience is how long it is waited for the removal of a session that nobody wants any more.
const abandonPatience = time.Second

// abandon removes a session that was not started. Before Podman 4.8 there is no call for that, and its record would stay until the container
// goes: it is started there, and killed.
func abandon(ctx context.Context, container, session string) {
	if containers.ExecRemove(ctx, session, nil) == nil {
		return
	}
	defer dismiss(session)
	var process atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = attach(ctx, session, &process) //nolint:errcheck // nobody asks
	}()
	killExec(container, session, &process, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

// ended is the exit code of a session whose output has ended, once Podman has it. It has it a moment later.
func ended(ctx context.Context, session string) (int, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		bounded, cancel := context.WithTimeout(ctx, killPatience)
		s, err := containers.ExecInspect(bounded, session, nil)
		cancel()
		switch {
		case err != nil:
			return 0, err
		case !s.Running:
			return s.ExitCode, nil
		case wait > time.Second:
			return 0, errors.New("its output ended, and it did not")
		}
		time.Sleep(wait)
	}
}

// attach starts a session and reads what it writes until it ends. It notes the session's process, which nobody could tell
// when Podman went away, and its monitor with it.
func attach(ctx context.Context, session string, process *atomic.Int64) ([]byte, error) {
	client, err := bindings.GetClient(ctx)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	response, err := client.DoRequest(ctx, strings.NewReader(`{"Detach":false,"Tty":false}`), http.MethodPost, "/exec/%s/start", nil, header, session)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if !response.IsSuccess() && !response.IsInformational() {
		return nil, response.Process(nil)
	}
	if s, err := containers.ExecInspect(ctx, session, nil); err == nil {
		process.Store(int64(s.Pid))
	}
	return demultiplex(response.Body, execOutput)
}

// demultiplex reads frames of both streams, each behind a header of 8 bytes, and keeps the first of what they hold.
func demultiplex(r io.Reader, most int) ([]byte, error) {
	var output []byte
	var header [8]byte
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return output, err
		}
		size := int64(binary.BigEndian.Uint32(header[4:]))
		take := min(size, int64(most-len(output)))
		frame := make([]byte, take)
		if _, err := io.ReadFull(r, frame); err != nil {
			return output, err
		}
		output = append(output, frame...)
		if _, err := io.CopyN(io.Discard, r, size-take); err != nil {
			return output, err
		}
	}
}

// killPatience is how long killing a command is tried: what is left by then cannot be killed.
const killPatience = 10 * time.Second

// killExec kills what a session runs, and all that came of it, until it is over; without over, until nothing is seen of
// it any more. Podman has no call for that, and may be gone; but the session's monitor is there from before its process
// until after. The session may not have come to its process yet.
func killExec(container, session string, process *atomic.Int64, over func() bool) {
	deadline := time.Now().Add(killPatience)
	idle := 0
	for wait := time.Millisecond; time.Now().Before(deadline); wait = min(2*wait, 100*time.Millisecond) {
		if over != nil && over() || over == nil && idle > idleRounds {
			return
		}
		idle++
		pids := []int{int(process.Load())}
		for _, monitor := range monitorsOf(session) {
			pids = append(pids, childrenOf(monitor)...)
		}
		for _, pid := range pids {
			if pid > 0 && inContainer(pid, container) {
				killTree(pid, container)
				idle = 0
			}
		}
		time.Sleep(wait)
	}
}

// idleRounds is how often nothing was seen of a session, in 60 ms, before it is taken for ended.
const idleRounds = 6

// dismiss ends the two processes with which Podman would keep a session that has ended for five minutes more, so that
// someone may ask for its exit code, and for which it waits three seconds when the container is removed. Told to end,
// they remove the session at once.
func dismiss(session string) {
	told := func() (any bool) {
		for _, pid := range monitorsOf(session) {
			any = syscall.Kill(pid, syscall.SIGTERM) == nil || any
		}
		return any
	}
	if told() { // one that was about to settle down may have missed it
		time.AfterFunc(2*time.Second, func() { told() })
	}
}

// monitorsOf are the processes that watch over a session.
func monitorsOf(session string) []int {
	var monitors []int
	each(func(pid int) bool {
		args := commandLine(pid)
		if len(args) == 0 || !strings.HasSuffix(args[0], "conmon") {
			return true
		}
		if at := slices.Index(args, "-u"); at >= 0 && at+1 < len(args) && args[at+1] == session {
			monitors = append(monitors, pid)
		}
		return true
	})
	return monitors
}

func childrenOf(parent int) []int {
	var children []int
	each(func(pid int) bool {
		if p, _, ok := lineage(pid); ok && p == parent {
			children = append(children, pid)
		}
		return true
	})
	return children
}
