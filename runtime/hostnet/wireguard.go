package hostnet

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/skerry-dev/skerry/fleet"
)

// Where links are not to be trusted, all tunnels of a machine are one device of WireGuard, which lets in nobody but the nodes that it is told
// of, and from each of them nothing but what its pods say. It is the kernel's, or one of this process on a tun: what either is told is
// reckoned out in one place, and only how it is told differs.

// wireguardName is the device, and keepalive how often a node lets the others hear of it, for what is between them to know the way back.
const (
	wireguardName = "skerry-wg"
	keepalive     = 25 * time.Second
)

// tunDevice is what a process makes links with.
const tunDevice = "/dev/net/tun"

// WireGuard is a machine's end of tunnels in which nobody else reads. Where it is in this process, it lives on when rules are made by
// another Net. Safe for concurrent use.
type WireGuard struct {
	log *slog.Logger
	key wgtypes.Key // private: it must not be printed

	mu     sync.Mutex
	inside *inside // what does the work in this process; nil: nothing does
	index  int     // of the device that was told
	told   places
}

// places are where nodes were said to be. They are answered where they are heard from, which may be elsewhere: behind a NAT, say.
type places map[wgtypes.Key]netip.AddrPort

// NewWireGuard is WireGuard with a node's own seed, which is what its private key is made of. Nothing is changed on the machine.
func NewWireGuard(seed []byte, log *slog.Logger) (*WireGuard, error) {
	key, err := wgtypes.NewKey(seed)
	if err != nil {
		return nil, fmt.Errorf("the seed of WireGuard's key has %d bytes, want %d", len(seed), wgtypes.KeyLen)
	}
	key[0] &= 248 // as X25519 has it, and as the kernel says it is
	key[31] = key[31]&127 | 64
	return &WireGuard{log: log, key: key}, nil
}

// Key is what others know the node by.
func (w *WireGuard) Key() fleet.PublicKey { return fleet.PublicKey(w.key.PublicKey()) }

// Close ends what does the work in this process, if something does, and with it goes the device. The kernel's stays.
func (w *WireGuard) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
}

func (w *WireGuard) end() {
	if w.inside != nil {
		w.inside.Close()
		w.inside = nil
	}
}

// engine is what wraps packets.
type engine interface {
	state() (*wgtypes.Device, error)
	configure(wgtypes.Config) error
}

