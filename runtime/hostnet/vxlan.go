package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// All tunnels of VXLAN of a machine are one device, which knows nobody but whom it is told of: nothing is learned from packets, and nothing
// is asked of the network. A node's end has the first address of its part of the pod network, by itself no pod's, and a hardware address
// that is computed from it, so that nodes need not tell each other.

// tunnelName is the device, and tunnelNumber the number of its network: none that others are likely to have on the same port.
const (
	tunnelName   = "skerry-vx"
	tunnelNumber = 8391
)

// endAddress is the hardware address of a node's end, by its part of the pod network.
func endAddress(pods netip.Prefix) net.HardwareAddr {
	a := pods.Masked().Addr().As4()
	return append(net.HardwareAddr{0x02, 0x5b}, a[:]...)
}

// makeTunnel makes the machine's end as it should be, if it is not, and tells it of its peers and no others.
func makeTunnel(want fleet.Tunnel, peers []fleet.Route) (netlink.Link, error) {
	device, err := tunnelDevice(want)
	if err != nil {
		return nil, err
	}
	if err := settle(device, want); err != nil {
		return nil, err
	}
	known := map[neighbour]bool{}
	for _, p := range peers {
		mac, end := endAddress(p.Pods).String(), p.Pods.Masked().Addr()
		known[neighbour{unix.AF_INET, end, mac}] = true
		known[neighbour{unix.AF_BRIDGE, p.Via, mac}] = true
	}
	return device, introduce(device, known)
}

// tunnelDevice is the device, made anew where it is not there or is another. Its link is down then.
func tunnelDevice(want fleet.Tunnel) (netlink.Link, error) {
	is, err := netlink.LinkByName(tunnelName)
	if err == nil {
		v, ok := is.(*netlink.Vxlan)
		switch {
		case !ok:
			return nil, errors.New("there is a link of that name that is not Skerry's")
		case v.VxlanId == tunnelNumber && v.Port == int(want.Port) && !v.Learning && bytes.Equal(v.HardwareAddr, endAddress(want.Pods)):
			return is, nil
		}
		err = netlink.LinkDel(is)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = tunnelName, want.MTU, endAddress(want.Pods)
	err = netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: tunnelNumber, Port: int(want.Port)})
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("UDP port %d, or the VXLAN %d on it, is somebody else's (network.vxlanPort): %w", want.Port, tunnelNumber, err)
	}
	if err != nil {
		return nil, err
	}
	return netlink.LinkByName(tunnelName)
}

// settle gives the device its size and address, and has it take part. What is so already is left alone.
func settle(device netlink.Link, want fleet.Tunnel) error {
	if device.Attrs().MTU != want.MTU {
		if err := netlink.LinkSetMTU(device, want.MTU); err != nil {
			return fmt.Errorf("set its MTU %d: %w", want.MTU, err)
		}
	}
	if device.Attrs().Flags&net.FlagUp == 0 {
		// Packets for pods come in by it, and none of IPv6.
		name := device.Attrs().Name
		for path, value := range map[string]string{"ipv4/conf/" + name + "/forwarding": "1", "ipv6/conf/" + name + "/disable_ipv6": "1"} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", path), []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := netlink.LinkSetUp(device); err != nil {
			return fmt.Errorf("switch it on: %w", err)
		}
	}
	all, err := netlink.AddrList(device, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	own := want.Pods.Masked().Addr()
	missing := true
	for i := range all {
		if a, ok := netip.AddrFromSlice(all[i].IP.To4()); ok && a == own {
			missing = false
			continue
		}
		if err := netlink.AddrDel(device, &all[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take address %s from it: %w", all[i].IP, err)
		}
	}
	if missing {
		host := &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(own.BitLen(), own.BitLen())}
		if err := netlink.AddrReplace(device, &netlink.Addr{IPNet: host}); err != nil {
			return fmt.Errorf("give it address %s: %w", own, err)
		}
	}
	return nil
}

// Aside calls do while no end of the machine's tunnels has an address, and reports whether one had: Podman makes no network in which the machine
// has an address already, and the ends have the first ones of the node's own part. Where none had, do is not called. The next Serve gives it
// back, and waits until do has returned.
func (n *Net) Aside(do func() error) (had bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range []string{tunnelName, wireguardName} {
		device, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return had, fmt.Errorf("find %s: %w", name, err)
		}
		all, err := netlink.AddrList(device, netlink.FAMILY_V4)
		if err != nil {
			return had, fmt.Errorf("list addresses of %s: %w", name, err)
		}
		for i := range all {
			had = true
			if err := netlink.AddrDel(device, &all[i]); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return had, fmt.Errorf("take address %s from %s: %w", all[i].IP, name, err)
			}
		}
	}
	if !had {
		return false, nil
	}
	return true, do()
}

