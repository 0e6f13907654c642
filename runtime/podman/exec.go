package podman

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/api/handlers"
	"github.com/containers/podman/v4/pkg/bindings"
	"github.com/containers/podman/v4/pkg/bindings/containers"
	"github.com/docker/docker/api/types"

	"github.com/skerry-dev/skerry/runtime/host"
)

// execOutput is how much of what a command writes is kept.
const execOutput = 10 << 10

// Exec runs a command in a running container.
func (m *Machine) Exec(ctx context.Context, container string, command []string) (int, []byte, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return 0, nil, err
	}
	session, err := containers.ExecCreate(conn, container, &handlers.ExecCreateConfig{ExecConfig: types.ExecConfig{
		AttachStdout: true, AttachStderr: true, Cmd: command,
	}})
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
	go func() {
		output, err := attach(always, session)
		done <- attached{output, err}
	}()
	var got attached
	select {
	case got = <-done:
	case <-ctx.Done():
		killExec(always, container, session, func() bool { return len(done) > 0 })
		dismiss(session)
		return 0, nil, ctx.Err()
	}
	defer dismiss(session)
	if got.err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", container, kind(ctx, got.err))
	}
	end, err := ended(always, session)
	if err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", container, kind(ctx, err))
	}
	return end.ExitCode, got.output, nil
}

// ended is a session whose output has ended, once Podman has its exit code. It has it a moment later.
func ended(ctx context.Context, session string) (*define.InspectExecSession, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		s, err := containers.ExecInspect(ctx, session, nil)
		if err != nil || !s.Running || wait > time.Second {
			return s, err
		}
		time.Sleep(wait)
	}
}

// attach starts a session and reads what it writes until it ends.
func attach(ctx context.Context, session string) ([]byte, error) {
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

// killExec kills what a session runs, and all that came of it. Podman has no call for that. The session may not have
// come to its process yet.
func killExec(ctx context.Context, container, session string, over func() bool) {
	deadline := time.Now().Add(killPatience)
	for wait := time.Millisecond; !over() && time.Now().Before(deadline); wait = min(2*wait, 100*time.Millisecond) {
		s, err := containers.ExecInspect(ctx, session, nil)
		if errors.Is(kind(ctx, err), host.ErrNotFound) {
			return
		}
		if err == nil && s.Running && s.Pid > 0 {
			killTree(s.Pid, container)
		}
		if err == nil && !s.Running && s.Pid == 0 && s.CanRemove {
			return
		}
		time.Sleep(wait)
	}
}

// dismiss ends the two processes with which Podman would keep a session that has ended for five minutes more, so that
// someone may ask for its exit code, and for which it waits three seconds when the container is removed. Told to end,
// they remove the session at once.
func dismiss(session string) {
	each(func(pid int) bool {
		args := commandLine(pid)
		if len(args) == 0 || !strings.HasSuffix(args[0], "conmon") {
			return true
		}
		for i := range args {
			if args[i] == "-u" && i+1 < len(args) && args[i+1] == session {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
		}
		return true
	})
}
