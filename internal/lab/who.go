package lab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ARP asks on a link who has an address, in the name of machines that do not exist: each question is of another one, so that it is known
// which question an answer is to.
type ARP struct {
	Tagged bool // frames have the tag of VLAN 0, which is none

	frames *os.File
	to     unix.SockaddrLinklayer
	own    net.HardwareAddr
	addr   netip.Addr
	mark   byte
}

// NewARP asks for an IPv4 address on a link of the network namespace that the caller's thread is in. Those who ask on one switch at once have
// another mark each.
func NewARP(link string, a netip.Addr, mark byte) (*ARP, error) {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	f, err := Frames(l, unix.ETH_P_ARP)
	if err != nil {
		return nil, err
	}
	return &ARP{frames: f, to: unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: bigEndian(unix.ETH_P_ARP)}, own: l.HardwareAddr, addr: a, mark: mark}, nil
}

// Frames is a socket for all frames of a type on a link, also those that are for other machines.
func Frames(l *net.Interface, ether uint16) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "frames")
	err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(l.Index), Type: unix.PACKET_MR_PROMISC})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: bigEndian(ether)})
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("hear frames on %s: %w", l.Name, err)
	}
	return f, nil
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// Ask asks.
func (a *ARP) Ask(number uint32) {
	asking := append([]byte{2, a.mark}, binary.BigEndian.AppendUint32(nil, number)...)
	from := a.addr.As4()
	from[3] ^= 0xff // nobody in particular
	f := append(bytes.Repeat([]byte{0xff}, 6), a.own...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, asking...), from[:]...)
	f = append(append(f, make([]byte, 6)...), a.addr.AsSlice()...)
	if a.Tagged {
		f = slices.Insert(f, 12, 0x81, 0, 0, 0)
	}
	c, err := a.frames.SyscallConn()
	if err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), f, 0, &a.to) }) // what is lost is not answered
	}
}

// Answer waits for an answer: to which question, and who gave it. It is false after Close.
func (a *ARP) Answer() (number uint32, by string, ok bool) {
	b := make([]byte, 200)
	for {
		n, err := a.frames.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return 0, "", false
		}
		if err == nil && n >= 42 && b[0] == 2 && b[1] == a.mark && b[21] == 2 && bytes.Equal(b[28:32], a.addr.AsSlice()) {
			return binary.BigEndian.Uint32(b[2:]), net.HardwareAddr(b[6:12]).String(), true
		}
	}
}

// Close ends a wait for answers.
func (a *ARP) Close() error { return a.frames.Close() }

// Who asks who has an address, again and again.
type Who struct {
	arp  *ARP
	done chan struct{}
	ends sync.WaitGroup

	mu      sync.Mutex
	asked   []time.Time // by number
	answers []Answer
}

// Answer is that somebody has an address: he heard the question after Asked and had answered before Came.
type Answer struct {
	By          string // his MAC
	Asked, Came time.Time
}

// whoEvery is how often Who asks, and whoApart is for how long nobody has to answer to be taken for one who does not have it any more. In less
// than that no address goes to another machine and comes back.
const (
	whoEvery = 2 * time.Millisecond
	whoApart = 5 * whoEvery
)

// AskWho asks until Stop, as NewARP does.
func AskWho(link string, a netip.Addr) (*Who, error) {
	arp, err := NewARP(link, a, 0x77)
	if err != nil {
		return nil, err
	}
	w := &Who{arp: arp, done: make(chan struct{})}
	w.ends.Go(w.ask)
	w.ends.Go(w.hear)
	return w, nil
}

func (w *Who) ask() {
	tick := time.NewTicker(whoEvery)
	defer tick.Stop()
	for {
		w.mu.Lock()
		number := uint32(len(w.asked))
		w.asked = append(w.asked, time.Now())
		w.mu.Unlock()
		w.arp.Ask(number)
		select {
		case <-w.done:
			return
		case <-tick.C:
		}
	}
}

func (w *Who) hear() {
	for {
		number, by, ok := w.arp.Answer()
		if !ok {
			return
		}
		came := time.Now()
		w.mu.Lock()
		if int(number) < len(w.asked) {
			w.answers = append(w.answers, Answer{by, w.asked[number], came})
		}
		w.mu.Unlock()
	}
}

// Stop ends it. It may be called again.
func (w *Who) Stop() {
	select {
	case <-w.done:
		return
	default:
	}
	close(w.done)
	_ = w.arp.Close()
	w.ends.Wait()
}

// Answers are all so far, as they came.
func (w *Who) Answers() []Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answers)
}

// Last is who gave the last answer to what was asked since a moment; "": nobody.
func (w *Who) Last(since time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.answers) - 1; i >= 0 && w.answers[i].Came.After(since); i-- {
		if w.answers[i].Asked.After(since) {
			return w.answers[i].By
		}
	}
	return ""
}

// Tenure is a time in which somebody certainly had an address: from when his first answer came until his last was asked for.
type Tenure struct {
	By          string
	From, Until time.Time
}

// Tenures are those that answers show, in the order in which they began.
func Tenures(answers []Answer) []Tenure {
	var all []Tenure
	last := map[string]int{}
	for _, a := range answers {
		if i, known := last[a.By]; known && a.Asked.Sub(all[i].Until) <= whoApart {
			if a.Asked.After(all[i].Until) {
				all[i].Until = a.Asked
			}
			continue
		}
		last[a.By] = len(all)
		all = append(all, Tenure{a.By, a.Came, a.Asked})
	}
	slices.SortStableFunc(all, func(a, b Tenure) int { return a.From.Compare(b.From) })
	return all
}

// Overlap is a time in which two had an address.
type Overlap struct {
	A, B        string
	From, Until time.Time
}

func (o Overlap) String() string {
	return fmt.Sprintf("%s and %s both had it for %v from %s on", o.A, o.B, o.Until.Sub(o.From).Round(time.Microsecond), o.From.UTC().Format("15:04:05.000"))
}

// Overlaps are all times in which two had the address. Such a time is found when it is longer than two questions are apart.
func Overlaps(tenures []Tenure) []Overlap {
	var all []Overlap
	for i, a := range tenures {
		for _, b := range tenures[i+1:] {
			if !b.From.Before(a.Until) {
				break
			}
			until := a.Until
			if b.Until.Before(until) {
				until = b.Until
			}
			if a.By != b.By && b.From.Before(until) {
				all = append(all, Overlap{a.By, b.By, b.From, until})
			}
		}
	}
	return all
}

// Longest is the longest time between two answers of which one was asked for after since.
func Longest(answers []Answer, since time.Time) (gap time.Duration) {
	answers = slices.Clone(answers)
	slices.SortStableFunc(answers, func(a, b Answer) int { return cmp.Compare(a.Asked.UnixNano(), b.Asked.UnixNano()) })
	for i := range answers[min(1, len(answers)):] {
		if answers[i+1].Asked.After(since) {
			gap = max(gap, answers[i+1].Asked.Sub(answers[i].Asked))
		}
	}
	return gap
}