// neighbour is one thing that the device knows of a peer: AF_INET, which hardware address an end has; AF_BRIDGE, on which machine that
// hardware address is.
type neighbour struct {
	family int
	addr   netip.Addr
	mac    string
}

// introduce makes what the device knows what it should know.
func introduce(device netlink.Link, want map[neighbour]bool) error {
	index := device.Attrs().Index
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		all, err := netlink.NeighList(index, family)
		if err != nil {
			return fmt.Errorf("list whom it knows: %w", err)
		}
		for i := range all {
			n := &all[i]
			addr, ok := netip.AddrFromSlice(n.IP)
			is := neighbour{family, addr.Unmap(), n.HardwareAddr.String()}
			switch {
			case want[is] && n.State&netlink.NUD_PERMANENT != 0:
				delete(want, is)
			case want[is] || !ok || family == unix.AF_INET && n.State&(netlink.NUD_NOARP|netlink.NUD_FAILED) != 0: // the kernel's own
			default:
				if err := netlink.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("have it forget %s: %w", addr, err)
				}
			}
		}
	}
	for n := range want {
		mac, err := net.ParseMAC(n.mac)
		if err != nil {
			return err
		}
		entry := &netlink.Neigh{LinkIndex: index, Family: n.family, State: netlink.NUD_PERMANENT, IP: n.addr.AsSlice(), HardwareAddr: mac}
		if n.family == unix.AF_BRIDGE {
			entry.Flags = netlink.NTF_SELF
		}
		if err := netlink.NeighSet(entry); err != nil {
			return fmt.Errorf("tell it of %s: %w", n.addr, err)
		}
	}
	return nil
}

// removeTunnel takes the device away, if it is there, and with it the routes through it.
func removeTunnel() error {
	device, err := netlink.LinkByName(tunnelName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", tunnelName, err)
	}
	if _, ok := device.(*netlink.Vxlan); !ok {
		return nil // it is somebody else's
	}
	if err := netlink.LinkDel(device); err != nil {
		return fmt.Errorf("take away %s: %w", tunnelName, err)
	}
	return nil
}

// tunnelPort is the port of tunnels for which a table has rules; 0: none.
type tunnelPort uint16

// tunnelHooks are where those rules are, by what begins the names of their chains; the port follows, there and in the rule.
var tunnelHooks = []struct {
	prefix   string
	hook     knftables.BaseChainHook
	priority string
	rule     string
}{
	// Its own: a tunnel of somebody else that goes through the machine may need to be tracked.
	{"sk-tunnel-in-", knftables.PreroutingHook, "raw", "udp dport PORT fib daddr type local notrack"},
	{"sk-tunnel-out-", knftables.OutputHook, "raw", "udp dport PORT fib saddr type local notrack"},
	{"sk-tunnel-through-", knftables.ForwardHook, "mangle", "oifname { " + tunnelName + ", " + wireguardName + " } tcp flags syn / syn,rst tcp option maxseg size set rt mtu"},
}

// tunnelPortIn is the port in the name of a chain of tunnels; 0: it is no such.
func tunnelPortIn(name string) tunnelPort {
	for _, h := range tunnelHooks {
		if text, is := strings.CutPrefix(name, h.prefix); is {
			n, _ := strconv.ParseUint(text, 10, 16)
			return tunnelPort(n)
		}
	}
	return 0
}

// tunnel writes the rules for tunnels. What is in them is tracked, and they need not be: that would be done twice for each packet. Pods
// send segments that fit their own link: what goes into a tunnel has to be shorter, and whoever is told so late waits.
func (w writer) tunnel(is, want tunnelPort) {
	for _, h := range tunnelHooks {
		if is != 0 {
			old := w.chain(fmt.Sprint(h.prefix, is))
			w.shrink.Flush(old)
			w.shrink.Delete(old)
		}
		if want == 0 {
			continue
		}
		name := fmt.Sprint(h.prefix, want)
		w.hook(name, knftables.FilterType, h.hook, h.priority)
		w.rule(name, strings.ReplaceAll(h.rule, "PORT", strconv.Itoa(int(want))))
	}
}
