package vip

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/lab"
)

// BenchmarkRenewal is what it costs to go on holding an address, which is done many times a second.
func BenchmarkRenewal(b *testing.B) {
	lab.Need(b)
	run(b, "ip link add vbench type veth peer name vbench2")
	b.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(b.Context()), "ip", "link", "del", "vbench").Run()
	})
	for _, line := range []string{"ip addr add 10.78.0.1/24 dev vbench", "ip link set vbench up", "ip link set vbench2 up"} {
		run(b, line)
	}
	for _, fence := range []string{FenceBPF, FenceNFT, fenceNFTOld} {
		b.Run(fence, func(b *testing.B) {
			h, err := Open(slog.New(slog.DiscardHandler), Options{Fence: fence})
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			a := netip.MustParseAddr("10.78.0.50")
			for b.Loop() {
				if err := h.Hold(a, bootTime()+time.Minute, netip.Addr{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPacket is what the programs add to each packet of the link: one that is none of the fence's business, and one of an address that
// is held.
func BenchmarkPacket(b *testing.B) {
	lab.Need(b)
	f, err := newBPF()
	must(b, err)
	defer f.release()
	must(b, f.open(vip4, bootTime()+time.Hour))
	for name, last := range map[string]byte{"another": 1, "held": vip4.As4()[3]} {
		b.Run(name, func(b *testing.B) {
			frame := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 28)
			frame = append(append(frame, make([]byte, 12)...), 10, 77, 0, last)
			_, each, err := f.in.Benchmark(append(frame, make([]byte, 8)...), b.N, nil)
			must(b, err)
			b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
		})
	}
}
