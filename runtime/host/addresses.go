package host

import (
	"net/netip"
	"time"
)

// Addresses are those of the fleet that this machine has for a while. Who may have one is decided elsewhere; these make the machine
// have it no longer than that, also when the process is frozen or killed. Safe for concurrent use, on different addresses without
// waiting for one another.
type Addresses interface {
	// Expect says that the machine may be told to have an address: the first Hold takes less time then. It may be called at any time.
	Expect()
	// Hold has the machine have an address until a moment of the boot clock (CLOCK_BOOTTIME, as the time since the machine was
	// started). The first call opens the fence, adds the address and tells the neighbours, which takes milliseconds; later ones move
	// the moment only, back as well as forth, which takes microseconds. After that moment the kernel lets nothing of the address
	// through, whatever becomes of this process; a call that comes after it is as a first one. An until that is past opens nothing,
	// and is an error. After any other error the address may be had until the moment of the call before. An address that the
	// machine has from somebody else is ErrConflict, and stays as it is.
	//
	// Former is the machine that has let go of the address for this one, with lingers; the zero Addr: none has. For Linger words over TCP of
	// connections that are not known here are sent on to it, if it is a neighbour. It is heeded by the first call only, and that they
	// cannot be sent on is logged, and no error.
	Hold(a netip.Addr, until time.Duration, former netip.Addr) error
	// Drop shuts the fence first, and then takes the address away. It is shut when Drop returns, also with an error, which says that
	// Drop has to be called again. An address that is not held is no error.
	//
	// With lingers, connections over TCP that are led on to pods here may go on for Linger, which is IPv4 only: the fence lets their packets
	// through, and no packet that begins one. Those to processes of the machine itself are reset when they say something.
	Drop(a netip.Addr, lingers bool) error
	// State is what the machine has, in the order of addresses. It waits for a Hold or Drop that is under way.
	State() []Held
}

// Held is an address that a machine has.
type Held struct {
	Addr      netip.Addr
	Link      string
	Since     time.Time
	Fence     string // of which kind
	Open      bool   // the fence lets it through; else its time is over, and Drop was not called
	Conflicts int    // how often another machine said that it has it, since
}

// Linger is for how long connections to an address may go on where it was: as long as pods have to end, unless they say otherwise.
const Linger = 30 * time.Second
