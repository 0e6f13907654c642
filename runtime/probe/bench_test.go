package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
	"github.com/skerry-dev/skerry/runtime/probe"
)

// serving makes this program the server of the benchmarks, so that what they measure is the asking alone.
const serving = "SKERRY_TEST_SERVES"

func TestMain(m *testing.M) {
	if os.Getenv(serving) == "" {
		os.Exit(m.Run())
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })))
}

// serve starts a server in a process of its own and returns its port.
func serve(b *testing.B) int {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serving+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	return port
}

// BenchmarkHTTP is what an HTTP probe costs, beside one by net/http's Transport as the kubelet uses it: one after
// another, and at 500 a second, each alone and in groups. cpu-ns/probe is all of this process, with what the kernel
// does for it; most of it is going to sleep and waking up, of which those that go out together have less.
func BenchmarkHTTP(b *testing.B) {
	port := serve(b)
	url := fmt.Sprintf("http://127.0.0.1:%d/healthz", port)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	ways := []struct {
		name string
		ask  func(context.Context) error
	}{
		{"skerry", func(ctx context.Context) error {
			v, err := new(probe.Prober).Probe(ctx, host.Probe{Handler: httpGet(port, "/healthz")})
			if err == nil && !v.Well {
				err = fmt.Errorf("%+v", v)
			}
			return err
		}},
		{"transport", func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		}},
		{"nothing", func(context.Context) error { return nil }}, // what the pace alone costs
	}
	for _, pace := range []struct {
		name     string
		every    time.Duration
		together int
	}{
		{"one-after-another", 0, 1}, {"one-each-2ms", 2 * time.Millisecond, 1}, {"50-each-100ms", 100 * time.Millisecond, 50},
	} {
		for _, way := range ways {
			b.Run(pace.name+"/"+way.name, func(b *testing.B) {
				b.ReportAllocs()
				tick := time.NewTicker(max(pace.every, 1))
				defer tick.Stop()
				before := spent(b)
				for b.Loop() {
					if pace.every > 0 {
						<-tick.C
					}
					ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
					ask := func() {
						if err := way.ask(ctx); err != nil {
							b.Error(err)
						}
					}
					var all sync.WaitGroup
					for range pace.together - 1 {
						all.Go(ask)
					}
					ask()
					all.Wait()
					cancel()
				}
				b.ReportMetric(float64(spent(b)-before)/float64(b.N*pace.together), "cpu-ns/probe")
			})
		}
	}
}

// spent is the time this process has had of a CPU.
func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
