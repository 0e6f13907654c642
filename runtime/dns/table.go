package dns

import (
	"net/netip"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/skerry-dev/skerry/fleet"
)

// table is a zone made ready to be asked. It is read-only.
type table struct {
	fleet.Zone
	serial uint32
	// names are all that exist, with those that only have others below them: these have no records, but are no NXDOMAIN, which
	// would deny what is below them, too.
	names map[string]struct{}
}

func newTable(z fleet.Zone) *table {
	t := &table{Zone: z, names: make(map[string]struct{}, len(z.Addresses)+len(z.Services)+len(z.Aliases)+1)}
	if z.Domain == "" {
		return t
	}
	t.names[z.Domain] = struct{}{}
	for name := range z.Addresses {
		t.exists(name)
	}
	for name := range z.Services {
		t.exists(name)
	}
	for name := range z.Aliases {
		t.exists(name)
	}
	return t
}

func (t *table) exists(name string) {
	for below(name, t.Domain) {
		if _, ok := t.names[name]; ok {
			return
		}
		t.names[name] = struct{}{}
		_, name, _ = strings.Cut(name, ".")
	}
}

// found is what the zone says to a question.
type found struct {
	rcode             int
	answer, ns, extra []wire.RR
	// follow is a name outside the zone, with its last dot: the answer goes on there. Empty: the answer is complete.
	follow string
}

// find answers q if that is for the zone to answer. Turn says with which of several records the answer begins.
func (t *table) find(q wire.Question, turn uint32) (f found, ours bool) {
	name := key(q.Name)
	if !below(name, t.Domain) {
		addr, ok := reverse(name)
		if !ok {
			return found{}, false
		}
		target, ok := t.Names[addr]
		if !ok {
			return found{}, false
		}
		return t.pointer(q, target), true
	}
	switch {
	case q.Qclass != wire.ClassINET && q.Qclass != wire.ClassANY,
		q.Qtype == wire.TypeAXFR, q.Qtype == wire.TypeIXFR:
		return found{rcode: wire.RcodeRefused}, true
	}
	owner := q.Name
	// An alias of an alias of itself ends somewhere.
	for range 8 {
		if _, ok := t.names[name]; !ok {
			f.rcode = wire.RcodeNameError
			f.ns = t.soa(t.Domain)
			return f, true
		}
		target, ok := t.Aliases[name]
		if !ok || q.Qtype == wire.TypeANY {
			break
		}
		f.answer = append(f.answer, &wire.CNAME{Hdr: header(owner, wire.TypeCNAME), Target: wire.Fqdn(target)})
		if q.Qtype == wire.TypeCNAME {
			return f, true
		}
		owner = wire.Fqdn(target)
		if name = key(target); !below(name, t.Domain) {
			f.follow = owner
			return f, true
		}
	}
	if _, again := t.Aliases[name]; again && q.Qtype != wire.TypeANY {
		return found{rcode: wire.RcodeServerFailure}, true
	}
	aliases := len(f.answer)
	t.records(&f, q.Qtype, owner, name, turn)
	if len(f.answer) == aliases {
		f.ns = t.soa(t.Domain)
	}
	return f, true
}

// records adds what there is of kind at name to f.
func (t *table) records(f *found, kind uint16, owner, name string, turn uint32) {
	from := len(f.answer)
	switch kind {
	case wire.TypeA, wire.TypeAAAA:
		f.answer = hosts(f.answer, owner, t.Addresses[name], kind)
		rotate(f.answer[from:], turn)
	case wire.TypeSRV:
		t.services(f, owner, t.Services[name], turn)
	case wire.TypeSOA:
		if name == t.Domain {
			f.answer = append(f.answer, t.soa(owner)...)
		}
	case wire.TypeANY: // RFC 8482
		f.answer = append(f.answer, &wire.HINFO{Hdr: header(owner, wire.TypeHINFO), Cpu: "RFC8482"})
	}
}

// services adds srvs with the addresses of their targets. They weigh alike, for clients choose by weight.
func (t *table) services(f *found, owner string, srvs []fleet.SRV, turn uint32) {
	from := len(f.answer)
	glued := make(map[string]bool, len(srvs))
	for _, s := range srvs {
		target := wire.Fqdn(s.Target)
		f.answer = append(f.answer, &wire.SRV{
			Hdr: header(owner, wire.TypeSRV), Weight: uint16(max(1, 100/len(srvs))), Port: s.Port, Target: target,
		})
		if glued[target] {
			continue
		}
		glued[target] = true
		f.extra = hosts(f.extra, target, t.Addresses[key(target)], wire.TypeA)
		f.extra = hosts(f.extra, target, t.Addresses[key(target)], wire.TypeAAAA)
	}
	rotate(f.answer[from:], turn)
}

// pointer answers a question about the name of an address.
func (t *table) pointer(q wire.Question, target string) found {
	switch {
	case q.Qclass != wire.ClassINET && q.Qclass != wire.ClassANY:
		return found{rcode: wire.RcodeRefused}
	case q.Qtype == wire.TypePTR, q.Qtype == wire.TypeANY:
		return found{answer: []wire.RR{&wire.PTR{Hdr: header(q.Name, wire.TypePTR), Ptr: wire.Fqdn(target)}}}
	}
	// The address is a zone of its own: of those around it we know nothing.
	return found{ns: t.soa(q.Name)}
}

func (t *table) soa(owner string) []wire.RR {
	return []wire.RR{&wire.SOA{
		Hdr: header(wire.Fqdn(owner), wire.TypeSOA), Ns: wire.Fqdn("ns.dns." + t.Domain), Mbox: wire.Fqdn("hostmaster." + t.Domain),
		Serial: t.serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}}
}

func header(name string, kind uint16) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: kind, Class: wire.ClassINET, Ttl: ttl}
}

// hosts adds those of addrs that are of the kind to rrs.
func hosts(rrs []wire.RR, owner string, addrs []netip.Addr, kind uint16) []wire.RR {
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() && kind == wire.TypeA:
			rrs = append(rrs, &wire.A{Hdr: header(owner, kind), A: a.AsSlice()})
		case a.Is6() && kind == wire.TypeAAAA:
			rrs = append(rrs, &wire.AAAA{Hdr: header(owner, kind), AAAA: a.AsSlice()})
		}
	}
	return rrs
}

// rotate begins with another one by each turn. Turns are thrown, not counted: a client that asks in a rhythm would always have the same.
func rotate(rrs []wire.RR, turn uint32) {
	if len(rrs) < 2 {
		return
	}
	by := int(turn % uint32(len(rrs)))
	turned := append(append(make([]wire.RR, 0, len(rrs)), rrs[by:]...), rrs[:by]...)
	copy(rrs, turned)
}

// key is how the zone writes name.
func key(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// below says whether name, as key gives it, is domain or has it as its end. A dot within a label is written with a backslash, and
// does not divide.
func below(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	if !ok || domain == "" || rest == "" {
		return ok && domain != ""
	}
	rest, ok = strings.CutSuffix(rest, ".")
	slashes := len(rest) - len(strings.TrimRight(rest, `\`))
	return ok && slashes%2 == 0
}

// reverse is the address that name, as key gives it, is the reverse name of.
func reverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		digit, err := strconv.ParseUint(rest[i*2:i*2+1], 16, 4)
		if err != nil || i < 31 && rest[i*2+1] != '.' {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(digit) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
