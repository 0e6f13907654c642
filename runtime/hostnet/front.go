package hostnet

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"

	"github.com/skerry-dev/skerry/fleet"
)

// key is what a front is found by in a table.
type key struct {
	addr   netip.Addr // the zero Addr: a node port
	proto  string
	number uint16
}

// words are the key as nft has it.
func (k key) words() []string {
	w := []string{k.proto, strconv.Itoa(int(k.number))}
	if k.node() {
		return w
	}
	return append([]string{k.addr.String()}, w...)
}

// name is the key in names of chains and sets, in which there can be no colon.
func (k key) name() string {
	addr := "node"
	if !k.node() {
		addr = plain(k.addr)
	}
	return addr + "-" + k.proto + "-" + strconv.Itoa(int(k.number))
}

func (k key) node() bool { return !k.addr.IsValid() }

func plain(addr netip.Addr) string { return strings.ReplaceAll(addr.String(), ":", ".") }

// front is one front as it is in a table. It does not change.
type front struct {
	slots   []fleet.End // each where the kernel has it; the order says nothing else
	sticky  time.Duration
	masq    bool
	verdict fleet.Verdict // without ends
	guard   *gate         // nil: everybody may come
	asked   fleet.Front   // what it was made from
}

// has says whether an end is one of the front's.
func (f *front) has(e fleet.End) bool { return f != nil && slices.Contains(f.slots, e) }

func endsOf(family knftables.Family, all []fleet.End) (ends []fleet.End, foreign bool) {
	ends = make([]fleet.End, 0, len(all))
	for _, e := range all {
		e.Addr = ip(e.Addr)
		switch {
		case !e.Addr.IsValid():
		case familyOf(e.Addr) != family:
			foreign = true
		case len(ends) < sharing:
			ends = append(ends, e)
		}
	}
	return ends, foreign
}

func frontOf(w *fleet.Front, ends []fleet.End, old *front, guard *gate) *front {
	f := &front{guard: guard, asked: *w, masq: w.Masquerade && len(ends) > 0}
	f.asked.Ends, f.asked.From = slices.Clone(w.Ends), slices.Clone(w.From)
	if len(ends) == 0 {
		f.verdict = w.Verdict
		if f.verdict != fleet.Drop {
			f.verdict = fleet.Reject
		}
	} else if w.Sticky > 0 {
		f.sticky = max(w.Sticky.Truncate(time.Second), time.Second)
	}
	var slots []fleet.End
	if old != nil {
		slots = old.slots
	}
	f.slots = place(slots, ends)
	if old != nil && old.masq == f.masq && old.sticky == f.sticky && old.verdict == f.verdict && old.guard.is(f.guard) && slices.Equal(old.slots, f.slots) {
		return old
	}
	return f
}

// isOf reports whether a front was made from what is asked for. Where it is is not compared.
func (f *front) isOf(w *fleet.Front) bool {
	a := &f.asked
	return a.Sticky == w.Sticky && a.Masquerade == w.Masquerade && a.Verdict == w.Verdict && slices.Equal(a.Ends, w.Ends) &&
		(a.From == nil) == (w.From == nil) && slices.Equal(a.From, w.From)
}

// place puts ends into slots, so that as many as can be stay where they are.
func place(have, want []fleet.End) []fleet.End {
	if len(have) == 0 || slices.Equal(have, want) {
		return want
	}
	left := make(map[fleet.End]bool, len(want))
	for _, e := range want {
		left[e] = true
	}
	slots := make([]fleet.End, len(left))
	var holes []int
	for i := range slots {
		if i < len(have) && left[have[i]] {
			slots[i] = have[i]
			delete(left, have[i])
		} else {
			holes = append(holes, i)
		}
	}
	for _, e := range want {
		if left[e] {
			slots[holes[0]], holes = e, holes[1:]
			delete(left, e)
		}
	}
	return slots
}

func protocol(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}

// elements are those of one front, but for what fronts share.
func (f *front) elements(k key) []element {
	if f == nil {
		return nil
	}
	var all []element
	if f.guard != nil && !k.node() {
		all = append(all, element{mapGuarded, strings.Join(k.words(), " . "), "jump " + f.guard.name})
	}
	ends, fronts, refused, masq := mapEnds, mapFronts, mapRefused, setMasq
	if k.node() {
		ends, fronts, refused, masq = mapNodeEnds, mapNodeFronts, mapNodeRefused, setNodeMasq
	}
	at := strings.Join(k.words(), " . ")
	if len(f.slots) == 0 {
		if f.verdict == fleet.Drop {
			return append(all, element{refused, at, "drop"})
		}
		return append(all, element{refused, at, "goto " + chainReject})
	}
	if f.sticky > 0 {
		all = append(all, element{fronts, at, "goto " + stickyChain(k)})
	} else {
		all = append(all, element{fronts, at, "goto " + shareChain(k, len(f.slots))})
		for i, e := range f.slots {
			all = append(all, element{ends, at + " . " + strconv.Itoa(i), e.Addr.String() + " . " + strconv.Itoa(int(e.Port))})
		}
	}
	if f.masq {
		all = append(all, element{masq, at, ""})
	}
	return all
}

// shareChain is the chain that shares connections out among n ends.
func shareChain(k key, n int) string {
	if k.node() {
		return nodeSharePrefix + strconv.Itoa(n)
	}
	return sharePrefix + strconv.Itoa(n)
}
