package etcd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// serverEnv holds the serverConfig of a process that is a server of a fleet, and no test.
const serverEnv = "SKERRY_TEST_SERVER"

type serverConfig struct {
	Name, Dir, ClientURL string
	Peers                map[string]string
	Endpoints            []string
}

func TestMain(m *testing.M) {
	raw := os.Getenv(serverEnv)
	if raw == "" {
		os.Exit(m.Run())
	}
	if err := serve(raw); err != nil {
		fmt.Println("fails:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is a server that leads when it can, and says what befalls it, until its input ends or it is killed.
func serve(raw string) error {
	var c serverConfig
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m, err := StartMember(ctx, MemberConfig{Name: c.Name, Dir: c.Dir, PeerURL: c.Peers[c.Name], ClientURL: c.ClientURL, InitialCluster: c.Peers})
	if err != nil {
		return err
	}
	<-m.Ready()
	s, err := Open(ctx, Config{Endpoints: c.Endpoints, Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
		cancel()
	}()
	if _, err := s.Campaign(ctx); err == nil {
		fmt.Println("leads")
	}
	<-ctx.Done()
	return s.Close() // the member ends with the process
}

// server is such a process.
type server struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  chan string
}

func serving(t *testing.T, c serverConfig) *server {
	raw, err := json.Marshal(c)
	must(t, err)
	p := &server{cmd: exec.CommandContext(t.Context(), os.Args[0]), said: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), serverEnv+"="+string(raw))
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			t.Log(c.Name, lines.Text())
			p.said <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // or it has ended
		<-read
		_ = p.cmd.Wait()
	})
	return p
}

// leader waits until one of some servers leads. None of them may be away meanwhile once all is well.
func leader(t *testing.T, servers map[string]*server, well bool) string {
	t.Helper()
	found := make(chan string)
	var listening sync.WaitGroup
	defer listening.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, p := range servers {
		listening.Go(func() {
			for {
				select {
				case line := <-p.said:
					if well && strings.Contains(line, "is away") {
						t.Errorf("%s: %s", name, line)
					}
					if line != "leads" {
						continue
					}
				case <-ctx.Done():
					return
				}
				select {
				case found <- name:
				case <-ctx.Done():
				}
				return
			}
		})
	}
	return within(t, found, "somebody leads")
}

// TestLeaderIsKilled: the process that leads the fleet, and raft with it, is killed. The others are never away, and one of them leads.
func TestLeaderIsKilled(t *testing.T) {
	peers, servers := map[string]string{}, map[string]*server{}
	cfgs, dir := map[string]serverConfig{}, t.TempDir()
	var endpoints []string
	for _, name := range []string{"a", "b", "c"} {
		peers[name] = "http://" + port(t)
		endpoints = append(endpoints, "http://"+port(t))
	}
	for i, name := range slices.Sorted(maps.Keys(peers)) {
		cfgs[name] = serverConfig{Name: name, Dir: filepath.Join(dir, name), ClientURL: endpoints[i], Peers: peers, Endpoints: endpoints}
		servers[name] = serving(t, cfgs[name])
	}
	first := leader(t, servers, false)
	s := connected(t, Config{Endpoints: endpoints, Node: "test"})
	lead(t, s, cfgs[first].ClientURL)
	must(t, servers[first].cmd.Process.Kill())
	began := time.Now()
	delete(servers, first)
	second := leader(t, servers, true)
	t.Logf("%s leads %v after %s was killed", second, time.Since(began).Round(10*time.Millisecond), first)
	if why := s.Away(); why != "" {
		t.Errorf("a client is away: %s", why)
	}
}

// lead makes the member at an endpoint raft's leader.
func lead(t *testing.T, s *Store, endpoint string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want, err := s.client.Status(ctx, endpoint)
	must(t, err)
	if want.Leader == want.Header.MemberId {
		return
	}
	list, err := s.client.MemberList(ctx)
	must(t, err)
	for _, m := range list.Members {
		if m.ID != want.Leader {
			continue
		}
		one := connected(t, Config{Endpoints: m.ClientURLs, Node: "test"})
		_, err := one.client.MoveLeader(ctx, want.Header.MemberId)
		must(t, err)
	}
}

// TestEndpoints: a store that was opened with one endpoint and told of others goes on when that one ends, and again when one is left
// that it did not know at first.
func TestEndpoints(t *testing.T) {
	members, _ := three(t)
	s := connected(t, Config{Endpoints: members["a"].Endpoints(), Node: "n", TTL: shortTTL})
	s.SetEndpoints(slices.Concat(members["a"].Endpoints(), members["b"].Endpoints(), members["c"].Endpoints()))
	must(t, members["a"].Stop())
	delete(members, "a")
	written(t, s)
	s.SetEndpoints(members["c"].Endpoints())
	written(t, s)
	until(t, s, "it is well", func() bool { return s.Away() == "" })
}

// written waits until something can be written, and is seen.
func written(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for s.Register(ctx, fleet.Node{Name: "n"}) != nil {
		if ctx.Err() != nil {
			t.Fatal("nothing can be written")
		}
	}
}

// TestStandAside: raft's leadership leaves the member from which the fleet is led, and stays where it is otherwise.
func TestStandAside(t *testing.T) {
	members, _ := three(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	leads := func() string {
		for name, m := range members {
			if s := m.server.Server; s.Leader() == s.MemberID() {
				return name
			}
		}
		return ""
	}
	for range 2 {
		first := leads()
		for first == "" && ctx.Err() == nil {
			first = leads()
		}
		changed := members[first].server.Server.LeaderChanged()
		standing, done := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- members[first].StandAside(standing, func() bool { return true }) }()
		within(t, changed, "raft has another leader")
		if now := leads(); now == first {
			t.Fatalf("%s leads still", first)
		}
		done()
		within(t, ended, "standing aside ends")
	}
}
