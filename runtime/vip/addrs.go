package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// By what an address is known again that was added here: its label ends so (IPv4), or it has this protocol (since Linux 5.18, as
// IFA_PROTO). Package hostnet has another label.
const (
	label    = ":vip"
	protocol = 0x76
)

// attrProtocol is IFA_PROTO.
const attrProtocol = 11

// address is one that the machine has.
type address struct {
	netip.Prefix // with the address itself
	link         int
	label        string
	protocol     byte
}

// ours says whether it was added here.
func (a address) ours() bool { return a.protocol == protocol || strings.HasSuffix(a.label, label) }

// list is what addresses the machine has.
func list() ([]address, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := make([]address, 0, len(msgs))
	for _, m := range msgs {
		head := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[head.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if a := parse(head, attrs); a.IsValid() {
			all = append(all, a)
		}
	}
	return all, nil
}

func parse(head *nl.IfAddrmsg, attrs []syscall.NetlinkRouteAttr) address {
	a := address{link: int(head.Index)}
	for _, attr := range attrs {
		switch attr.Attr.Type {
		case unix.IFA_ADDRESS, unix.IFA_LOCAL: // the second is the machine's where a link has two ends, and comes last
			if ip, ok := netip.AddrFromSlice(attr.Value); ok {
				a.Prefix = netip.PrefixFrom(ip, int(head.Prefixlen))
			}
		case unix.IFA_LABEL:
			a.label = strings.TrimRight(string(attr.Value), "\x00")
		case attrProtocol:
			a.protocol = attr.Value[0]
		}
	}
	return a
}

// addAddress adds an address to a link, as one that lasts and is never chosen for what the machine itself sends, and of which nobody asks
// first whether others have it.
func addAddress(l Link, a netip.Addr) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	addrRequest(req, l.Index, a)
	if a.Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(l.Name[:min(len(l.Name), unix.IFNAMSIZ-1-len(label))]+label)))
	} else {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)))
	}
	life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Prefered: 0, Valid: math.MaxUint32}} //nolint:misspell // the field is spelled so
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	req.AddData(nl.NewRtAttr(attrProtocol, []byte{protocol}))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add address %s to %s: %w", a, l.Name, err)
	}
	return nil
}

// removeAddress takes an address away from a link. That it is not there is no error.
func removeAddress(link int, a netip.Addr) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	addrRequest(req, link, a)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !gone(err) {
		return fmt.Errorf("remove address %s: %w", a, err)
	}
	return nil
}

func addrRequest(req *nl.NetlinkRequest, link int, a netip.Addr) {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen, msg.Scope = uint32(link), uint8(a.BitLen()), unix.RT_SCOPE_UNIVERSE
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
}

// sweepAddresses removes all addresses that were added here, by whichever process, and those of IPv6 that are known only from its fence.
func sweepAddresses(known []netip.Addr) error {
	all, err := list()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range all {
		if a.ours() || a.IsSingleIP() && a.Addr().Is6() && slices.Contains(known, a.Addr()) {
			errs = append(errs, removeAddress(a.link, a.Addr()))
		}
	}
	return errors.Join(errs...)
}