// make makes the machine's end as it should be, if it is not, and tells it of its peers and no others.
func (w *WireGuard) make(want fleet.Tunnel, peers []fleet.Route) (netlink.Link, error) {
	if w == nil {
		return nil, errors.New("this machine has no key: it belongs to no fleet")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	link, engine, err := w.find()
	if err != nil {
		return nil, err
	}
	if link.Attrs().Index != w.index {
		w.index, w.told = link.Attrs().Index, nil
	}
	is, err := engine.state()
	if err != nil {
		return nil, fmt.Errorf("ask it what it knows: %w", err)
	}
	change, told := retold(is, w.key, want.Port, peers, w.told)
	if change.PrivateKey != nil || change.ListenPort != nil || len(change.Peers) > 0 {
		err = engine.configure(change)
	}
	if err == nil {
		w.told = told
		err = settle(link, want) // the kernel's takes the port here
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d is somebody else's (network.wireguardPort): %w", want.Port, err)
	}
	if err != nil {
		return nil, err
	}
	return link, nil
}

// find is the device, made anew where it is not there, and what does its work.
func (w *WireGuard) find() (netlink.Link, engine, error) {
	is, err := netlink.LinkByName(wireguardName)
	switch {
	case err == nil && inKernel(is):
		return is, kernels{}, nil
	case err == nil && w.inside.has(is):
		return is, w.inside, nil
	case err == nil:
		return nil, nil, errors.New("there is a link of that name that is not Skerry's")
	case !errors.As(err, &netlink.LinkNotFoundError{}):
		return nil, nil, err
	}
	w.end() // somebody took its device away
	attrs := netlink.NewLinkAttrs()
	attrs.Name = wireguardName
	missing := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	switch {
	case missing == nil:
		is, err = netlink.LinkByName(wireguardName)
		return is, kernels{}, err
	case !errors.Is(missing, unix.EOPNOTSUPP):
		return nil, nil, missing
	}
	if w.inside, err = begin(w.log); err != nil {
		return nil, nil, fmt.Errorf("this kernel has no WireGuard (%w; modprobe wireguard), and this process cannot take its place (%w; modprobe tun, and let the agent have %s)", missing, err, tunDevice)
	}
	w.log.Info("this kernel has no WireGuard: the agent does its work, slower, and as long as it runs (modprobe wireguard, and it is the kernel's at the next start)")
	is, err = netlink.LinkByIndex(w.inside.index)
	return is, w.inside, err
}

func inKernel(l netlink.Link) bool { return l.Type() == (&netlink.Wireguard{}).Type() }

// remove takes the device away, if it is there, and with it the routes through it.
func (w *WireGuard) remove() error {
	if w != nil {
		w.Close()
	}
	is, err := netlink.LinkByName(wireguardName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", wireguardName, err)
	}
	if !inKernel(is) {
		return nil // it is somebody else's
	}
	if err := netlink.LinkDel(is); err != nil {
		return fmt.Errorf("take away %s: %w", wireguardName, err)
	}
	return nil
}

// retold is what a device has to be told so that it has this key and port, these peers and no others, and where they were all said to be
// then. Of what is so already it is told nothing: peers that stay do not notice that others come and go.
func retold(is *wgtypes.Device, key wgtypes.Key, port uint16, peers []fleet.Route, told places) (wgtypes.Config, places) {
	var change wgtypes.Config
	if is.PrivateKey != key {
		change.PrivateKey = &key
	}
	if number := int(port); is.ListenPort != number {
		change.ListenPort = &number
	}
	want := places{}
	for _, r := range peers {
		want[wgtypes.Key(r.Key)] = netip.AddrPortFrom(r.Via, port)
	}
	known := map[wgtypes.Key]*wgtypes.Peer{}
	for i := range is.Peers {
		p := &is.Peers[i]
		if _, wanted := want[p.PublicKey]; wanted {
			known[p.PublicKey] = p
		} else { // first, for another may have its pods
			change.Peers = append(change.Peers, wgtypes.PeerConfig{PublicKey: p.PublicKey, Remove: true})
		}
	}
	every := keepalive
	for _, r := range peers {
		p, place, pods := known[wgtypes.Key(r.Key)], want[wgtypes.Key(r.Key)], asNet(r.Pods)
		if p != nil && told.of(p) == place && p.PersistentKeepaliveInterval == every && len(p.AllowedIPs) == 1 && p.AllowedIPs[0].String() == pods.String() {
			continue
		}
		change.Peers = append(change.Peers, wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(r.Key), Endpoint: net.UDPAddrFromAddrPort(place), PersistentKeepaliveInterval: &every,
			ReplaceAllowedIPs: true, AllowedIPs: []net.IPNet{pods}, // the node's own end has the first address of them
		})
	}
	return change, want
}

