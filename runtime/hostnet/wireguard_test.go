package hostnet

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// TestWireGuard: pods of three machines reach each other as they are, and on the lines between machines there is nothing but what WireGuard
// wraps. Nothing is left in the end.
func TestWireGuard(t *testing.T) {
	r := newRow(t)
	r.apart(1, 2)
	before := map[int]string{}
	for n := 1; n <= rowSize; n++ {
		before[n] = r.state(n)
	}
	for _, c := range []struct {
		name string
		from func()
	}{
		{"from nothing", func() {}},
		{"from others' ways", func() { r.serve(byLink) }},
		{"from VXLAN", func() { r.serve(always) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			c.from()
			r.encrypt()
			plain := tap(t, 51820, "uh1", "uh2", "uh3")
			r.all()
			for _, to := range []int{2, 3} {
				// Not to be cut on the way, a datagram may be lost: then its sender knows, and cuts the next one itself.
				_ = r.send(1, to, 1472, unix.IP_PMTUDISC_WANT)
				for _, size := range []int{1392, 1393, 1472, 9000} {
					for _, discover := range []int{unix.IP_PMTUDISC_WANT, unix.IP_PMTUDISC_DONT} {
						if err := r.send(1, to, size, discover); err != nil {
							t.Errorf("a datagram of %d bytes (%d) to h%d: %v", size, discover, to, err)
						}
					}
				}
				if err := r.send(1, to, 1420-28, unix.IP_PMTUDISC_DO); err != nil {
					t.Errorf("a datagram that fits, and must not be cut: %v", err)
				}
				if err := r.send(1, to, 1420-27, unix.IP_PMTUDISC_DO); err == nil {
					t.Error("a datagram that does not fit, and must not be cut, arrives")
				}
				r.stream(1, to)
				r.stream(to, 1)
			}
			fenced := r.encrypted(1)
			fenced.Fences = []fleet.Fence{{Pod: rowPodAddr(1, 1), Ingress: fleet.Gate{Closed: true, Passes: []fleet.Pass{{Peers: []netip.Prefix{netip.PrefixFrom(rowPodAddr(3, 1), 32)}, Last: 65535}}}}}
			r.serveOn(1, fenced)
			r.apart(2, 1)
			r.reaches(3, 1, 1, 1)
			r.serveOn(1, r.encrypted(1))
			for _, to := range []int{2, 3} { // the machine itself
				if _, seen, err := ask(rowHost(1), "tcp", at(rowPodAddr(to, 1), 8080)); err != nil || seen != rowPods(1).Addr().String() {
					t.Errorf("h1 itself asks h%d's pod and is seen as %q: %v", to, seen, err)
				}
			}
			for n := 1; n <= rowSize; n++ {
				if got := r.sh(n, "ip link"); strings.Contains(got, tunnelName) {
					t.Errorf("on h%d there is VXLAN yet:\n%s", n, got)
				}
			}
			for _, p := range plain() {
				t.Errorf("on the line there is %s", p)
			}
		})
	}
	r.t = t
	r.serve(byLink) // and back
	for n := 1; n <= rowSize; n++ {
		if got := r.sh(n, "ip link"); strings.Contains(got, wireguardName) {
			t.Errorf("on h%d there is WireGuard yet:\n%s", n, got)
		}
	}
	r.all()
	r.encrypt()
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, fleet.HostNet{})
		if diff := cmp.Diff(before[n], r.state(n)); diff != "" {
			t.Errorf("on h%d there is left:\n%s", n, diff)
		}
		for _, secret := range []string{base64.StdEncoding.EncodeToString(r.ends[n].key[:]), hex.EncodeToString(r.ends[n].key[:])} {
			if strings.Contains(r.log.String(), secret) {
				t.Errorf("h%d's private key is logged", n)
			}
		}
	}
	r.apart(1, 2)
}

