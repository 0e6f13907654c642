package etcd

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/fleet"
)

// BenchmarkIdle is what a server's copy of the fleet's memory costs while nothing happens, an hour: a member with the sessions of five
// nodes, whose leader holds its lease. Beside it the same process without: that costs nothing but the runtime's own.
func BenchmarkIdle(b *testing.B) {
	const looked = 10 * time.Second
	measure := func() (cpu time.Duration, written int64) {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		raw, err := os.ReadFile("/proc/self/io")
		if err != nil {
			b.Skip(err)
		}
		for line := range strings.Lines(string(raw)) {
			_, _ = fmt.Sscanf(line, "write_bytes: %d", &written)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()), written
	}
	hour := func(name string) {
		cpu, written := measure()
		<-time.After(looked) // what is measured is that nothing happens
		cpuAfter, writtenAfter := measure()
		b.ReportMetric((cpuAfter-cpu).Seconds()*float64(time.Hour/looked), name+"-cpu-s/h")
		b.ReportMetric(float64(writtenAfter-written)*float64(time.Hour/looked)/(1<<20), name+"-MiB-written/h")
	}
	for range b.N {
		hour("without")
		m := member(b)
		var stores []*Store
		for i := range 5 {
			s, err := Open(b.Context(), Config{Endpoints: m.Endpoints(), Node: fleet.NodeName(fmt.Sprint("n", i))})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Report(b.Context(), fleet.NodeReport{Node: s.cfg.Node, Epoch: 1}); err != nil {
				b.Fatal(err)
			}
			stores = append(stores, s)
		}
		if _, err := stores[0].Campaign(b.Context()); err != nil {
			b.Fatal(err)
		}
		hour("member")
		for _, s := range stores {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		}
	}
}
