package lab

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// nextPort only goes up, and begins elsewhere in each process, so that no two tests meet.
var nextPort atomic.Int64

// Port is a port of TCP and UDP that nobody has on any address, and that neither another call in this process gets nor the kernel gives
// to a socket that asks for none: it is below those. It works without a lab, too.
func Port(t testing.TB) uint16 {
	t.Helper()
	for range 10_000 {
		number := uint16(20_000 + (int64(os.Getpid())*101+nextPort.Add(1))%10_000)
		at := fmt.Sprintf(":%d", number)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at)
		if err != nil {
			continue
		}
		u, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", at)
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return number
		}
	}
	t.Fatal("no port is free")
	return 0
}