// tap listens on links until it is asked what passed there besides UDP to ports of that number, and what finds out where neighbours
// are (ARP and IGMP).
func tap(t *testing.T, port uint16, links ...string) func() []string {
	t.Helper()
	const all, buffer = 0x0300, 64 << 20 // ETH_P_ALL as the network has it
	fds := map[string]int{}
	for _, name := range links {
		link, err := net.InterfaceByName(name)
		must(t, err)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer))
		must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
		fds[name] = fd
	}
	return func() (plain []string) {
		t.Helper()
		for name, fd := range fds {
			b, wrapped := make([]byte, 100), 0
			for {
				n, _, err := unix.Recvfrom(fd, b, unix.MSG_TRUNC)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				must(t, err)
				frame := b[:min(n, len(b))]
				const ethernet, options = 14, 0x45
				switch {
				case len(frame) < ethernet+28 || frame[12] == 0x08 && frame[13] == 0x06: // ARP
				case frame[12] == 0x08 && frame[13] == 0 && frame[ethernet] == options && frame[ethernet+9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(frame[ethernet+22:]) == port:
					wrapped++
				case frame[12] == 0x08 && frame[13] == 0 && frame[ethernet+9] != unix.IPPROTO_IGMP:
					plain = append(plain, fmt.Sprintf("%s: %d bytes of protocol %d from %v to %v", name, n, frame[ethernet+9], frame[ethernet+12:ethernet+16], frame[ethernet+16:ethernet+20]))
				}
			}
			stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			must(t, err)
			if stats.Drops > 0 || wrapped == 0 {
				t.Errorf("on %s there were %d wrapped packets seen, and %d missed", name, wrapped, stats.Drops)
			}
		}
		return plain
	}
}

// TestTapSees: what tap is for is seen by it.
func TestTapSees(t *testing.T) {
	r := newRow(t)
	r.serve(byLink)
	plain := tap(t, 4789, "uh3")
	r.reaches(1, 1, 3, 1)
	if got := plain(); len(got) > 0 {
		t.Errorf("in a tunnel: %q", got)
	}
	plain = tap(t, 4789, "uh3")
	r.reaches(1, 1, 3, 1)
	if _, _, err := ask(rowHost(1), "udp", at(rowAddr(3), 8080)); err == nil {
		t.Error("h3 itself answers")
	}
	if got := plain(); len(got) == 0 {
		t.Error("a plain packet is not seen")
	}
}

// TestStrangersAreOutside: who has another key than others were told gets nothing through, and neither does a node for another's pods.
func TestStrangersAreOutside(t *testing.T) {
	r := newRow(t)
	known := r.ends[3].Key()
	stranger, err := NewWireGuard(rowSeed(9), slog.New(slog.DiscardHandler))
	must(t, err)
	r.ends[3] = stranger
	for n := 1; n <= rowSize; n++ {
		want := r.encrypted(n)
		for i := range want.Routes {
			if want.Routes[i].Pods == rowPods(3) {
				want.Routes[i].Key = known
			}
		}
		r.serveOn(n, want)
	}
	r.meet(1, 2)
	r.apart(3, 1)
	r.apart(1, 3)

	// h2 is one of them, and says that it is h3: a packet from there is let in by nobody.
	heard := listenUDP(t, rowPod(1, 1), 9999)
	for _, c := range []struct {
		from  netip.Addr
		comes bool
	}{{rowPodAddr(3, 1), false}, {rowPodAddr(2, 1), true}} {
		r.sh(2, "ip addr add "+c.from.String()+"/32 dev lo")
		in(rowHost(2), func() {
			var conn net.Conn
			conn, err = (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(at(c.from, 0))}).DialContext(t.Context(), "udp", at(rowPodAddr(1, 1), 9999).String())
			must(t, err)
			_, err = conn.Write([]byte(c.from.String()))
			must(t, errors.Join(err, conn.Close()))
		})
	}
	// They come in order, if they come.
	b := make([]byte, 100)
	must(t, heard.SetReadDeadline(time.Now().Add(2*time.Second)))
	if n, err := heard.Read(b); err != nil || string(b[:n]) != rowPodAddr(2, 1).String() {
		t.Errorf("h1's pod hears %q, %v", b[:n], err)
	}
}

func listenUDP(t *testing.T, ns string, port int) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	var err error
	in(ns, func() { c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port}) })
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestWireGuardIsMended: what others take away is back with the next Serve, and it rings.
func TestWireGuardIsMended(t *testing.T) {
	r := newRow(t)
	r.encrypt()
	r.all()
	for _, c := range []struct{ name, command string }{
		{"the tunnel is removed", "ip link del skerry-wg"},
		{"the tunnel is switched off", "ip link set skerry-wg down"},
		{"its address is removed", "ip addr del " + rowPods(1).Addr().String() + "/32 dev skerry-wg"},
		{"its size is changed", "ip link set skerry-wg mtu 1300"},
		{"a route through it is removed", "ip route del " + rowPods(3).String()},
		{"a route is led astray", "ip route replace " + rowPods(2).String() + " via 192.168.78.1 dev eth0 proto 83"},
		{"routes are flushed", "ip route flush proto 83"},
		{"the link was down", "ip link set eth0 down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			bell := watching(t, func(ctx context.Context, ring func()) (err error) {
				in(rowHost(1), func() { err = WatchRoutes(ctx, ring) })
				return err
			})
			if strings.Contains(c.name, "removed") && !strings.Contains(c.name, "size") {
				r.until(bell, c.command)
			} else {
				r.sh(1, c.command)
			}
			if strings.Contains(c.command, "eth0 down") {
				r.sh(1, "ip link set eth0 up")
				r.sh(1, "ip route add default via "+rowRouter(1).String())
			}
			r.encrypt()
			r.reaches(1, 1, 2, 1)
			r.reaches(1, 1, 3, 1)
			r.reaches(3, 1, 1, 1)
			if got := r.sh(1, "ip link show skerry-wg"); !strings.Contains(got, "mtu 1420") {
				t.Errorf("it has another size: %s", got)
			}
		})
	}
}