// of is where a peer was said to be; where nobody knows any more, where it is heard from.
func (p places) of(peer *wgtypes.Peer) netip.AddrPort {
	if at, is := p[peer.PublicKey]; is || peer.Endpoint == nil {
		return at
	}
	at := peer.Endpoint.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// asNet is a prefix as the net package has it.
func asNet(p netip.Prefix) net.IPNet {
	p = p.Masked()
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// kernels is the kernel's WireGuard.
type kernels struct{}

func (kernels) state() (is *wgtypes.Device, err error) {
	err = control(func(c *wgctrl.Client) error {
		is, err = c.Device(wireguardName)
		return err
	})
	return is, err
}

func (kernels) configure(c wgtypes.Config) error {
	return control(func(client *wgctrl.Client) error { return client.ConfigureDevice(wireguardName, c) })
}

func control(do func(*wgctrl.Client) error) error {
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	return errors.Join(do(client), client.Close())
}

// inside is WireGuard in this process, with its device, which is there for as long.
type inside struct {
	*device.Device
	index int
}

// begin makes the device. It takes part when it is configured.
func begin(log *slog.Logger) (*inside, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(wireguardName)
	if err == nil {
		// Whole segments, where the kernel has them, are cut and put together here: that is most of the speed.
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a link by %s: %w", tunDevice, err), unix.Close(fd))
	}
	// Unmonitored, because whether the link is up is ours to say: see settle.
	link, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	is, err := netlink.LinkByName(wireguardName)
	if err != nil {
		return nil, errors.Join(err, link.Close())
	}
	quiet := func(format string, args ...any) { log.Debug("of a tunnel", "wireguard", fmt.Sprintf(format, args...)) }
	return &inside{device.NewDevice(link, conn.NewDefaultBind(), &device.Logger{Verbosef: device.DiscardLogf, Errorf: quiet}), is.Attrs().Index}, nil
}

func (i *inside) has(l netlink.Link) bool { return i != nil && i.index == l.Attrs().Index }

func (i *inside) configure(c wgtypes.Config) error {
	if err := i.IpcSet(asText(c)); err != nil {
		return err
	}
	return i.Up()
}

func (i *inside) state() (*wgtypes.Device, error) {
	text, err := i.IpcGet()
	if err != nil {
		return nil, err
	}
	return fromText(text)
}

// asText is what WireGuard in a process is told, by its configuration protocol.
func asText(c wgtypes.Config) string {
	var text strings.Builder
	say := func(key string, value any) { fmt.Fprintf(&text, "%s=%v\n", key, value) }
	if c.PrivateKey != nil {
		say("private_key", hex.EncodeToString(c.PrivateKey[:]))
	}
	if c.ListenPort != nil {
		say("listen_port", *c.ListenPort)
	}
	for _, p := range c.Peers {
		say("public_key", hex.EncodeToString(p.PublicKey[:]))
		if p.Remove {
			say("remove", true)
			continue
		}
		say("endpoint", p.Endpoint)
		say("persistent_keepalive_interval", int(p.PersistentKeepaliveInterval.Seconds()))
		say("replace_allowed_ips", p.ReplaceAllowedIPs)
		for _, to := range p.AllowedIPs {
			say("allowed_ip", to.String())
		}
	}
	return text.String()
}

// fromText is what it answers, of what concerns us. No error has a value in it: one of them is the private key.
func fromText(text string) (*wgtypes.Device, error) {
	is := &wgtypes.Device{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		last := len(is.Peers) - 1
		if last < 0 && slices.Contains([]string{"endpoint", "persistent_keepalive_interval", "allowed_ip"}, key) {
			return nil, fmt.Errorf("%s of nobody", key)
		}
		var err error
		switch key {
		case "private_key":
			is.PrivateKey, err = fromHex(value)
		case "listen_port":
			is.ListenPort, err = strconv.Atoi(value)
		case "public_key":
			is.Peers = append(is.Peers, wgtypes.Peer{})
			is.Peers[last+1].PublicKey, err = fromHex(value)
		case "endpoint":
			var at netip.AddrPort
			at, err = netip.ParseAddrPort(value)
			is.Peers[last].Endpoint = net.UDPAddrFromAddrPort(at)
		case "persistent_keepalive_interval":
			is.Peers[last].PersistentKeepaliveInterval, err = time.ParseDuration(value + "s")
		case "allowed_ip":
			var to netip.Prefix
			to, err = netip.ParsePrefix(value)
			is.Peers[last].AllowedIPs = append(is.Peers[last].AllowedIPs, asNet(to))
		}
		if err != nil {
			return nil, fmt.Errorf("its %s cannot be read", key)
		}
	}
	return is, nil
}

func fromHex(text string) (wgtypes.Key, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return wgtypes.Key{}, err
	}
	return wgtypes.NewKey(raw)
}
