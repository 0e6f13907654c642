package host

import (
	"net/netip"
	"time"
)

// Addresses are those of the fleet that this machine has for a while. Who may have one is decided elsewhere; these make the machine
// have it no longer than that, also when the process is frozen or killed. Safe for concurrent use, on different addresses without
// waiting for one another.
type Addresses interface {
	// Hold has the machine have an address until a moment of the boot clock (CLOCK_BOOTTIME, as the time since the machine was
	// started). The first call opens the fence, adds the address and tells the neighbours, which takes milliseconds; later ones move
	// the moment only, back as well as forth, which takes microseconds. After that moment the kernel lets nothing of the address
	// through, whatever becomes of this process; a call that comes after it is as a first one. An until that is past opens nothing,
	// and is an error. After any other error the address may be had until the moment of the call before. An address that the
	// machine has from somebody else is ErrConflict, and stays as it is.
	Hold(a netip.Addr, until time.Duration) error
	// Drop shuts the fence first, and then takes the address away. It is shut when Drop returns, also with an error, which says that
	// Drop has to be called again. An address that is not held is no error.
	Drop(a netip.Addr) error
}
