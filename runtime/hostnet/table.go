package hostnet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// tableName is what our table is called, in each family.
const tableName = "skerry"

// What is in a table. All names have a prefix: nft takes many words for its own.
const (
	mapEnds        = "sk-ends"         // address . protocol . port . slot -> the end there
	mapFronts      = "sk-fronts"       // address . protocol . port -> the chain for as many ends as it has
	mapRefused     = "sk-refused"      // address . protocol . port -> what becomes of it, having no ends
	mapNodeEnds    = "sk-node-ends"    // the same three for node ports, without the address
	mapNodeFronts  = "sk-node-fronts"  //
	mapNodeRefused = "sk-node-refused" //
	setMasq        = "sk-masq"         // fronts whose clients from outside are masqueraded
	setNodeMasq    = "sk-node-masq"    //
	setSelf        = "sk-self"         // address . the same address, of each end
	setAddrs       = "sk-addrs"        // addresses of fronts
	setPods        = "sk-pods"         // addresses of pods
	mapGuarded     = "sk-guarded"      // address . protocol . port -> the gate that clients have to pass
	mapIngress     = "sk-ingress"      // address of a pod -> the gate that who comes has to pass
	mapEgress      = "sk-egress"       // address of a pod -> the gate that it has to pass itself

	chainPrerouting  = "sk-prerouting"
	chainOutput      = "sk-output"
	chainPostrouting = "sk-postrouting"
	chainEarlyIn     = "sk-early-in"
	chainEarlyOut    = "sk-early-out"
	chainForward     = "sk-forward"
	chainServices    = "sk-services"
	chainRefused     = "sk-verdict"
	chainReject      = "sk-reject"
	chainOutside     = "sk-outside" // clients that are no pods

	sharePrefix     = "sk-share-" // with a number of ends
	nodeSharePrefix = "sk-node-share-"
	stickyPrefix    = "sk-sticky-" // with a sticky front
	endPrefix       = "sk-client-" // with one of its ends
	gatePrefix      = "sk-gate-"   // with a hash of what it lets through
	shapePrefix     = "sk-shape-"  // with a hash of all that is the same in every table; it is never gone to
)

// ready is for how many ends of a front there are rules from the start. A front with more of them adds one, once.
const ready = 16

// sharing is how many ends there may be at all: the key of a slot is so wide.
const sharing = 65536

// table is what is in one table, or should be.
type table struct {
	family knftables.Family
	fronts map[key]*front
	pods   []netip.Prefix
	fences []element           // of pods, that lead to gates
	self   map[netip.Addr]int  // of ends: of how many
	late   map[netip.Addr]bool // of ends that went with the last change
	addrs  map[netip.Addr]int  // of fronts: of how many
	shares map[int]bool        // the numbers of ends for which there is a chain
	gates  map[string]gate     // by name
	chains map[string]bool     // of sticky fronts and their ends, and gates
	tunnel tunnelPort
}

// families are those that have a table, in the order in which they are written.
var families = []knftables.Family{knftables.IPv4Family, knftables.IPv6Family}

func familyOf(addr netip.Addr) knftables.Family {
	if addr.Is4() {
		return knftables.IPv4Family
	}
	return knftables.IPv6Family
}

