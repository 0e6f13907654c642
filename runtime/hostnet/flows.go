package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// stale are UDP flows that the kernel would go on sending where their front has no end any more (or never had: before
// there was a front). TCP is left alone: a connection lives as long as its two sides do.
type stale struct {
	due   map[key]bool
	have  map[knftables.Family]*table
	local map[netip.Addr]bool // the machine's own addresses, to which node ports belong
}

// flow is whom somebody sent to, and from whom the kernel expects the answers.
type flow struct{ to, from netip.AddrPort }

// has says whether a flow is one of them.
func (s stale) has(f flow) bool {
	end := fleet.End{Addr: ip(f.from.Addr()), Port: f.from.Port()}
	to := ip(f.to.Addr())
	t := orEmpty(s.have[familyOf(to)])
	k := key{addr: to, proto: "udp", number: f.to.Port()}
	switch front := t.fronts[k]; {
	case s.due[k]:
		return !front.has(end)
	case front != nil || !s.local[to]:
		return false
	}
	k.addr = netip.Addr{}
	return s.due[k] && !t.fronts[k].has(end)
}

// forget deletes flows from the kernel's connection tracking.
func forget(s stale) error {
	s.local = map[netip.Addr]bool{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				s.local[ip(addr)] = true
			}
		}
	}
	in := map[int]bool{}
	for k := range s.due {
		if k.node() || k.addr.Is4() {
			in[unix.AF_INET] = true
		}
		if k.node() || !k.addr.Is4() {
			in[unix.AF_INET6] = true
		}
	}
	var errs []error
	for family := range in {
		errs = append(errs, forgetOf(s, family))
	}
	return errors.Join(errs...)
}

func forgetOf(s stale, family int) error {
	flows, err := flowsOf(family)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) { // then what was in the way is asked for again by the caller
		return fmt.Errorf("list flows: %w", err)
	}
	errs := []error{err}
	for _, raw := range flows {
		if f, ok := parseFlow(raw); ok && s.has(f) {
			req := flowRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, family)
			req.AddRawData(raw[nl.SizeofNfgenmsg:])
			if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("delete the flow to %s: %w", f.to, err))
			}
		}
	}
	return errors.Join(errs...)
}

func flowRequest(operation, flags, family int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: nl.NFNETLINK_V0})
	return req
}

// flowsOf are the UDP flows of one family, as the kernel tells them. It is the kernel that leaves out the others, of which
// there can be a hundred thousand: package netlink, which reads all of them, would take most of a second.
func flowsOf(family int) ([][]byte, error) {
	const filter, originalFlags, byProtocol = 25, 1, 1 << 3 // CTA_FILTER, CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_CTA_PROTO_NUM
	req := flowRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, family)
	original := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	original.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil).AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	req.AddData(original)
	only := nl.NewRtAttr(unix.NLA_F_NESTED|filter, nil)
	only.AddRtAttr(originalFlags, nl.Uint32Attr(byProtocol))
	req.AddData(only)
	return req.Execute(unix.NETLINK_NETFILTER, 0)
}

// parseFlow reads one UDP flow. Kernels before 5.8 do not know filters, so it may be of something else.
func parseFlow(raw []byte) (f flow, ok bool) {
	if len(raw) < nl.SizeofNfgenmsg {
		return f, false
	}
	all := attributes(raw[nl.SizeofNfgenmsg:])
	end := func(tuple []byte, addr4, addr6, port uint16) netip.AddrPort {
		parts := attributes(tuple)
		at, proto := attributes(parts[nl.CTA_TUPLE_IP]), attributes(parts[nl.CTA_TUPLE_PROTO])
		addr, ok := netip.AddrFromSlice(at[addr4])
		if !ok {
			addr, ok = netip.AddrFromSlice(at[addr6])
		}
		if num := proto[nl.CTA_PROTO_NUM]; !ok || len(num) != 1 || num[0] != unix.IPPROTO_UDP || len(proto[port]) != 2 {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(proto[port]))
	}
	f.to = end(all[nl.CTA_TUPLE_ORIG], nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST, nl.CTA_PROTO_DST_PORT)
	f.from = end(all[nl.CTA_TUPLE_REPLY], nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC, nl.CTA_PROTO_SRC_PORT)
	return f, f.to.IsValid() && f.from.IsValid()
}

func attributes(b []byte) map[uint16][]byte {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	m := make(map[uint16][]byte, len(list))
	for _, a := range list {
		m[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return m
}
