package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// exchangeOf sends a datagram of so many bytes and waits for the answer.
func exchangeOf(c net.Conn, size, discover int) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = raw.Control(func(fd uintptr) { fault = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MTU_DISCOVER, discover) })
	if err := errors.Join(err, fault); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	return err
}

// TestRoutes: pods of three machines reach each other as they are, by plain routes and through tunnels, and nothing is left in the end.
func TestRoutes(t *testing.T) {
	r := newRow(t)
	r.apart(1, 2)
	r.apart(1, 3)
	before := map[int]string{}
	for n := 1; n <= rowSize; n++ {
		before[n] = r.state(n)
	}
	for _, c := range []struct {
		name   string
		tunnel func(int) func(int) bool
	}{{"by link", byLink}, {"tunnels", always}, {"by link again", byLink}} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.serve(c.tunnel)
			r.all()
			for _, to := range []int{2, 3} {
				// Not to be cut on the way, a datagram may be lost: then its sender knows, and cuts the next one itself.
				_ = r.send(1, to, 1472, unix.IP_PMTUDISC_WANT)
				for _, size := range []int{1472, 1500, 9000} {
					for _, discover := range []int{unix.IP_PMTUDISC_WANT, unix.IP_PMTUDISC_DONT} {
						if err := r.send(1, to, size, discover); err != nil {
							t.Errorf("a datagram of %d bytes (%d) to h%d: %v", size, discover, to, err)
						}
					}
				}
				r.stream(1, to)
				r.stream(to, 1)
			}
			// The machines themselves, which answer each other by the same way.
			if _, seen, err := ask(rowHost(1), "tcp", at(rowPodAddr(3, 1), 8080)); err != nil || seen != rowPods(1).Addr().String() {
				t.Errorf("h1 itself asks h3's pod and is seen as %q: %v", seen, err)
			}
			if _, _, err := ask(rowHost(1), "tcp", at(rowPodAddr(2, 1), 8080)); err != nil {
				t.Errorf("h1 itself asks h2's pod: %v", err)
			}
		})
	}
	r.t = t
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, fleet.HostNet{})
		if diff := cmp.Diff(before[n], r.state(n)); diff != "" {
			t.Errorf("on h%d there is left:\n%s", n, diff)
		}
	}
	r.apart(1, 2)
}

// TestSegmentsFit: connections through a tunnel are not slow to find out what fits, where nobody is told that a packet does not.
func TestSegmentsFit(t *testing.T) {
	r := newRow(t)
	for n := 1; n <= rowSize; n++ {
		r.sh(n, "nft add table ip deaf; add chain ip deaf out { type filter hook output priority 0; }; add rule ip deaf out icmp type destination-unreachable drop")
	}
	for name, serve := range map[string]func(){"VXLAN": func() { r.serve(always) }, "WireGuard": r.encrypt} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			serve()
			if err := r.send(1, 2, 1472, unix.IP_PMTUDISC_WANT); err == nil {
				t.Fatal("what does not fit was not dropped")
			}
			r.stream(1, 2)
			r.stream(3, 1)
		})
	}
}