func ip(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// empty says whether nothing is wanted at all.
func empty(want fleet.HostNet) bool { return len(want.Fronts)+len(want.Pods)+len(want.Fences) == 0 }

// wanted is the table of one family that has what is wanted; nil if there should be none. What is the same as in have
// is taken from there, and ends stay in the slots that they have in it.
//
// A table that was made from have takes over what have counted: have is of no use afterwards but for its fronts.
func wanted(family knftables.Family, want fleet.HostNet, have *table) (*table, delta) {
	if empty(want) {
		return nil, delta{}
	}
	t := &table{family: family, fronts: make(map[key]*front, len(want.Fronts)), gates: map[string]gate{}}
	for i := range want.Fences {
		t.fence(want.Fences[i])
	}
	for _, p := range want.Pods {
		if p.IsValid() && familyOf(p.Addr()) == family {
			t.pods = append(t.pods, p.Masked())
		}
	}
	slices.SortFunc(t.pods, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	t.pods = slices.CompactFunc(t.pods, func(a, b netip.Prefix) bool { return a.Contains(b.Addr()) }) // nft wants no overlap
	if family == knftables.IPv4Family {
		t.tunnel = tunnelPort(want.Tunnel.Port)
	}
	var old map[key]*front
	if have != nil {
		old = have.fronts
	}
	needed := len(t.pods)+len(t.fences) > 0
	for i := range want.Fronts {
		w := &want.Fronts[i]
		k := key{number: w.Number, proto: protocol(w.Protocol)}
		if w.Addr.IsValid() {
			if k.addr = ip(w.Addr); familyOf(k.addr) != family {
				continue
			}
			needed = true
		}
		if f := old[k]; f != nil && f.isOf(w) {
			needed = needed || len(f.slots) > 0
			if f.guard != nil {
				t.gates[f.guard.name] = *f.guard
			}
			t.fronts[k] = f
			continue
		}
		ends, foreign := endsOf(family, w.Ends)
		if k.node() && len(ends) == 0 && foreign {
			continue // a node port of the other family
		}
		needed = needed || len(ends) > 0
		f := frontOf(w, ends, old[k], guard(family, w))
		if f.guard != nil {
			t.gates[f.guard.name] = *f.guard
		}
		t.fronts[k] = f
	}
	if !needed && family != knftables.IPv4Family {
		return nil, delta{} // IPv4 has the table for node ports that nobody serves
	}
	t.derive()
	return t, t.since(have)
}

// delta is what is not the same in two tables.
type delta struct {
	keys       []key     // of fronts, in order
	gone, come []element // that stand for more than one front, in order
}

// since is what is not as it was; nil: there was nothing. Ends that go are kept among setSelf until the next change: a connection that
// was led to one in the moment of the change has still to be known for one of the end to itself. An address too many does no harm.
func (t *table) since(have *table) delta {
	if have == nil {
		have = &table{}
	}
	d := delta{keys: changed(have, t)}
	if len(d.keys) == 0 && slices.Equal(have.fences, t.fences) && slices.Equal(have.pods, t.pods) {
		t.self, t.late, t.addrs = have.self, have.late, have.addrs
		return d
	}
	t.self, t.addrs, t.late = orMake(have.self), orMake(have.addrs), map[netip.Addr]bool{}
	come := map[element]bool{}
	count := func(counts map[netip.Addr]int, a netip.Addr, by int, of func(netip.Addr) element) {
		if counts[a] += by; counts[a] == 1 && by > 0 {
			come[of(a)] = true
		}
	}
	for _, k := range d.keys { // all that come first: what goes from one front to another has not gone
		if f := t.fronts[k]; f != nil {
			for _, e := range f.slots {
				count(t.self, e.Addr, 1, selfElement)
			}
			if !k.node() {
				count(t.addrs, k.addr, 1, addrElement)
			}
		}
	}
	for _, k := range d.keys {
		if f := have.fronts[k]; f != nil {
			for _, e := range f.slots {
				if count(t.self, e.Addr, -1, selfElement); t.self[e.Addr] == 0 {
					delete(t.self, e.Addr)
					t.late[e.Addr] = true
				}
			}
			if !k.node() {
				if count(t.addrs, k.addr, -1, addrElement); t.addrs[k.addr] == 0 {
					delete(t.addrs, k.addr)
					d.gone = append(d.gone, addrElement(k.addr))
				}
			}
		}
	}
	for a := range have.late {
		if e := selfElement(a); come[e] {
			delete(come, e) // it is there yet
		} else if !t.late[a] {
			d.gone = append(d.gone, e)
		}
	}
	d.come = slices.Collect(maps.Keys(come))
	for _, p := range have.pods {
		if !slices.Contains(t.pods, p) {
			d.gone = append(d.gone, podsElement(p))
		}
	}
	for _, p := range t.pods {
		if !slices.Contains(have.pods, p) {
			d.come = append(d.come, podsElement(p))
		}
	}
	for _, list := range [][]element{d.gone, d.come} {
		slices.SortFunc(list, func(a, b element) int { return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.key, b.key)) })
	}
	return d
}

func orMake(m map[netip.Addr]int) map[netip.Addr]int {
	if m == nil {
		return map[netip.Addr]int{}
	}
	return m
}

func selfElement(a netip.Addr) element   { return element{setSelf, a.String() + " . " + a.String(), ""} }
func addrElement(a netip.Addr) element   { return element{setAddrs, a.String(), ""} }
func podsElement(p netip.Prefix) element { return element{setPods, p.String(), ""} }

