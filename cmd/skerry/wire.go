package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/coord/local"
	"github.com/skerry-dev/skerry/coord/pki"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/podman"
	"github.com/skerry-dev/skerry/runtime/probe"
	"github.com/skerry-dev/skerry/runtime/volume"
	"github.com/skerry-dev/skerry/sources/git"
)

// memory is what an agent remembers by: its own file, or its fleet's.
type memory struct {
	own    *local.Store // one process a node has it open
	member *membership  // nil on a node alone
}

// remember opens the memory. It takes the data folder's lock: one process a node.
func (c config) remember(ctx context.Context, log *slog.Logger) (*memory, error) {
	if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w (are you root?)", err)
	}
	own, err := local.Open(filepath.Join(c.Node.DataDir, "skerry.db"))
	if errors.Is(err, local.ErrInUse) {
		return nil, fmt.Errorf("another skerry runs on this node with the data folder %s, and a node has one agent: "+
			"talk to that one through its socket (--socket), or stop it first", c.Node.DataDir)
	}
	if err != nil {
		return nil, err
	}
	member, err := c.openMembership(ctx, log)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return &memory{own, member}, nil
}

func (m *memory) close() error {
	var err error
	if m.member != nil {
		err = m.member.close()
	}
	return errors.Join(err, m.own.Close())
}

// parts is an agent with what it stands on.
type parts struct {
	*agent.Agent
	memory  *memory
	machine *podman.Machine
	service *podman.Service // nil when somebody else looks after Podman
}

// wiring says what an agent in this process is for.
type wiring struct {
	follow, act bool
	metrics     *agent.Metrics
	log         *slog.Logger
}

// pingTimeout is how long Podman may take for its first answer: it may have to be started for it.
const pingTimeout = 30 * time.Second

// build makes an agent.
func (c config) build(ctx context.Context, memory *memory, w wiring) (*parts, error) {
	p := &parts{memory: memory, machine: podman.New(c.Podman.Socket)}
	return p, p.assemble(ctx, c, w)
}

func (p *parts) assemble(ctx context.Context, c config, w wiring) error {
	bounded, cancel := context.WithTimeout(ctx, pingTimeout)
	err := p.machine.Ping(bounded)
	cancel()
	switch {
	case err == nil:
	case !podman.Absent(err): // somebody's Podman is there: it is not ours to replace
		return fmt.Errorf("podman at %s does not answer as it should: %w", c.Podman.Socket, err)
	default:
		w.log.Info("no podman answers: podman system service is started and looked after", "socket", c.Podman.Socket)
		if p.service, err = podman.NewService(c.Podman.Socket, w.log); err != nil {
			return err
		}
	}
	runDir := filepath.Dir(c.Listen.Socket)
	volumes := &volume.Store{Disk: filepath.Join(c.Node.DataDir, "pods"), Memory: filepath.Join(runDir, "memory", "pods")}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return err
	}
	cfg := agent.Config{
		Node: c.node(), Version: version, DataDir: c.Node.DataDir, RunDir: filepath.Join(volumes.Memory, ".agent"),
		Store: p.memory.own, Intents: p.memory.own, Host: p.machine, Volumes: volumes, Prober: &probe.Prober{Execs: p.machine}, Follow: w.follow, Act: w.act, Metrics: w.metrics, Log: w.log,
	}
	member := p.memory.member
	if member != nil {
		cfg.Store, cfg.Intents, cfg.Fleet, cfg.Node = member.store, member.store, member.part(), member.node(cfg.Node)
		if c, err = member.chartered(ctx, c); err != nil {
			return err
		}
		cfg.Node.Pods = member.pods(ctx)
	}
	cfg.Policy = c.policy()
	if w.act {
		if err := volumes.Prepare(); err != nil {
			return err
		}
		pods := netip.PrefixFrom(netip.MustParsePrefix(c.Network.PodCIDR).Addr(), nodeBits) // alone, it is the first part
		if member != nil {
			pods = cfg.Node.Pods
		}
		if cfg.Network, err = c.network(ctx, p.machine, pods, member, w.log); err != nil {
			return err
		}
		if member != nil {
			member.carry(cfg.Network, w.metrics)
		}
	}
	for _, s := range c.Sources {
		source, err := s.open(filepath.Join(c.Node.DataDir, "sources", s.Name))
		if err != nil {
			return err
		}
		if member != nil {
			member.take(fleet.SourceName(s.Name), source)
		}
		cfg.Sources = append(cfg.Sources, agent.Source{
			Name: fleet.SourceName(s.Name), URL: git.Redact(s.URL), Path: s.Path, Source: source, MayEmpty: s.AllowEmpty,
			Rollback: s.OnFailure == fleet.OnFailureRollback,
			Every:    func(failures int) time.Duration { return git.Next(s.Interval, failures, rand.Float64()) },
		})
	}
	p.Agent, err = agent.New(cfg)
	return err
}

// run runs the agent until ctx ends, with Podman where that is ours to run.
func (p *parts) run(ctx context.Context) error {
	serviceCtx, stopService := context.WithCancel(context.WithoutCancel(ctx))
	var service sync.WaitGroup
	if p.service != nil {
		service.Go(func() { p.service.Run(serviceCtx) })
	}
	err := p.Agent.Run(ctx)
	stopService()
	service.Wait()
	return err
}

// backend is an agent, in another process or in this one.
type backend interface {
	Status(ctx context.Context) (api.Status, error)
	Diff(ctx context.Context, set *api.Set) (api.Diff, error)
	Sync(ctx context.Context, name fleet.SourceName) ([]api.Fetched, error)
	Apply(ctx context.Context, set api.Set) error
	Delete(ctx context.Context, set api.Set) error
	Follow(ctx context.Context, tell func(api.Progress) error) error
}

// inProcess is an agent in this process.
type inProcess struct{ *parts }

// Follow tells how far things are.
func (p inProcess) Follow(ctx context.Context, tell func(api.Progress) error) error {
	return api.Follow(ctx, p.Agent, tell)
}

// connect finds the node's agent, or runs one in this process for as long as do takes. alone tells do that
// nobody looks after things when it returns.
func (o *options) connect(ctx context.Context, act bool, do func(ctx context.Context, b backend, alone bool) error) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	client := api.NewClient(c.Listen.Socket)
	if _, err := client.Status(ctx); err == nil {
		return do(ctx, client, false)
	} else if !errors.Is(err, api.ErrNoAgent) {
		return err
	}
	if _, err := pki.LoadMembership(c.fleetDir()); !errors.Is(err, pki.ErrNone) {
		return errors.Join(err, fmt.Errorf("no agent answers on %s, and this node belongs to a fleet, which is asked through it: start it with skerry agent", c.Listen.Socket))
	}
	log := slog.New(slog.NewTextHandler(o.err, &slog.HandlerOptions{Level: slog.LevelError}))
	memory, err := c.remember(ctx, log)
	if err != nil {
		return err
	}
	p, err := c.build(ctx, memory, wiring{act: act, log: log})
	if err != nil {
		return errors.Join(err, memory.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- p.run(ctx)
		cancel()
	}()
	err = do(ctx, inProcess{p}, true)
	cancel()
	if ranErr := errors.Join(<-ended, memory.close()); ranErr != nil {
		return ranErr
	}
	return err
}
