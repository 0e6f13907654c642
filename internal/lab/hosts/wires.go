package hosts

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/skerry-dev/skerry/internal/lab"
)

// wires is the switch, a bridge in a namespace of its own, with a port for each host, named after it. The namespace is held
// by an open file of the test, so that it ends with that.
type wires struct {
	space *os.File
}

func newWires() (*wires, error) {
	space, err := lab.NewSpace()
	if err != nil {
		return nil, fmt.Errorf("make the switch: %w", err)
	}
	w := &wires{space}
	// Cuts are pairs of the port that a frame comes from and the port that it goes to. A cut of both directions drops all: nobody
	// is told, connections fall silent. One of one direction lets ARP pass, as firewalls do; without, the other direction
	// would die with it.
	err = w.run(`ip link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0 && ip link set switch up
		echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || true
		nft -f -`, `table bridge cuts {
	set both { type ifname . ifname; }
	set one { type ifname . ifname; }
	chain forward {
		type filter hook forward priority 0; policy accept
		iifname . oifname @both drop
		ether type != arp iifname . oifname @one drop
	}
}
`)
	if err != nil {
		w.close()
		return nil, fmt.Errorf("make the switch: %w", err)
	}
	return w, nil
}

func (w *wires) close() { w.space.Close() }

// run runs shell text in the switch's namespace.
func (w *wires) run(script, stdin string) error {
	cmd := exec.Command("nsenter", "--net=/proc/self/fd/3", "--", "/bin/sh", "-ec", script) //nolint:noctx // takes milliseconds
	cmd.ExtraFiles = []*os.File{w.space}
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// macs are the hardware addresses of hosts, by the last byte of their addresses.
const macs = "02:00:0a:42:00:%02x"

// plug connects a host that has just been switched on. Its card has the same hardware address each time, as real ones do.
func (w *wires) plug(h *Host, pid int) error {
	id := strconv.Itoa(pid)
	err := w.run("ip -batch -", fmt.Sprintf("link add name %[1]s type veth peer name eth0 address %[3]s netns %[2]s\n"+
		"link set dev %[1]s master switch up\n", h.Name, id, h.MAC()))
	if err != nil {
		return err
	}
	cmd := exec.Command("nsenter", "--net=/proc/"+id+"/ns/net", "--", "ip", "-batch", "-") //nolint:noctx // takes milliseconds
	cmd.Stdin = strings.NewReader("link set lo up\naddr add " + h.Address.String() + "/24 dev eth0\nlink set eth0 up\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// unplug lets nothing more out of a host or in, without it noticing.
func (w *wires) unplug(h *Host) error { return w.run("ip link set dev "+h.Name+" nomaster", "") }

// remove removes a dead host's port, and with it the card. The kernel does so too, late: when the last of the namespace is
// gone.
func (w *wires) remove(h *Host) error {
	return w.run("ip link del dev "+h.Name+" || ! ip link show dev "+h.Name, "")
}

// edit changes the cuts, all at once.
func (s *Site) edit(commands string) {
	s.t.Helper()
	if err := s.wires.run("nft -f -", commands); err != nil {
		s.t.Fatal(err)
	}
}

const add = "add element bridge cuts %s { %q . %q }\n"

func cut(a, b *Host) string {
	return fmt.Sprintf(add, "both", a.Name, b.Name) + fmt.Sprintf(add, "both", b.Name, a.Name)
}

// Cut cuts the line between two hosts, both ways.
func (s *Site) Cut(a, b *Host) {
	s.t.Helper()
	s.edit(cut(a, b))
}

// OneWay drops what one host sends to another. What comes back passes, and so does ARP.
func (s *Site) OneWay(from, to *Host) {
	s.t.Helper()
	s.edit(fmt.Sprintf(add, "one", from.Name, to.Name))
}

// Partition cuts all lines between hosts of different sets, both ways, at once. Lines inside a set, and those of hosts that
// are in none, stay as they are.
func (s *Site) Partition(sets ...[]*Host) {
	s.t.Helper()
	commands := ""
	for i, set := range sets {
		for _, other := range sets[i+1:] {
			for _, a := range set {
				for _, b := range other {
					commands += cut(a, b)
				}
			}
		}
	}
	s.edit(commands)
}

// Heal undoes all cuts between two hosts.
func (s *Site) Heal(a, b *Host) {
	s.t.Helper()
	commands := ""
	for _, set := range []string{"both", "one"} {
		for _, pair := range [][2]*Host{{a, b}, {b, a}} {
			// Deleting what is not there is an error, and adding what is there is none.
			element := fmt.Sprintf("element bridge cuts %s { %q . %q }\n", set, pair[0].Name, pair[1].Name)
			commands += "add " + element + "delete " + element
		}
	}
	s.edit(commands)
}

// HealAll undoes all cuts.
func (s *Site) HealAll() {
	s.t.Helper()
	s.edit("flush set bridge cuts both\nflush set bridge cuts one\n")
}

// MAC is the hardware address of the host's card.
func (h *Host) MAC() string { return fmt.Sprintf(macs, h.Address.As4()[3]) }

// PullPlug pulls the cable of a host's card, which notices it, until PutPlug.
func (h *Host) PullPlug() {
	h.site.t.Helper()
	h.carrier("down")
}

// PutPlug puts the cable back.
func (h *Host) PutPlug() {
	h.site.t.Helper()
	h.carrier("up")
}

func (h *Host) carrier(state string) {
	h.site.t.Helper()
	if err := h.site.wires.run("ip link set dev "+h.Name+" "+state, ""); err != nil {
		h.site.t.Fatal(err)
	}
}

// In calls do as a process of the host would, as far as the network goes: what do opens is the host's. It must start no goroutines that open more.
func (h *Host) In(do func() error) error {
	space, err := h.path("/proc/1/ns/net")
	if err != nil {
		return err
	}
	return lab.InSpace(space, do)
}

// Listen opens a port as a process of the host would, for a server that the test itself is. The host's power has no hold on it.
func (h *Host) Listen(ctx context.Context, network, address string) (listener net.Listener, err error) {
	err = h.In(func() error {
		listener, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return listener, err
}

// Dial connects as a process of the host would, whatever it says about the network. It fits http.Transport's DialContext.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialAs(ctx, 1, network, address)
}

// DialAs connects as one of the host's processes would, by its number there: one of a pod has another network.
func (h *Host) DialAs(ctx context.Context, process int, network, address string) (net.Conn, error) {
	space, err := h.path(fmt.Sprintf("/proc/%d/ns/net", process))
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = lab.InSpace(space, func() error {
		// One address: for more, the dialer would use other threads.
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