// derive finds out what follows from the fronts, about so many addresses of ends and fronts.
func (t *table) derive() {
	t.shares, t.chains = map[int]bool{}, map[string]bool{}
	for name := range t.gates {
		t.chains[name] = true
	}
	for n := 1; n <= ready; n++ {
		t.shares[n] = true
	}
	for k, f := range t.fronts {
		switch {
		case f.sticky > 0:
			t.chains[stickyChain(k)] = true
			for _, e := range f.slots {
				t.chains[endChain(k, f, e)] = true
			}
		case len(f.slots) > 0:
			t.shares[len(f.slots)] = true
		}
	}
}

// build writes a whole table, which is not there.
func (t *table) build(tx *knftables.Transaction) {
	w := writer{tx, tx, tx, t.family}
	w.swap.Add(&knftables.Table{Family: t.family, Name: tableName, Comment: knftables.PtrTo("Services of Skerry, which writes it anew as it needs")})
	w.skeleton()
	w.update(&table{family: t.family}, t, t.whole())
}

// whole is the delta from nothing.
func (t *table) whole() delta {
	same := *t
	return same.since(nil)
}

// adopt makes a table that was found in the kernel what t is. All that is the same in every table stays, so that no packet ever
// finds it missing: a chain that goes and one that comes in its place are two to the kernel, and a packet can miss both.
func (t *table) adopt(w writer, found map[string]int) {
	have := &table{family: t.family, shares: map[int]bool{}, chains: map[string]bool{}}
	for what := range found {
		kind, name, _ := strings.Cut(what, " ")
		if kind != "chain" {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(name, sharePrefix)); err == nil {
			have.shares[n] = true // node ports' is made with it
		}
		have.tunnel = max(have.tunnel, tunnelPortIn(name))
		if strings.HasPrefix(name, stickyPrefix) || strings.HasPrefix(name, endPrefix) || strings.HasPrefix(name, gatePrefix) {
			have.chains[name] = true
		}
	}
	for _, name := range []string{mapEnds, mapNodeEnds, mapFronts, mapRefused, mapNodeFronts, mapNodeRefused, mapGuarded, mapIngress, mapEgress} {
		w.swap.Flush(&knftables.Map{Family: t.family, Table: tableName, Name: name})
	}
	for _, name := range []string{setMasq, setNodeMasq, setSelf, setAddrs, setPods} {
		w.swap.Flush(&knftables.Set{Family: t.family, Table: tableName, Name: name})
	}
	w.update(have, t, t.whole())
}

// unharmed reports whether those chains that adopt keeps have all their rules: what a chain does is in its name, so that one of which
// rules were removed would be taken for what it was. Those of sticky fronts are written anew in any case.
func (t *table) unharmed(found map[string]int) bool {
	for what, n := range contents(t) {
		kind, chain, _ := strings.Cut(what, " ")
		if kind == "rule" && found["chain "+chain] > 0 && found[what] < n && !strings.HasPrefix(chain, stickyPrefix) {
			return false
		}
	}
	return true
}

// remove takes a table away, whether it is there or not.
func remove(tx *knftables.Transaction, family knftables.Family) {
	tx.Add(&knftables.Table{Family: family, Name: tableName})
	tx.Delete(&knftables.Table{Family: family, Name: tableName})
}

// writer writes operations on one table, in up to three transactions. A packet sees the chains as they were when it came and
// elements as they are when it looks, so that one which an element sends to a chain of the same transaction finds it empty: chains
// come in a transaction of their own before it. They go in one behind it, because Linux before 6.2 does not see that an element
// which goes at the same time does not need them any more.
type writer struct {
	grow, swap, shrink *knftables.Transaction

	family knftables.Family
}

func (w writer) hook(name string, kind knftables.BaseChainType, hook knftables.BaseChainHook, priority string) {
	w.grow.Add(&knftables.Chain{
		Family: w.family, Table: tableName, Name: name,
		Type: &kind, Hook: &hook, Priority: knftables.PtrTo(knftables.BaseChainPriority(priority)),
	})
}

func (w writer) chain(name string) *knftables.Chain {
	return &knftables.Chain{Family: w.family, Table: tableName, Name: name}
}

// rule writes a rule of a new chain.
func (w writer) rule(chain string, words ...any) { w.ruleIn(w.grow, chain, words...) }

func (w writer) ruleIn(tx *knftables.Transaction, chain string, words ...any) {
	tx.Add(&knftables.Rule{Family: w.family, Table: tableName, Chain: chain, Rule: knftables.Concat(words...)})
}

