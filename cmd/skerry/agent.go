package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/podman"
)

func agentCommand(o *options) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "agent", Short: "Run this node's agent, in the foreground", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.agent(cmd.Context(), verbose) },
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// gcPercent trades a little of the processor for memory: an agent is idle nearly always, and what it holds is
// small beside what a rendering leaves behind.
const gcPercent = 50

// newLog logs for people on a terminal and for machines elsewhere.
func newLog(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would have nanoseconds, which nobody reads
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

func (o *options) agent(ctx context.Context, verbose bool) error {
	log := newLog(o.err, verbose)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	systemd, err := takeNotifySocket()
	if err != nil {
		return err
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	memory, err := c.remember(ctx, log)
	if err != nil {
		return err
	}
	listeners, err := c.listen(ctx)
	if err != nil {
		return errors.Join(err, memory.close())
	}
	from := c.file
	if from == "" {
		from = "none: defaults"
	}
	log.Info("agent starts", "version", version, "node", c.Node.Name, "config", from, "dataDir", c.Node.DataDir,
		"socket", c.Listen.Socket, "podman", c.Podman.Socket, "sources", len(c.Sources), "fleet", memory.member != nil)
	if len(c.Sources) == 0 && memory.member == nil {
		log.Warn("no source is configured: the agent looks after what was applied by hand, and nothing else")
	}
	d := &daemon{config: c, memory: memory, log: log, registry: registry, metrics: agent.NewMetrics(registry)}
	drains := memory.member != nil && c.Node.DrainOnShutdown
	if drains {
		ctx = drained(ctx, api.NewClient(c.Listen.Socket), fleet.NodeName(c.Node.Name), log)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var servers sync.WaitGroup
	for i, l := range listeners {
		handler := &d.health // what listens on the network shows health and metrics only
		if i == 0 {
			handler = &d.all
		}
		servers.Go(func() {
			if err := serve(ctx, l, handler); err != nil {
				cancel(fmt.Errorf("serve: %w", err))
			}
		})
	}
	again := make(chan struct{}, 1)
	if memory.member != nil {
		servers.Go(func() {
			err := memory.member.run(ctx, func() {
				select {
				case again <- struct{}{}:
				default:
				}
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	ready := sync.OnceFunc(func() {
		if err := notify(systemd, "READY=1"); err != nil {
			log.Warn("systemd cannot be told that the agent is ready", "err", err)
		}
		if drains {
			servers.Go(func() { isBack(ctx, api.NewClient(c.Listen.Socket), fleet.NodeName(c.Node.Name), log) })
		}
	})
	for ctx.Err() == nil && err == nil {
		err = d.life(ctx, again, ready)
	}
	cause := context.Cause(ctx)
	retired := errors.Is(cause, errRetired)
	if err == nil && !retired && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	_ = notify(systemd, "STOPPING=1")
	cancel(nil)
	servers.Wait()
	err = errors.Join(err, memory.close())
	if retired {
		err = errors.Join(err, c.forgetFleet())
		c.leaveNetwork(context.WithoutCancel(ctx), log)
		log.Info("this node has left its fleet: the agent ends")
		return err
	}
	log.Info("agent ended; containers run on")
	return err
}

// daemon is what outlives one agent: when the fleet's charter changes, another agent takes over in the same process.
type daemon struct {
	config      config
	memory      *memory
	log         *slog.Logger
	registry    *prometheus.Registry
	metrics     *agent.Metrics
	all, health handler
}

// handler answers with whatever it was given last.
type handler struct{ now atomic.Pointer[http.Handler] }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if now := h.now.Load(); now != nil {
		(*now).ServeHTTP(w, r)
		return
	}
	http.Error(w, "the agent is starting", http.StatusServiceUnavailable)
}

func (h *handler) set(now http.Handler) { h.now.Store(&now) }

// life is that of one agent. It ends with ctx, or when another is wanted, which is no error. ready is called once it can say how its
// pods are.
func (d *daemon) life(ctx context.Context, again <-chan struct{}, ready func()) error {
	p, err := d.config.build(ctx, d.memory, wiring{follow: true, act: true, metrics: d.metrics, log: d.log})
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was ended before it began: what could not be asked any more is no fault
		}
		return err
	}
	health := api.Health(p.Agent, promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/", health)
	for _, prefix := range []string{"/skerry/", "/api/", "/apis/"} {
		mux.Handle(prefix, api.Handler(p.Agent))
	}
	if d.memory.member != nil {
		mux.Handle("/skerry/v1/node/", d.memory.member.handler())
	}
	d.health.set(health)
	d.all.set(mux)
	return d.attend(ctx, again, p.Agent.Looked(), ready, p.run)
}

// attend runs an agent until ctx ends, another is wanted or it ends by itself.
func (d *daemon) attend(ctx context.Context, again, looked <-chan struct{}, ready func(), run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer func() { // in this order: an agent that ends by itself ends those that wait for it
		cancel()
		waiting.Wait()
	}()
	waiting.Go(func() {
		select {
		case <-ctx.Done():
		case <-looked: // not before it can say how its pods are
			ready()
		}
	})
	waiting.Go(func() {
		select {
		case <-ctx.Done():
		case <-again:
			d.log.Info("the fleet goes by another charter, or this node has another place in it: the agent begins anew, containers run on")
			cancel()
		}
	})
	return run(ctx)
}

// listen opens the agent's socket and, when one is configured, its network address. A socket on which nobody
// answers was left by an agent that was killed.
func (c config) listen(ctx context.Context) ([]net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(c.Listen.Socket), 0o700); err != nil {
		return nil, err
	}
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", c.Listen.Socket); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another agent answers on %s, and a node has one agent: stop it first", c.Listen.Socket)
	}
	if err := os.Remove(c.Listen.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	socket, err := podman.Listen(c.Listen.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen.socket: %w", err)
	}
	if c.Listen.Address == "" {
		return []net.Listener{socket}, nil
	}
	var lc net.ListenConfig
	network, err := lc.Listen(ctx, "tcp", c.Listen.Address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen.address: %w", err), socket.Close())
	}
	return []net.Listener{socket, network}, nil
}

// answerTime is how long requests that are under way when the agent ends may take for their answer.
const answerTime = time.Second

// serve serves until ctx ends. Streams end with ctx, too; whoever asked for the end is answered yet.
func serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			server.Close()
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-over
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// takeNotifySocket is where systemd wants to be told, empty when that did not start us. What we start must not inherit it:
// podman system service would call itself the main process of our unit.
func takeNotifySocket() (string, error) {
	address := os.Getenv("NOTIFY_SOCKET")
	return address, os.Unsetenv("NOTIFY_SOCKET")
}

// notify tells systemd how far we are.
func notify(address, state string) error {
	if address == "" {
		return nil
	}
	if address[0] == '@' { // an abstract socket
		address = "\x00" + address[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
