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

// stale are flows that the kernel would go on sending where they should not go: those of UDP whose front has not their end any more
// (or never had: from before there was a front), and all to pods that are no more. Other flows of TCP are left alone: a connection
// lives as long as its two sides do.
type stale struct {
	due   map[key]int // as in Net
	gone  map[netip.Addr]bool
	have  map[knftables.Family]*table
	local map[netip.Addr]bool // the machine's own addresses, to which node ports belong
}

// flow is whom somebody sent to, and from whom the kernel expects the answers.
type flow struct {
	proto    uint8
	to, from netip.AddrPort
}

// has says whether a flow is one of them.
func (s stale) has(f flow) bool {
	end := fleet.End{Addr: ip(f.from.Addr()), Port: f.from.Port()}
	if s.gone[end.Addr] {
		return true
	}
	if f.proto != unix.IPPROTO_UDP {
		return false
	}
	to := ip(f.to.Addr())
	t := orEmpty(s.have[familyOf(to)])
	k := key{addr: to, proto: "udp", number: f.to.Port()}
	switch front := t.fronts[k]; {
	case s.due[k] > 0:
		return !front.has(end)
	case front != nil || !s.local[to]:
		return false
	}
	k.addr = netip.Addr{}
	return s.due[k] > 0 && !t.fronts[k].has(end)
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
		errs = append(errs, s.forget(family, udpFlows))
	}
	for addr := range s.gone {
		family := unix.AF_INET
		if !addr.Is4() {
			family = unix.AF_INET6
		}
		errs = append(errs, s.forget(family, flowsTo(addr)))
	}
	return errors.Join(errs...)
}

// forget deletes those among some flows of one family.
func (s stale) forget(family int, which filter) error {
	flows, err := flowsOf(family, which)
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

// filter is what of a flow the kernel compares: a tuple, which of the two it is, and what of it.
type filter struct {
	tuple *nl.RtAttr
	by    *nl.RtAttr
}

// CTA_FILTER, CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS, CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_F_CTA_PROTO_NUM
const attrFilter, byOriginal, byReply, bySource, byProtocol = 25, 1, 2, 1 << 0, 1 << 3

var udpFlows = func() filter {
	original := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	original.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil).AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	return filter{original, nl.NewRtAttr(byOriginal, nl.Uint32Attr(byProtocol))}
}()

// flowsTo are those whose answers come from an address.
func flowsTo(addr netip.Addr) filter {
	reply, kind := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_REPLY, nil), nl.CTA_IP_V4_SRC
	if !addr.Is4() {
		kind = nl.CTA_IP_V6_SRC
	}
	reply.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(kind, addr.AsSlice())
	return filter{reply, nl.NewRtAttr(byReply, nl.Uint32Attr(bySource))}
}

// flowsOf are flows of one family, as the kernel tells them. It is the kernel that leaves out the others, of which there can be a
// hundred thousand: package netlink, which reads all of them, would take most of a second.
func flowsOf(family int, which filter) ([][]byte, error) {
	req := flowRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, family)
	req.AddData(which.tuple)
	only := nl.NewRtAttr(unix.NLA_F_NESTED|attrFilter, nil)
	only.AddChild(which.by)
	req.AddData(only)
	return req.Execute(unix.NETLINK_NETFILTER, 0)
}

// parseFlow reads one flow of a protocol with ports. Kernels before 5.8 do not know filters, so it may be any.
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
		num := proto[nl.CTA_PROTO_NUM]
		if !ok || len(num) != 1 || len(proto[port]) != 2 {
			return netip.AddrPort{}
		}
		f.proto = num[0]
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