// until has something happen on h1 once it is certain that bell watches it, and waits for the bell.
func (r *row) until(bell <-chan struct{}, command string) {
	r.t.Helper()
	for begun := time.Now(); len(bell) == 0; {
		r.sh(1, "ip addr add 192.168.78.111/24 dev eth0")
		r.sh(1, "ip addr del 192.168.78.111/24 dev eth0")
		if time.Since(begun) > 5*time.Second {
			r.t.Fatal("it does not ring")
		}
	}
	for quiet := false; !quiet; {
		select {
		case <-bell:
		case <-time.After(200 * time.Millisecond):
			quiet = true
		}
	}
	r.sh(1, command)
	select {
	case <-bell:
	case <-time.After(5 * time.Second):
		r.t.Errorf("%s does not ring", command)
	}
}

// TestWireGuardFollows: a machine gets another address, key and port; one leaves. Connections of those that stay as they are go on.
func TestWireGuardFollows(t *testing.T) {
	r := newRow(t)
	r.encrypt()
	r.all()
	under, err := dial(rowPod(1, 1), "udp", at(rowPodAddr(3, 1), 8080))
	must(t, err)
	defer under.Close()
	since := r.handshake(1, 3)
	goesOn := func() {
		t.Helper()
		must(t, exchangeOf(under, 10, unix.IP_PMTUDISC_DONT))
		if now := r.handshake(1, 3); now != since {
			t.Errorf("h1 and h3 had to meet anew: %s, before %s", now, since)
		}
	}
	goesOn()

	const elsewhere = "192.168.78.77"
	r.sh(2, "ip addr flush dev eth0")
	r.sh(2, "ip addr add "+elsewhere+"/24 dev eth0")
	r.sh(2, "ip route add default via 192.168.78.1")
	move := func(n int) fleet.HostNet {
		want := r.encrypted(n)
		for i := range want.Routes {
			if want.Routes[i].Pods == rowPods(2) {
				want.Routes[i].Via = netip.MustParseAddr(elsewhere)
			}
		}
		return want
	}
	r.serveOn(1, move(1))
	r.reaches(1, 1, 2, 1) // who was told speaks first
	r.reaches(2, 1, 3, 1) // and it to one that was not: it must not hold to the address that it had
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, move(n))
	}
	r.all()
	goesOn()

	// It begins anew with another key, as one that has left and joined again.
	r.ends[2].Close()
	r.ends[2], err = NewWireGuard(rowSeed(22), slog.New(slog.DiscardHandler))
	must(t, err)
	delete(r.nets, 2)
	for n := 1; n <= rowSize; n++ {
		r.serveOn(n, move(n))
	}
	r.meet(1, 2)
	r.meet(2, 3)
	r.all()
	goesOn()

	// h2 leaves: the others forget it.
	for _, n := range []int{1, 3} {
		want := move(n)
		want.Routes = slices.DeleteFunc(want.Routes, func(r fleet.Route) bool { return r.Pods == rowPods(2) })
		r.serveOn(n, want)
		is, err := r.ends[n].inside.state()
		must(t, err)
		if len(is.Peers) != 1 {
			t.Errorf("h%d knows %d others", n, len(is.Peers))
		}
	}
	r.apart(2, 1)
	goesOn()

	for _, n := range []int{1, 3} { // another port
		want := move(n)
		want.Tunnel.Port = 51999
		r.serveOn(n, want)
	}
	r.reaches(1, 1, 3, 1)
	r.reaches(3, 1, 1, 1)
}

// handshake is when two machines last agreed on keys for what they send.
func (r *row) handshake(n, with int) string {
	r.t.Helper()
	text, err := r.ends[n].inside.IpcGet()
	must(r.t, err)
	key := r.ends[with].Key()
	_, after, _ := strings.Cut(text, "public_key="+hex.EncodeToString(key[:]))
	_, after, _ = strings.Cut(after, "last_handshake_time_sec=")
	at, _, _ := strings.Cut(after, "\ntx_bytes")
	return at
}