// skeleton is what each table has: all rules that there are for fronts without stickiness.
func (w writer) skeleton() {
	w.rules()
	tx := knftables.NewFake("", "").NewTransaction() // for its text
	writer{tx, tx, tx, w.family}.rules()
	hash := sha256.Sum256([]byte(tx.String()))
	w.grow.Add(w.chain(shapePrefix + hex.EncodeToString(hash[:8])))
}

func (w writer) rules() {
	ip, addr := string(w.family), "ipv4_addr"
	loopback, unreachable := "127.0.0.0/8", "icmp port-unreachable"
	if w.family == knftables.IPv6Family {
		addr = "ipv6_addr"
		loopback, unreachable = "::1", "icmpv6 port-unreachable"
	}
	front := addr + " . inet_proto . inet_service"
	const node = "inet_proto . inet_service"
	at := ip + " daddr . meta l4proto . th dport"
	const nodeAt = "meta l4proto . th dport"

	// typeof, because a random number has no type that one could name.
	for _, m := range []struct{ name, at string }{{mapEnds, at}, {mapNodeEnds, nodeAt}} {
		w.grow.Add(&knftables.Map{
			Family: w.family, Table: tableName, Name: m.name,
			TypeOf: fmt.Sprintf("%s . numgen random mod %d : %s daddr . th dport", m.at, sharing, ip),
		})
	}
	for _, m := range []struct{ name, kind string }{
		{mapFronts, front}, {mapRefused, front}, {mapNodeFronts, node}, {mapNodeRefused, node}, {mapGuarded, front}, {mapIngress, addr}, {mapEgress, addr},
	} {
		w.grow.Add(&knftables.Map{Family: w.family, Table: tableName, Name: m.name, Type: m.kind + " : verdict"})
	}
	for _, s := range []knftables.Set{
		{Name: setMasq, Type: front}, {Name: setNodeMasq, Type: node},
		{Name: setSelf, Type: addr + " . " + addr}, {Name: setAddrs, Type: addr},
		{Name: setPods, Type: addr, Flags: []knftables.SetFlag{knftables.IntervalFlag}},
	} {
		s.Family, s.Table = w.family, tableName
		w.grow.Add(&s)
	}

	for _, chain := range []string{chainServices, chainRefused, chainReject, chainOutside} {
		w.grow.Add(w.chain(chain))
	}
	w.hook(chainEarlyIn, knftables.FilterType, knftables.PreroutingHook, "dstnat-10")
	w.hook(chainEarlyOut, knftables.FilterType, knftables.OutputHook, "dstnat-10")
	w.hook(chainForward, knftables.FilterType, knftables.ForwardHook, "filter-5")
	w.hook(chainPrerouting, knftables.NATType, knftables.PreroutingHook, "dstnat-5")
	w.hook(chainOutput, knftables.NATType, knftables.OutputHook, "dstnat-5")
	w.hook(chainPostrouting, knftables.NATType, knftables.PostroutingHook, "srcnat-5")

	w.rule(chainReject, "meta l4proto tcp reject with tcp reset")
	w.rule(chainReject, "reject with", unreachable)
	w.rule(chainRefused, at, "vmap", "@", mapRefused)
	local := []any{ip, "daddr !=", loopback, "fib daddr type local", nodeAt}
	w.rule(chainRefused, append(local, "vmap", "@", mapNodeRefused)...)
	// What goes on is let go on: only what begins is refused.
	w.rule(chainEarlyIn, "ct state new", at, "vmap", "@", mapGuarded)
	w.rule(chainEarlyIn, "ct state new jump", chainRefused)
	w.rule(chainEarlyOut, "ct state new jump", chainRefused)

	w.rule(chainServices, at, "vmap", "@", mapFronts)
	w.rule(chainServices, append(local, "vmap", "@", mapNodeFronts)...)
	// Twice, because a packet that looks while elements change may have read from one how many ends there are before the change,
	// and look for the last of them after it.
	for range 2 {
		w.rule(chainPrerouting, "jump", chainServices)
		w.rule(chainOutput, "jump", chainServices)
	}

	// Behind destination NAT: ports are those of pods. What a pod and its own host say to each other does not come here.
	w.rule(chainForward, "ct state established,related return")
	w.rule(chainForward, ip, "saddr .", ip, "daddr", "@", setSelf, "return")
	w.rule(chainForward, ip, "saddr vmap", "@", mapEgress)
	w.rule(chainForward, ip, "daddr vmap", "@", mapIngress)

	// An end that has itself for a client would answer itself directly.
	w.rule(chainPostrouting, "ct status dnat", ip, "saddr .", ip, "daddr", "@", setSelf, "masquerade fully-random")
	w.rule(chainPostrouting, "ct status dnat", ip, "saddr !=", "@", setPods, "jump", chainOutside)
	for _, proto := range []string{"tcp", "udp", "sctp"} { // nft has ports of a flow only where the protocol is certain
		port := []any{"meta l4proto . ct original proto-dst", "@"}
		w.rule(chainOutside, append(append([]any{"meta l4proto", proto, "ct original", ip, "daddr ."}, port...), setMasq, "masquerade fully-random")...)
		w.rule(chainOutside, append(append([]any{"meta l4proto", proto}, port...), setNodeMasq, "masquerade fully-random")...)
	}
	// Pods see one another as they are: what Podman would masquerade on its way to another node is given the source
	// that it has. To accept it would not do, the next chain would see it all the same.
	between := []any{ip, "saddr", "@", setPods, ip, "daddr", "@", setPods, "ct original", ip, "daddr"}
	for _, set := range []string{setPods, setAddrs} {
		w.rule(chainPostrouting, append(between, "@", set, "snat to", ip, "saddr")...)
	}
}