// stream sends a megabyte that nobody may cut, which TCP sees to, from one pod to another.
func (r *row) stream(from, to int) {
	r.t.Helper()
	const volume = 1 << 20
	got := make(chan int, 1)
	var l net.Listener
	var err error
	in(rowPod(to, 2), func() { l, err = listenTCP(r.t, ":0") })
	must(r.t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		b, sum := make([]byte, 1<<16), 0
		for {
			n, err := c.Read(b)
			if sum += n; err != nil {
				got <- sum
				return
			}
		}
	}()
	c, err := dial(rowPod(from, 1), "tcp", at(rowPodAddr(to, 2), uint16(l.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		r.t.Errorf("h%d to h%d: %v", from, to, err)
		return
	}
	begun := time.Now()
	must(r.t, c.SetDeadline(begun.Add(5*time.Second)))
	_, err = c.Write(make([]byte, volume))
	if err := errors.Join(err, c.Close()); err != nil {
		r.t.Errorf("h%d to h%d: %v", from, to, err)
	}
	if n := <-got; n != volume {
		r.t.Errorf("of %d bytes from h%d to h%d there came %d", volume, from, to, n)
	}
}

// TestRoutesAreMended: what others take away is back with the next Serve, and it rings.
func TestRoutesAreMended(t *testing.T) {
	r := newRow(t)
	r.serve(byLink)
	for _, c := range []struct{ name, command string }{
		{"the tunnel is removed", "ip link del skerry-vx"},
		{"the tunnel is switched off", "ip link set skerry-vx down"},
		{"the tunnel is told of nobody", "bridge fdb del " + endAddress(rowPods(3)).String() + " dev skerry-vx dst " + rowAddr(3).String()},
		{"the tunnel is told wrong things", "bridge fdb replace " + endAddress(rowPods(3)).String() + " dev skerry-vx dst 192.168.78.99"},
		{"a neighbour is forgotten", "ip neigh del " + rowPods(3).Addr().String() + " dev skerry-vx"},
		{"its address is removed", "ip addr del " + rowPods(1).Addr().String() + "/32 dev skerry-vx"},
		{"its size is changed", "ip link set skerry-vx mtu 1300"},
		{"it is another's", "ip link set skerry-vx address 02:00:00:00:00:01"},
		{"a plain route is removed", "ip route del " + rowPods(2).String()},
		{"a route through it is removed", "ip route del " + rowPods(3).String()},
		{"a route is led astray", "ip route replace " + rowPods(2).String() + " via 192.168.78.1 dev eth0 proto 83"},
		{"routes are flushed", "ip route flush proto 83"},
		{"the link was down", "ip link set eth0 down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.sh(1, c.command)
			if strings.Contains(c.command, "eth0 down") {
				r.sh(1, "ip link set eth0 up")
				r.sh(1, "ip route add default via "+rowRouter(1).String())
			}
			r.serve(byLink)
			r.reaches(1, 1, 2, 1)
			r.reaches(1, 1, 3, 1)
			r.reaches(3, 1, 1, 1)
			if got := r.sh(1, "ip link show skerry-vx"); !strings.Contains(got, "mtu 1450") {
				t.Errorf("it has another size: %s", got)
			}
		})
	}
}

// TestWatchRoutesRings: when others take away what packets for pods of other nodes go by.
func TestWatchRoutesRings(t *testing.T) {
	r := newRow(t)
	bell := watching(t, func(ctx context.Context, ring func()) (err error) {
		in(rowHost(1), func() { err = WatchRoutes(ctx, ring) })
		return err
	})
	for begun := time.Now(); len(bell) == 0; { // until it rings nobody knows that it watches
		r.sh(1, "ip addr add 192.168.78.111/24 dev eth0")
		r.sh(1, "ip addr del 192.168.78.111/24 dev eth0")
		if time.Since(begun) > 5*time.Second {
			t.Fatal("it does not ring")
		}
	}
	for _, command := range []string{
		"ip link del skerry-vx", "ip link set skerry-vx down", "ip route del " + rowPods(2).String(), "ip addr add 192.168.78.111/24 dev eth0", "ip route replace default via 192.168.78.2", "ip link set eth0 down", "ip link set eth0 up",
	} {
		if !strings.Contains(command, "eth0 up") {
			r.serveOn(1, rowRoutes(1, byLink(1)))
		}
		for quiet := false; !quiet; {
			select {
			case <-bell:
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		r.sh(1, command)
		rung(t, bell, command)
	}
}

// TestStrangersRoutesStay: where somebody else's route or link is in the way, it stays, and it is said.
func TestStrangersRoutesStay(t *testing.T) {
	r := newRow(t)
	for _, c := range []struct{ name, make, undo, want string }{
		{"the same range", "ip route add 10.42.2.0/24 via 192.168.78.1", "ip route del 10.42.2.0/24", "10.42.2.0/24 (dev eth0)"},
		{"a part of it", "ip route add unreachable 10.42.2.128/25", "ip route del unreachable 10.42.2.128/25", "10.42.2.128/25"},
		{"a link of that name", "ip link add skerry-vx type bridge", "ip link del skerry-vx", "is not Skerry's"},
		{"a tunnel of that number", "ip link add other type vxlan id 8391 dstport 4789 dev eth0", "ip link del other", "network.vxlanPort"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.serveOn(1, fleet.HostNet{})
			r.sh(1, c.make)
			before := r.sh(1, "ip route show table all") + r.sh(1, "ip link show")
			err := r.tryOn(1, rowRoutes(1, byLink(1)))
			if _, partly := errors.AsType[host.Partly](err); !partly || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			r.serveOn(1, fleet.HostNet{})
			if diff := cmp.Diff(before, r.sh(1, "ip route show table all")+r.sh(1, "ip link show")); diff != "" {
				t.Errorf("what others made is different:\n%s", diff)
			}
			r.sh(1, c.undo)
			r.serve(byLink)
			r.reaches(1, 1, 2, 1)
			r.reaches(1, 1, 3, 1)
		})
	}
}

// TestWideRoutes: a route to more than a node's pods is in nobody's way.
func TestWideRoutes(t *testing.T) {
	r := newRow(t)
	r.serve(byLink)
	r.sh(1, "ip route add 10.32.0.0/12 via 192.168.78.1")
	r.serve(byLink)
	r.reaches(1, 1, 2, 1)
	r.reaches(1, 1, 3, 1)
}

// TestRoutesFollow: a machine gets another address, and one another part of the pod network.
func TestRoutesFollow(t *testing.T) {
	for _, c := range []struct {
		name   string
		tunnel func(int) func(int) bool
	}{{"plain", byLink}, {"tunnel", always}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRow(t)
			r.serve(c.tunnel)
			r.reaches(1, 1, 2, 1)
			r.sh(2, "ip addr flush dev eth0")
			r.sh(2, "ip addr add 192.168.78.77/24 dev eth0")
			r.sh(2, "ip route add default via 192.168.78.1")
			for n := 1; n <= rowSize; n++ {
				want := rowRoutes(n, c.tunnel(n))
				for i := range want.Routes {
					if want.Routes[i].Pods == rowPods(2) {
						want.Routes[i].Via = netip.MustParseAddr("192.168.78.77")
					}
				}
				r.serveOn(n, want)
			}
			r.all()
			for n := 1; n <= rowSize; n++ {
				if got := r.sh(n, "ip route") + r.sh(n, "bridge fdb"); strings.Contains(got, "192.168.78.12 ") {
					t.Errorf("h%d still has the old address:\n%s", n, got)
				}
			}
			// A node leaves: the others forget it, and it them.
			for n := 1; n <= 2; n++ {
				want := rowRoutes(n, c.tunnel(n))
				want.Routes = want.Routes[:1]
				want.Routes[0].Via = map[int]netip.Addr{1: netip.MustParseAddr("192.168.78.77"), 2: rowAddr(1)}[n]
				r.serveOn(n, want)
				if got := r.sh(n, "ip route") + r.sh(n, "bridge fdb") + r.sh(n, "ip neigh"); strings.Contains(got, "10.42.3.") || strings.Contains(got, endAddress(rowPods(3)).String()) {
					t.Errorf("h%d still knows of h3:\n%s", n, got)
				}
			}
			r.serveOn(3, fleet.HostNet{})
			r.reaches(1, 1, 2, 1)
			r.apart(1, 3)
		})
	}
}

// TestAlone: without routes nothing is there, and nothing is looked for.
func TestAlone(t *testing.T) {
	n, _, _ := paper()
	laid := 0
	var fault error
	n.lay = func([]fleet.Route, fleet.Tunnel) error { laid++; return fault }
	for range 3 {
		must(t, n.Serve(t.Context(), fleet.HostNet{}))
	}
	if laid != 1 { // what one before may have left
		t.Errorf("routes were looked at %d times", laid)
	}
	want := fleet.HostNet{Routes: []fleet.Route{{Node: "b"}}}
	must(t, n.Serve(t.Context(), want))
	must(t, n.Serve(t.Context(), want))
	fault = fmt.Errorf("it is so")
	if _, partly := errors.AsType[host.Partly](n.Serve(t.Context(), fleet.HostNet{})); !partly {
		t.Error("a route that is left keeps pods in the rotation, or is not said")
	}
	fault = nil
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	must(t, n.Serve(t.Context(), fleet.HostNet{}))
	if laid != 5 {
		t.Errorf("routes were looked at %d times, want 5", laid)
	}
}