// TestWireGuardCannot: where it cannot be, it is said, and all else is as wanted.
func TestWireGuardCannot(t *testing.T) {
	r := newRow(t)
	for _, c := range []struct {
		name, make, undo string
		want             []string
	}{
		{"a link of that name", "ip link add skerry-wg type bridge", "ip link del skerry-wg", []string{"skerry-wg", "is not Skerry's"}},
		{"a tun of that name", "ip tuntap add skerry-wg mode tun", "ip link del skerry-wg", []string{"skerry-wg", "is not Skerry's"}},
		{"no tun", "mount -t tmpfs none /dev/net", "umount /dev/net", []string{"modprobe wireguard", "operation not supported", "/dev/net/tun", "no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.serveOn(1, fleet.HostNet{})
			do := func(command string) {
				if strings.Contains(command, "mount") {
					must(t, exec.CommandContext(t.Context(), "sh", "-c", command).Run())
				} else {
					r.sh(1, command)
				}
			}
			do(c.make)
			err := r.tryOn(1, r.encrypted(1))
			if _, partly := errors.AsType[host.Partly](err); !partly {
				t.Errorf("%v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%v; want %q", err, want)
				}
			}
			r.serveOn(1, fleet.HostNet{})
			do(c.undo)
			r.encrypt()
			r.reaches(1, 1, 2, 1)
		})
	}
	r.t = t
	r.serveOn(1, fleet.HostNet{})
	taken := listenUDP(t, rowHost(1), 51820)
	if err := r.tryOn(1, r.encrypted(1)); err == nil || !strings.Contains(err.Error(), "network.wireguardPort") {
		t.Errorf("a port that somebody else has: %v", err)
	}
	must(t, taken.Close())
	r.encrypt()
	r.all()
	if err := (*WireGuard)(nil).lay(r.encrypted(1).Routes, r.encrypted(1).Tunnel); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("without a key: %v", err)
	}
}

// TestWireGuardOutlives: another Net takes over what works, as a new agent in the same process does.
func TestWireGuardOutlives(t *testing.T) {
	r := newRow(t)
	r.encrypt()
	r.all()
	since, link := r.handshake(1, 2), r.sh(1, "ip -o link show skerry-wg")
	clear(r.nets)
	r.encrypt()
	r.encrypt()
	r.reaches(1, 1, 2, 1)
	if now := r.handshake(1, 2); now != since || r.sh(1, "ip -o link show skerry-wg") != link {
		t.Error("it was made anew")
	}
}

func aKey(n byte) fleet.PublicKey { return fleet.PublicKey{n} }

func aRoute(n byte) fleet.Route {
	return fleet.Route{Node: "n", Pods: rowPods(int(n)), Via: netip.AddrFrom4([4]byte{192, 0, 2, n}), Tunnel: true, Key: aKey(n)}
}

func aPeer(n byte) wgtypes.Peer {
	return wgtypes.Peer{
		PublicKey: wgtypes.Key(aKey(n)), Endpoint: &net.UDPAddr{IP: net.IPv4(192, 0, 2, n), Port: 51820}, PersistentKeepaliveInterval: keepalive,
		AllowedIPs: []net.IPNet{asNet(rowPods(int(n)))},
	}
}

