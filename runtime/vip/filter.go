package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a filter of ours is called, by which it is known again. The longer name is had where the qdisc was not there before, and goes with
// the filters.
const (
	filterName       = "skerry-vip"
	filterAndQdisc   = filterName + "-qdisc"
	filterHandle     = 0x736b
	filterPriorities = 16 // how many are tried
)

// directions are where filters of a link hang.
var directions = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// putFilters sees to it that a link has both filters, with these programs. Filters that others put there stay; ours come first where there
// is room, because one that accepts a packet ends the search.
func putFilters(l Link, in, out *ebpf.Program) (changed bool, err error) {
	qdisc, err := clsact(l.Index)
	if err != nil {
		return false, fmt.Errorf("fence %s: %w", l.Name, err)
	}
	own := qdisc == nil
	if own {
		err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}})
		if err != nil {
			return false, fmt.Errorf("fence %s: add qdisc clsact: %w", l.Name, err)
		}
	}
	have, err := filters(l.Index)
	if err != nil {
		return own, fmt.Errorf("fence %s: %w", l.Name, err)
	}
	own = own || slices.ContainsFunc(have, func(f netlink.Filter) bool { return ours(f) && f.(*netlink.BpfFilter).Name == filterAndQdisc })
	for i, p := range []*ebpf.Program{in, out} {
		info, err := p.Info()
		if err != nil {
			return changed, fmt.Errorf("fence %s: %w", l.Name, err)
		}
		id, _ := info.ID()
		there := false
		for _, f := range have {
			if ours(f) && f.Attrs().Parent == directions[i] {
				there = f.(*netlink.BpfFilter).Id == int(id)
			}
		}
		if there {
			continue
		}
		changed = true
		if err := putFilter(l.Index, directions[i], p, own); err != nil {
			return changed, fmt.Errorf("fence %s: add filter: %w", l.Name, err)
		}
	}
	return changed, nil
}

func putFilter(link int, parent uint32, p *ebpf.Program, own bool) (err error) {
	f := netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: link, Parent: parent, Handle: filterHandle, Protocol: unix.ETH_P_ALL},
		Fd:          p.FD(), Name: filterName, DirectAction: true,
	}
	if own {
		f.Name = filterAndQdisc
	}
	for f.Priority = 1; f.Priority <= filterPriorities; f.Priority++ {
		// What is there with this priority may be of another kind or protocol.
		if err = netlink.FilterAdd(&f); err == nil {
			return nil
		}
	}
	return err
}

// clsact is the qdisc of a link on which filters hang; nil: there is none.
func clsact(link int) (netlink.Qdisc, error) {
	all, err := netlink.QdiscList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: link}})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range all {
		if q.Attrs().LinkIndex == link && q.Type() == "clsact" {
			return q, nil
		}
	}
	return nil, nil
}

// occupied is a link that has a qdisc which leaves no room for clsact; "": there is none.
func occupied() (string, error) {
	all, err := netlink.QdiscList(nil)
	if err != nil {
		return "", fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range all {
		if q.Type() == "ingress" {
			if l, err := netlink.LinkByIndex(q.Attrs().LinkIndex); err == nil {
				return l.Attrs().Name, nil
			}
		}
	}
	return "", nil
}

// filters are all of a link, whosever they are.
func filters(link int) (all []netlink.Filter, err error) {
	for _, d := range directions {
		some, err := netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: link}}, d)
		if err != nil {
			return nil, fmt.Errorf("list filters: %w", err)
		}
		for _, f := range some {
			f.Attrs().Parent = d // the kernel may tell another name of it
		}
		all = append(all, some...)
	}
	return all, nil
}

func ours(f netlink.Filter) bool {
	b, ok := f.(*netlink.BpfFilter)
	return ok && b.Handle == filterHandle && (b.Name == filterName || b.Name == filterAndQdisc)
}

// fenced are the links that have a filter of ours, whichever process put it there, with all of their filters.
func fenced() (map[int][]netlink.Filter, error) {
	all, err := netlink.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	found := map[int][]netlink.Filter{}
	for _, q := range all {
		if q.Type() != "clsact" {
			continue
		}
		have, err := filters(q.Attrs().LinkIndex)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(have, ours) {
			found[q.Attrs().LinkIndex] = have
		}
	}
	return found, nil
}

// sweepFilters removes all filters of ours from one link, or with 0 from all, and the qdisc where it was added for them and has no others.
func sweepFilters(only int) error {
	found, err := fenced()
	errs := []error{err}
	for link, have := range found {
		if only != 0 && link != only {
			continue
		}
		own, others := false, false
		for _, f := range have {
			if !ours(f) {
				others = true
				continue
			}
			own = own || strings.HasSuffix(f.(*netlink.BpfFilter).Name, "-qdisc")
			if err := netlink.FilterDel(f); err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("remove filter: %w", err))
			}
		}
		if !own || others {
			continue
		}
		q, err := clsact(link)
		if err == nil && q != nil {
			err = netlink.QdiscDel(q)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove qdisc: %w", err))
		}
	}
	return errors.Join(errs...)
}

// remembered are the addresses that filters know which an earlier process left.
func remembered() (all []netip.Addr, err error) {
	found, err := fenced()
	if err != nil {
		return nil, err
	}
	for _, have := range found {
		for _, f := range have {
			if !ours(f) {
				continue
			}
			some, err := keys(ebpf.ProgramID(f.(*netlink.BpfFilter).Id))
			if err != nil {
				return nil, fmt.Errorf("look into the fence of an earlier process: %w", err)
			}
			all = append(all, some...)
		}
	}
	return all, nil
}

// keys are the addresses in the map of a program.
func keys(id ebpf.ProgramID) (all []netip.Addr, err error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	maps, _ := info.MapIDs()
	for _, id := range maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		defer m.Close()
		var key [16]byte
		var value []byte // of whatever size it had then
		for each := m.Iterate(); each.Next(&key, &value); {
			all = append(all, netip.AddrFrom16(key).Unmap())
		}
	}
	return all, nil
}

// gone says whether an error is that what should be removed is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}
