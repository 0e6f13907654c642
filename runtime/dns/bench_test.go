package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// serving makes this program one of the servers of the benchmark: a resolver, or a Server that asks the one at the address.
const serving = "SKERRY_TEST_SERVES"

func TestMain(m *testing.M) {
	what := os.Getenv(serving)
	if what == "" {
		os.Exit(m.Run())
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	if what == "resolver" {
		h := wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) { _ = w.WriteMsg(reply(q, "192.0.2.1")) })
		panic((&wire.Server{PacketConn: p, Handler: h}).ActivateAndServe())
	}
	up := netip.MustParseAddrPort(what)
	s := New(Config{Upstreams: func() []netip.AddrPort { return []netip.AddrPort{up} }})
	s.Set(zone())
	panic(s.Serve(context.Background(), p, l))
}

// process starts a server in a process of its own and returns its address.
func process(b *testing.B, what string) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serving+"="+what)
	cmd.Stderr = os.Stderr
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
	return strings.TrimSpace(line)
}

// way is one of those that are compared.
type way struct {
	name, at, ask string
	took          []time.Duration // of each query
	spent         time.Duration
}

// BenchmarkAnswers asks a resolver, the zone, and the resolver by way of the Server, in turns: as fast as clients
// can, and at a pace that leaves the machine time. Each is a process of its own. What counts are the
// ratios; p99-µs of the zone and of what is forwarded should be below 1000.
func BenchmarkAnswers(b *testing.B) {
	for _, load := range []struct {
		name    string
		clients int
		every   time.Duration // of one client
	}{
		{"full", 8, 0}, {"4000-a-second", 8, 2 * time.Millisecond},
	} {
		b.Run(load.name, func(b *testing.B) {
			up := process(b, "resolver")
			here := process(b, up)
			ways := []*way{
				{name: "direct", at: up, ask: "www.example.org."},
				{name: "zone", at: here, ask: "web.shop.svc.cluster.local."},
				{name: "forward", at: here, ask: "www.example.org."},
			}
			for b.Loop() {
				for _, w := range ways {
					w.round(b, load.clients, load.every)
				}
			}
			var rate [3]float64
			var p99 [3]float64
			for i, w := range ways {
				slices.Sort(w.took)
				rate[i] = float64(len(w.took)) / w.spent.Seconds()
				p99[i] = float64(w.took[len(w.took)*99/100].Nanoseconds()) / 1e3
				b.ReportMetric(p99[i], w.name+"-p99-µs")
				if load.every == 0 {
					b.ReportMetric(rate[i], w.name+"-q/s")
				}
				if i > 0 {
					b.ReportMetric(p99[i]/p99[0], w.name+"/direct-p99")
					if load.every == 0 {
						b.ReportMetric(rate[i]/rate[0], w.name+"/direct-q/s")
					}
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// round is a number of queries of each client, one after another.
func (w *way) round(b *testing.B, clients int, every time.Duration) {
	const each = 500
	packet, err := question(w.ask, wire.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	all := make([][]time.Duration, clients)
	var done sync.WaitGroup
	began := time.Now()
	for i := range clients {
		done.Go(func() {
			c, err := new(net.Dialer).DialContext(b.Context(), "udp", w.at)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			tick := time.NewTicker(max(every, 1))
			defer tick.Stop()
			out, in := slices.Clone(packet), make([]byte, 4096)
			for n := range each {
				if every > 0 {
					<-tick.C
				}
				binary.BigEndian.PutUint16(out, uint16(n))
				asked := time.Now()
				if _, err := c.Write(out); err != nil {
					b.Error(err)
					return
				}
				got, err := c.Read(in)
				if err != nil || got < headerSize || in[7] != 1 || in[1] != out[1] {
					b.Errorf("%s: %v, %x", w.name, err, in[:got])
					return
				}
				all[i] = append(all[i], time.Since(asked))
			}
		})
	}
	done.Wait()
	w.spent += time.Since(began)
	w.took = append(w.took, slices.Concat(all...)...)
}
