package vip

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// moments are when neighbours are told of an address after it was taken; after the last, every refresh.
var moments = []time.Duration{0, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 5 * time.Second}

// refresh is how often they are told while all is quiet.
const refresh = time.Minute

// quiet is how long a conflict is not told of again.
const quiet = time.Second

// holding is an address that is held, or was.
type holding struct {
	addr  netip.Addr
	fault string // why it could not be mended, as the watch has logged it

	mu        sync.Mutex
	taken     bool // all below is of use only then
	until     time.Duration
	since     time.Time
	link      Link
	conflicts int
	toldLast  time.Time     // of a conflict
	stop      chan struct{} // closed when it is dropped
	bell      chan struct{} // rings when neighbours are to be told from the start
}

// again has neighbours told anew. one.mu is locked.
func (one *holding) again() {
	select {
	case one.bell <- struct{}{}:
	default:
	}
}

// attend begins to look after an address on the link where it is, until one.stop. one.mu is locked.
func (h *Holder) attend(one *holding) {
	one.stop, one.bell = make(chan struct{}), make(chan struct{}, 1)
	stop, bell, l := one.stop, one.bell, one.link
	h.loops.Go(func() { h.announce(one, stop, bell) })
	h.loops.Go(func() { h.listen(one, stop, l) })
}

// announce tells neighbours of an address that Hold has just told of, until stop.
func (h *Holder) announce(one *holding, stop, bell <-chan struct{}) {
	begun, next, bad := time.Now(), 1, false
	timer := time.NewTimer(moments[next])
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-bell:
			begun, next = time.Now(), 0
		case <-timer.C:
		}
		one.mu.Lock()
		link, may := one.link, one.taken && one.until > bootTime()
		one.mu.Unlock()
		if may {
			err := h.tell.Announce(link, one.addr)
			if err != nil && !bad {
				h.log.Warn("neighbours are not told of an address", "addr", one.addr, "err", err)
			}
			bad = err != nil
		}
		if next++; next < len(moments) {
			timer.Reset(time.Until(begun.Add(moments[next])))
		} else {
			timer.Reset(refresh)
		}
	}
}

// listen notices whoever else says that he has the address, until stop.
func (h *Holder) listen(one *holding, stop <-chan struct{}, l Link) {
	f, err := others(l, one.addr)
	if err != nil {
		h.log.Warn("nobody will notice another machine with an address", "addr", one.addr, "err", err)
		return
	}
	h.loops.Go(func() {
		<-stop
		_ = f.Close() // takes the kernel a grace period, for which nobody waits here
	})
	own := func() net.HardwareAddr {
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.link.MAC
	}
	hear(f, own, func(mac net.HardwareAddr) {
		if h.noteConflict(one) {
			h.log.Warn("another machine says that it has an address that is held here", "addr", one.addr, "mac", mac.String())
			if h.conflict != nil {
				h.conflict(one.addr, mac)
			}
		}
	})
}

// noteConflict counts a conflict, and says whether it is to be told of; then neighbours are, too.
func (h *Holder) noteConflict(one *holding) bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	if !one.taken || one.until <= bootTime() {
		return false
	}
	one.conflicts++
	if time.Since(one.toldLast) < quiet {
		return false
	}
	one.toldLast = time.Now()
	one.again()
	return true
}
