package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A socket costs more than a query, so it is used for some; but not for so many that it were worth looking for its port.
const (
	socketUses = 32
	socketLife = 2 * time.Second
	socketsMax = 32 // kept for one resolver
)

// socket is connected to one resolver.
type socket struct {
	*net.UDPConn
	uses  int
	until time.Time
}

// sockets are those that one resolver can be asked over, and nobody uses now.
type sockets struct {
	mu   sync.Mutex
	free []*socket
	over bool
}

// take is a socket for one query, which the caller gives back or closes.
func (s *sockets) take(ctx context.Context, to netip.AddrPort) (*socket, error) {
	now := time.Now()
	s.mu.Lock()
	for n := len(s.free) - 1; n >= 0; n-- {
		c := s.free[n]
		s.free = s.free[:n]
		if now.Before(c.until) {
			s.mu.Unlock()
			return c, nil
		}
		_ = c.Close()
	}
	s.mu.Unlock()
	c, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	return &socket{UDPConn: c, until: now.Add(socketLife)}, nil
}

// give keeps c for the next query, as long as it is good for one.
func (s *sockets) give(c *socket) {
	c.uses++
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || c.uses == socketUses || len(s.free) == socketsMax {
		_ = c.Close()
		return
	}
	s.free = append(s.free, c)
}

// end closes what is free and keeps nothing from now on.
func (s *sockets) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, c := range s.free {
		_ = c.Close()
	}
	s.free = nil
}
