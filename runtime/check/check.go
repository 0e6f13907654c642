// Package check answers balancers outside that ask a host whether it has ends of a Service (healthCheckNodePort), as kube-proxy
// does: by HTTP, with 200 where it has some and 503 where it has none, and how many there are.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// patience is how long a client may take to ask.
const patience = 10 * time.Second

// Server answers at one port a Service. Its methods are for one goroutine; what it serves is open until Serve says otherwise.
type Server struct {
	log  *slog.Logger
	open map[uint16]*port
}

type port struct {
	check  atomic.Pointer[fleet.HealthCheck]
	server *http.Server
}

// New returns a Server that answers nothing yet.
func New(log *slog.Logger) *Server { return &Server{log: log, open: map[uint16]*port{}} }

// Serve answers these checks from now on, and no others; a port that stays is never closed. A port that is taken is
// host.ErrConflict, all others are served, and the next Serve tries again.
func (s *Server) Serve(ctx context.Context, checks []fleet.HealthCheck) error {
	wanted := map[uint16]bool{}
	for i := range checks {
		wanted[checks[i].Number] = true
	}
	var errs []error
	for number, p := range s.open {
		if !wanted[number] {
			errs = append(errs, p.server.Close())
			delete(s.open, number)
		}
	}
	for i := range checks {
		c := checks[i]
		if p := s.open[c.Number]; p != nil {
			p.check.Store(&c)
			continue
		}
		if err := s.listen(ctx, c); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) listen(ctx context.Context, c fleet.HealthCheck) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", c.Number))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen at health check port %d of %s: taken by another program: %w", c.Number, c.Service, host.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("listen at health check port %d of %s: %w", c.Number, c.Service, err)
	}
	p := &port{}
	p.check.Store(&c)
	p.server = &http.Server{Handler: p, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.open[c.Number] = p
	go func() {
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("a health check port is not served any more", "port", c.Number, "err", err)
		}
	}()
	return nil
}

// answer is kube-proxy's.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func (p *port) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c := p.check.Load()
	a := answer{LocalEndpoints: c.Ends, ServiceProxyHealthy: true}
	a.Service.Namespace, a.Service.Name = c.Service.Namespace, c.Service.Name
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", fmt.Sprint(c.Ends))
	if c.Ends == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(a) // who asked has gone if it fails
}