// TestRetold: a device, the kernel's or another, is told what it does not know, and nothing else.
func TestRetold(t *testing.T) {
	own := wgtypes.Key{99}
	as := func(n byte, edit func(*wgtypes.Peer)) wgtypes.Peer {
		p := aPeer(n)
		edit(&p)
		return p
	}
	roamed := func(p *wgtypes.Peer) { p.Endpoint = &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 999} }
	const whole = "endpoint=192.0.2.%[1]d:51820 persistent_keepalive_interval=25 replace_allowed_ips=true allowed_ip=10.42.%[1]d.0/24"
	told := func(n byte) string {
		return "public_key=" + hex.EncodeToString(append([]byte{n}, make([]byte, 31)...)) + " " + fmt.Sprintf(whole, n)
	}
	removed := func(n byte) string {
		return "public_key=" + hex.EncodeToString(append([]byte{n}, make([]byte, 31)...)) + " remove=true"
	}
	said := places{wgtypes.Key(aKey(1)): netip.MustParseAddrPort("192.0.2.1:51820"), wgtypes.Key(aKey(2)): netip.MustParseAddrPort("192.0.2.2:51820")}
	moved := aRoute(1)
	moved.Via = netip.MustParseAddr("192.0.2.77")
	for _, c := range []struct {
		name   string
		is     wgtypes.Device
		told   places
		routes []fleet.Route
		want   []string
	}{
		{"a new one", wgtypes.Device{}, nil, []fleet.Route{aRoute(1), aRoute(2)}, []string{"private_key=" + hex.EncodeToString(own[:]), "listen_port=51820", told(1), told(2)}},
		{"as it should be", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(2), aPeer(1)}}, said, []fleet.Route{aRoute(1), aRoute(2)}, nil},
		{"of an earlier process", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(2), aPeer(1)}}, nil, []fleet.Route{aRoute(1), aRoute(2)}, nil},
		{"of an earlier process, heard elsewhere", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(1, roamed)}}, nil, []fleet.Route{aRoute(1)}, []string{told(1)}},
		{"heard elsewhere", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(1, roamed)}}, said, []fleet.Route{aRoute(1)}, nil},
		{"moved", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(1), aPeer(2)}}, said, []fleet.Route{moved, aRoute(2)}, []string{strings.Replace(told(1), "192.0.2.1:", "192.0.2.77:", 1)}},
		{"one comes", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(1)}}, said, []fleet.Route{aRoute(1), aRoute(3)}, []string{told(3)}},
		{"one goes", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(1), aPeer(2)}}, said, []fleet.Route{aRoute(2)}, []string{removed(1)}},
		{"one goes before another gets its pods", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(7, func(p *wgtypes.Peer) { p.AllowedIPs = aPeer(1).AllowedIPs })}}, said, []fleet.Route{aRoute(1)}, []string{removed(7), told(1)}},
		{"other pods", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(1, func(p *wgtypes.Peer) { p.AllowedIPs = aPeer(2).AllowedIPs })}}, said, []fleet.Route{aRoute(1)}, []string{told(1)}},
		{"more pods", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(1, func(p *wgtypes.Peer) { p.AllowedIPs = append(p.AllowedIPs, aPeer(2).AllowedIPs...) })}}, said, []fleet.Route{aRoute(1)}, []string{told(1)}},
		{"silent", wgtypes.Device{PrivateKey: own, ListenPort: 51820, Peers: []wgtypes.Peer{as(1, func(p *wgtypes.Peer) { p.PersistentKeepaliveInterval = 0 })}}, said, []fleet.Route{aRoute(1)}, []string{told(1)}},
		{"another key", wgtypes.Device{PrivateKey: wgtypes.Key{1}, ListenPort: 51820, Peers: []wgtypes.Peer{aPeer(1)}}, said, []fleet.Route{aRoute(1)}, []string{"private_key=" + hex.EncodeToString(own[:])}},
	} {
		t.Run(c.name, func(t *testing.T) {
			change, now := retold(&c.is, own, 51820, c.routes, c.told)
			want := ""
			for _, line := range c.want {
				want += strings.ReplaceAll(line, " ", "\n") + "\n"
			}
			if diff := cmp.Diff(want, asText(change)); diff != "" {
				t.Error(diff)
			}
			for _, r := range c.routes {
				if now[wgtypes.Key(r.Key)] != netip.AddrPortFrom(r.Via, 51820) {
					t.Errorf("it remembers %v", now)
				}
			}
		})
	}
}

// TestFromText: what a device in a process answers is read, and what cannot be read is not repeated: it may be its key.
func TestFromText(t *testing.T) {
	key := strings.Repeat("0a", 32)
	is, err := fromText("private_key=" + key + "\nlisten_port=51820\nfwmark=1\npublic_key=" + strings.Repeat("0b", 32) + "\npreshared_key=" + strings.Repeat("00", 32) +
		"\nprotocol_version=1\nendpoint=192.0.2.1:51820\nlast_handshake_time_sec=1\npersistent_keepalive_interval=25\nallowed_ip=10.42.1.0/24\nallowed_ip=10.42.2.0/24\n")
	must(t, err)
	if is.PrivateKey[31] != 10 || is.ListenPort != 51820 || len(is.Peers) != 1 || is.Peers[0].PublicKey[0] != 11 || is.Peers[0].Endpoint.String() != "192.0.2.1:51820" ||
		is.Peers[0].PersistentKeepaliveInterval != keepalive || len(is.Peers[0].AllowedIPs) != 2 || is.Peers[0].AllowedIPs[1].String() != "10.42.2.0/24" {
		t.Errorf("%+v", is)
	}
	for _, text := range []string{"private_key=" + key + "0", "private_key=zz" + key, "listen_port=" + key, "public_key=" + key[1:], "allowed_ip=" + key, "endpoint=" + key, "public_key=" + key + "\nendpoint=" + key} {
		if _, err := fromText(text); err == nil || strings.Contains(err.Error(), "0a0a") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
