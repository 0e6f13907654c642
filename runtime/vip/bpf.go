package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addresses is how many different ones a process may ever hold: those that it has dropped stay shut.
const addresses = 4096

// bpfFence is a program on each link for each direction, and a map of addresses with the moments until which they may pass. Moments are
// absolute, so it does no harm to write one late.
type bpfFence struct {
	deadlines *ebpf.Map // address as in 16 bytes -> passage, in nanoseconds
	in, out   *ebpf.Program
}

// passageSize is how many bytes a passage has in the map.
const passageSize = 16

// newBPF loads the programs, and puts them on loopback for a moment, to see whether this kernel can do that.
func newBPF() (_ *bpfFence, err error) {
	_ = rlimit.RemoveMemlock() // kernels before 5.11 count maps; if it fails, so does what follows
	f := &bpfFence{}
	defer func() {
		if err != nil {
			f.release()
		}
	}()
	f.deadlines, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "skerry_vip", Type: ebpf.Hash, KeySize: 16, ValueSize: passageSize, MaxEntries: addresses, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	if f.in, err = load("skerry_vip_in", f.deadlines, incoming); err != nil {
		return nil, err
	}
	if f.out, err = load("skerry_vip_out", f.deadlines, outgoing); err != nil {
		return nil, err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if _, err := f.guard(linkOf(lo)); err != nil {
		return nil, errors.Join(err, sweepFilters(lo.Attrs().Index))
	}
	return f, sweepFilters(lo.Attrs().Index)
}

func load(name string, deadlines *ebpf.Map, fields []field) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: instructions(deadlines.FD(), fields),
	})
	if err != nil {
		return nil, fmt.Errorf("load program %s: %w", name, err)
	}
	return p, nil
}

func (f *bpfFence) kind() string { return FenceBPF }

func (f *bpfFence) open(a netip.Addr, until time.Duration) error {
	if err := f.deadlines.Put(a.As16(), passage{Until: until}); err != nil {
		return fmt.Errorf("open the fence: %w", err)
	}
	return nil
}

func (f *bpfFence) shut(a netip.Addr, lingers time.Duration) error {
	if err := f.deadlines.Put(a.As16(), passage{Lingers: lingers}); err != nil {
		return fmt.Errorf("shut the fence: %w", err)
	}
	return nil
}

func (f *bpfFence) guard(l Link) (bool, error) {
	return putFilters(l, f.in, f.out)
}

func (f *bpfFence) close() error {
	err := sweepFilters(0)
	f.release()
	return err
}

// release gives up what this process has of it. A filter keeps its program, and that its map.
func (f *bpfFence) release() {
	_ = f.in.Close()
	_ = f.out.Close()
	_ = f.deadlines.Close()
}

// Fields of a program's context, struct __sk_buff.
const (
	ctxProtocol    = 16
	ctxVLANPresent = 20
	ctxVLANTag     = 24
)

// What a program says of a packet: go on with other filters, or drop it.
const (
	goOn = -1 // TC_ACT_UNSPEC
	drop = 2  // TC_ACT_SHOT
)

// network is where the network header begins: behind Ethernet's, whose tag of a VLAN the kernel keeps elsewhere.
const network = 14

// instructions is the program that drops what has an address of the map in one of the fields, at another moment than it may.
func instructions(deadlines int, fields []field) asm.Instructions {
	const (
		key     = -16 // on the stack
		scratch = -24
	)
	context, deadline, lingers := asm.R6, asm.R8, asm.R9
	read := func(at, size, to int) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, context),
			asm.Mov.Imm(asm.R2, int32(network+at)),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, int32(to)),
			asm.Mov.Imm(asm.R4, int32(size)),
			asm.FnSkbLoadBytes.Call(),
		}
	}
	// look has R0 be where the address that stands in the packet has its deadline; 0: it is none of ours. It goes to none where the packet
	// ends before.
	look := func(at, size int, none string) asm.Instructions {
		ins := asm.Instructions{ // what comes before an IPv4 address in 16 bytes
			asm.StoreImm(asm.RFP, key, 0, asm.DWord),
			asm.StoreImm(asm.RFP, key+8, 0, asm.Half),
			asm.StoreImm(asm.RFP, key+10, -1, asm.Half),
		}
		ins = append(ins, read(at, size, key+16-size)...)
		return append(ins,
			asm.JNE.Imm(asm.R0, 0, none),
			asm.LoadMapPtr(asm.R1, deadlines),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, key),
			asm.FnMapLookupElem.Call(),
		)
	}
	// byteAt has R1 be a byte of the packet. It goes to none where the packet ends before.
	byteAt := func(at int, none string) asm.Instructions {
		return append(read(at, 1, scratch), asm.JNE.Imm(asm.R0, 0, none), asm.LoadMem(asm.R1, asm.RFP, scratch, asm.Byte))
	}
	// unless goes to none where the packet has something else there.
	unless := func(c content, none string) asm.Instructions {
		ins := byteAt(c.at, none)
		if c.mask != 0 {
			ins = append(ins, asm.And.Imm(asm.R1, int32(c.mask)))
		}
		return append(ins, asm.JNE.Imm(asm.R1, int32(c.is), none))
	}
	ins := asm.Instructions{
		asm.Mov.Reg(context, asm.R1),
		// Frames of a VLAN are for another link. Those with the number 0 are in none.
		asm.LoadMem(asm.R2, context, ctxVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R2, 0, "untagged"),
		asm.LoadMem(asm.R2, context, ctxVLANTag, asm.Word),
		asm.And.Imm(asm.R2, 0xfff),
		asm.JNE.Imm(asm.R2, 0, "pass"),
		asm.LoadMem(asm.R7, context, ctxProtocol, asm.Word).WithSymbol("untagged"),
	}
	for i, f := range fields {
		next := fmt.Sprintf("next%d", i)
		ins = append(ins, asm.JNE.Imm(asm.R7, int32(wireOrder(f.ether)), next))
		for _, c := range f.where {
			ins = append(ins, unless(c, next)...)
		}
		if f.except != 0 {
			ins = append(append(ins, look(f.except, f.size, next)...), asm.JNE.Imm(asm.R0, 0, next))
		}
		ins = append(ins, look(f.at, f.size, next)...)
		ins = append(ins,
			asm.JEq.Imm(asm.R0, 0, next),
			asm.LoadMem(deadline, asm.R0, 0, asm.DWord),
			asm.LoadMem(lingers, asm.R0, passageSize/2, asm.DWord),
			asm.FnKtimeGetBootNs.Call(),
			asm.JLE.Reg(asm.R0, deadline, next))
		if f.lingers {
			ins = append(ins, asm.JGT.Reg(asm.R0, lingers, "drop"))
			for _, c := range goesOn {
				ins = append(ins, unless(c, "drop")...)
			}
			ins = append(append(ins, byteAt(tcpFlags, "drop")...), asm.And.Imm(asm.R1, tcpBoth), asm.JNE.Imm(asm.R1, tcpSYN, next))
		}
		ins = append(ins, asm.Ja.Label("drop"), asm.Mov.Imm(asm.R0, 0).WithSymbol(next))
	}
	return append(ins,
		asm.Mov.Imm(asm.R0, goOn).WithSymbol("pass"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return())
}
