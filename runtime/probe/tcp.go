package probe

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// askTCP is well when something takes the connection. It is closed without a word.
func askTCP(ctx context.Context, a *corev1.TCPSocketAction, address string, named []corev1.ContainerPort) error {
	port, err := number(a.Port, named)
	if err != nil {
		return err
	}
	c, err := connect(ctx, net.JoinHostPort(cmp.Or(a.Host, address), port))
	if err != nil {
		return err
	}
	_ = c.Close() // what it was for is done
	return nil
}

// dialer does without keep-alives, which cost system calls and are for connections that live. It lets connections end
// as connections do: the kubelet's SO_LINGER of one second shortens no TIME_WAIT on Linux, it only has close wait for
// the other side, and one of zero would have servers complain of resets.
var dialer = net.Dialer{KeepAlive: -1}

// connect makes a connection that is of no use any more when ctx ends: who waits on it stops waiting.
func connect(ctx context.Context, address string) (net.Conn, error) {
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, blame(ctx, "connect to "+address, err)
	}
	return &conn{c, context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })}, nil
}

type conn struct {
	net.Conn
	unbind func() bool // from its context
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, plain(err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, plain(err)
}

func (c *conn) Close() error {
	c.unbind()
	return c.Conn.Close()
}

// plain leaves out of an error of package net which call it was and between which addresses: our port is another every
// time.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// blame says whose failing it is that something did not work on the network: ctx's error if that has ended, err itself
// if this machine lacks what it takes, and in all other cases the container's.
func blame(ctx context.Context, what string, err error) error {
	errno, _ := errors.AsType[syscall.Errno](err)
	ended := over(ctx)
	switch {
	case ended != nil:
		return ended
	case slices.Contains(scarce, errno):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unwellf("%s: the connection was closed", what)
	default:
		return unwellf("%s: %v", what, plain(err))
	}
}

// scarce is what this machine may lack: descriptors, memory, addresses and ports of its own.
var scarce = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL}
