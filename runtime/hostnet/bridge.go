package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What one pod sends to another of its bridge by way of a Service has to come back by the machine, which alone knows what it
// turned into what. There are two ways, and the machine's switch bridge-nf-call-iptables, which is not ours to turn
// (Docker and others count on it), decides which of them works:
//
//   - It is off: ports are isolated from each other, and the bridge answers for all pods: in IPv4 by itself
//     (proxy_arp_pvlan), in IPv6 for addresses that it is told. So all that pods send each other passes through the machine.
//   - It is on: what passes over the bridge is translated on its way, but an isolated port would not let it out again, and one
//     to which it has to go back needs the hairpin flag.
//
// Pods see each other's addresses in both. Somebody may turn the switch later on, hence both functions are to be called
// again now and then; with nothing to change they do nothing that traffic could feel.

// PrepareBridge makes ready the bridge of pods, so that Services work from one of its pods to another, and to itself.
func PrepareBridge(name string) error {
	proxy := "1"
	if translates(name) {
		proxy = "0"
	}
	for _, s := range []struct{ path, value string }{
		{"ipv4/conf/" + name + "/proxy_arp_pvlan", proxy},
		{"ipv4/neigh/" + name + "/proxy_delay", "0"}, // else the first packet waits for most of a second
		{"ipv6/conf/" + name + "/proxy_ndp", proxy},
		{"ipv6/neigh/" + name + "/proxy_delay", "0"},
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.path), []byte(s.value), 0)
		if err != nil && (strings.HasPrefix(s.path, "ipv4") || !errors.Is(err, os.ErrNotExist)) { // a machine may be without IPv6
			return fmt.Errorf("prepare bridge %s: %w", name, err)
		}
	}
	return nil
}

// PreparePort makes ready a port of such a bridge, the machine's side of a pod's link; changed says that it was not. A pod may be an
// end of a Service from then on. The pod's addresses may be left out if none of them is of IPv6.
func PreparePort(link string, pod ...netip.Addr) (changed bool, err error) {
	changed, err = preparePort(link, pod)
	if err != nil {
		return false, fmt.Errorf("prepare port %s: %w", link, err)
	}
	return changed, nil
}

func preparePort(link string, pod []netip.Addr) (changed bool, err error) {
	port, err := netlink.LinkByName(link)
	if err != nil {
		return false, err
	}
	bridge, err := netlink.LinkByIndex(port.Attrs().MasterIndex)
	if err != nil {
		return false, fmt.Errorf("find its bridge: %w", err)
	}
	on := translates(bridge.Attrs().Name)
	is, err := netlink.LinkGetProtinfo(port)
	if err != nil {
		return false, fmt.Errorf("look at its flags: %w", err)
	}
	if changed = is.Isolated == on || is.Hairpin != on; changed { // to set what is set would be told to all who watch links
		if err := netlink.LinkSetIsolated(port, !on); err != nil {
			return false, fmt.Errorf("isolate: %w", err)
		}
		if err := netlink.LinkSetHairpin(port, on); err != nil {
			return false, fmt.Errorf("set hairpin: %w", err)
		}
	}
	for _, addr := range pod {
		if addr.Is4() || on {
			continue // where the switch is on, the bridge does not answer for anybody
		}
		proxy := &netlink.Neigh{LinkIndex: bridge.Attrs().Index, Family: unix.AF_INET6, Flags: netlink.NTF_PROXY, IP: addr.AsSlice()}
		if err := netlink.NeighSet(proxy); err != nil {
			return false, fmt.Errorf("answer for %s: %w", addr, err)
		}
	}
	return changed, nil
}

// Announce tells the pods on a bridge that others among them are reached by way of the machine: pods that met before their ports were
// ready send to each other's links, where nothing gets through any more. It says nothing that is not so, whenever it is called.
func Announce(bridge string, pods ...netip.Addr) error {
	if translates(bridge) {
		return nil // there they do reach each other's links
	}
	link, err := netlink.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("announce pods: %w", err)
	}
	for _, a := range pods {
		if !a.Is4() {
			continue
		}
		if err := announce(link, a); err != nil {
			return fmt.Errorf("announce pods: %w", err)
		}
	}
	return nil
}

// translates says whether IPv4 that passes over a bridge goes through the rules for IPv4.
func translates(bridge string) bool {
	for _, path := range []string{"/proc/sys/net/bridge/bridge-nf-call-iptables", "/sys/class/net/" + bridge + "/bridge/nf_call_iptables"} {
		if b, err := os.ReadFile(path); err == nil && bytes.HasPrefix(b, []byte("1")) {
			return true
		}
	}
	return false
}