// element is one element of a set or map, with what it should stand for.
type element struct {
	of    string // the set's or map's name
	key   string
	value string // empty in sets
}

func (w writer) object(e element) *knftables.Element {
	o := &knftables.Element{Family: w.family, Table: tableName, Key: []string{e.key}}
	if e.value == "" {
		o.Set = e.of
	} else {
		o.Map, o.Value = e.of, []string{e.value}
	}
	return o
}

func (w writer) share(n int) {
	ip := string(w.family)
	for _, s := range []struct{ chain, at, ends string }{
		{shareChain(key{addr: netip.IPv4Unspecified()}, n), ip + " daddr . ", mapEnds},
		{shareChain(key{}, n), "", mapNodeEnds},
	} {
		w.grow.Add(w.chain(s.chain))
		w.rule(s.chain, "meta l4proto { tcp, udp, sctp } dnat", ip, "addr . port to", s.at+"meta l4proto . th dport . numgen random mod", n, "map", "@", s.ends)
	}
}

// update writes the difference of two tables, of which the first is in the kernel. What is new comes first, for elements
// and rules to name it, and what is not needed any more last.
func (w writer) update(have, want *table, d delta) {
	for _, n := range slices.Sorted(maps.Keys(want.shares)) {
		if !have.shares[n] {
			w.share(n)
		}
	}
	for n := range have.shares {
		want.shares[n] = true // it may stay
	}

	if have.tunnel != want.tunnel {
		w.tunnel(have.tunnel, want.tunnel)
	}

	for _, name := range slices.Sorted(maps.Keys(want.gates)) {
		if !have.chains[name] {
			w.gate(want.gates[name])
		}
	}

	var gone, come []element
	differ := func(old, now []element) {
		o, n := set(old), set(now)
		for _, e := range old {
			if !n[e] {
				gone = append(gone, e)
			}
		}
		for _, e := range now {
			if !o[e] {
				come = append(come, e)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.chains)) {
		if !want.chains[name] {
			w.shrink.Flush(w.chain(name)) // an end's is named by its front's
		}
	}
	for _, k := range d.keys {
		old, now := have.fronts[k], want.fronts[k]
		w.sticky(k, now, have.chains)
		differ(old.elements(k), now.elements(k))
	}
	differ(have.fences, want.fences)
	gone, come = append(gone, d.gone...), append(come, d.come...)
	for _, e := range gone {
		w.swap.Delete(w.object(e))
	}
	for _, e := range come {
		w.swap.Add(w.object(e))
	}
	for _, name := range slices.Sorted(maps.Keys(have.chains)) {
		if want.chains[name] {
			continue
		}
		w.shrink.Delete(w.chain(name))
		if strings.HasPrefix(name, endPrefix) {
			w.shrink.Delete(&knftables.Set{Family: w.family, Table: tableName, Name: name})
		}
	}
}

func set(all []element) map[element]bool {
	s := make(map[element]bool, len(all))
	for _, e := range all {
		s[e] = true
	}
	return s
}

// changed are the fronts that are not the same in two tables, in order.
func changed(have, want *table) []key {
	var keys []key
	for k, f := range want.fronts {
		if have.fronts[k] != f {
			keys = append(keys, k)
		}
	}
	for k := range have.fronts {
		if want.fronts[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.proto, b.proto), cmp.Compare(a.number, b.number))
	})
	return keys
}
