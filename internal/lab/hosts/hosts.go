// Package hosts gives a test several machines on one: each has namespaces of its own, a disk, a Podman, and a network card
// on a switch that the test can cut. It is for what happens between machines: partitions, power cuts, full disks.
//
// A host has its own /run, /dev/shm, /var/lib, /etc/containers, /sys and process numbers, and the address 10.66.0.11 and up.
// All else of the file system (/tmp, /usr, the work tree) is the same for all hosts and the test, so a binary or a
// repository that a test made can be used by its path. The test itself is not on the switch; Dial is.
//
// Nothing is left behind, however the test ends: namespaces live as long as the processes in them, and those as long as
// scripts/lab, inside which all of this happens. What it does to mounts, networks and Podman is seen by the lab alone.
//
// A Checker watches what containers the hosts run and says in the end which of the promises about them were broken.
//
// Only tests import this package.
package hosts

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/skerry-dev/skerry/internal/lab"
)

// Site is some hosts and the switch between them.
type Site struct {
	Hosts []*Host // a, b, c and so on

	t        testing.TB
	bare     bool // without Podman
	wires    *wires
	groups   groups
	mu       sync.Mutex
	checkers []*Checker
}

// Host is one machine. Its methods may be called from several goroutines, but for those that switch it on and off.
type Host struct {
	Name    string
	Address netip.Addr

	site *Site
	disk string // where the lab keeps its disk

	mu        sync.Mutex
	power     *power // nil while it is off
	processes map[string]*process
}

// New makes n hosts and switches them on, or skips the test outside of a lab. lab.Image's images are there on all
// of them. The first call in a test binary takes a second or two for the images.
func New(t testing.TB, n int) *Site {
	t.Helper()
	makeImages(t)
	return newSite(t, n, false)
}

// NewBare is New for hosts without Podman, which start in a moment.
func NewBare(t testing.TB, n int) *Site {
	t.Helper()
	lab.Need(t)
	if err := os.MkdirAll("/var/lib/containers/storage", 0o700); err != nil { // hosts have it as a disk
		t.Fatal(err)
	}
	return newSite(t, n, true)
}

func newSite(t testing.TB, n int, bare bool) *Site {
	t.Helper()
	groups, err := findGroups()
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{t: t, bare: bare, groups: groups}
	t.Cleanup(s.end)
	if s.wires, err = newWires(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		h := &Host{
			Name: string(rune('a' + i)), Address: netip.AddrFrom4([4]byte{10, 66, 0, byte(11 + i)}),
			site: s, processes: map[string]*process{},
		}
		h.disk = filepath.Join(disks, h.Name)
		s.Hosts = append(s.Hosts, h)
	}
	// Side by side: most of the time of one is waiting for the kernel.
	var all sync.WaitGroup
	errs := make([]error, n)
	for i, h := range s.Hosts {
		all.Go(func() {
			if errs[i] = h.makeDisk(); errs[i] == nil {
				errs[i] = h.switchOn()
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("host %s: %v", s.Hosts[i].Name, err)
		}
	}
	return s
}

// made says whether the images are there, for all tests of this binary.
var made struct {
	sync.Mutex
	images bool
}

// makeImages puts images into the lab's own storage, which hosts see as one that they can only read. The one that holds
// Podman's pods together is built when the first pod is made; each host would build its own.
func makeImages(t testing.TB) {
	t.Helper()
	s := lab.Podman(t)
	lab.Image(t, s)
	made.Lock()
	defer made.Unlock()
	if made.images {
		return
	}
	s.CLI(t, "pod", "create", "--name=skerry-hosts")
	s.CLI(t, "pod", "rm", "--force", "skerry-hosts")
	made.images = true
}

// Host is the host of that name.
func (s *Site) Host(name string) *Host {
	s.t.Helper()
	for _, h := range s.Hosts {
		if h.Name == name {
			return h
		}
	}
	s.t.Fatalf("there is no host %s", name)
	return nil
}

// end switches all off and removes what they kept.
func (s *Site) end() {
	for _, h := range s.Hosts {
		if s.t.Failed() {
			h.showOutput()
		}
	}
	for _, h := range s.Hosts {
		if err := h.switchOff(); err != nil {
			s.t.Errorf("host %s: %v", h.Name, err)
		}
		if err := h.removeDisk(); err != nil {
			s.t.Errorf("host %s: %v", h.Name, err)
		}
	}
	if s.wires != nil {
		s.wires.close()
	}
}

// ctx is the test's, but goes on for what is done at its end.
func (h *Host) ctx() context.Context { return context.WithoutCancel(h.site.t.Context()) }

// Path is where the test finds a file of the host, which has to be on: a socket below /run, say. It is another one after
// a power cut.
func (h *Host) Path(path string) string {
	h.site.t.Helper()
	p, err := h.path(path)
	if err != nil {
		h.site.t.Fatal(err)
	}
	return p
}

func (h *Host) path(path string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.power == nil {
		return "", fmt.Errorf("host %s is off", h.Name)
	}
	return h.power.path(path), nil
}

// showOutput writes to the test's log what processes have said.
func (h *Host) showOutput() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.processes {
		raw, _ := os.ReadFile(h.outputFile(name))
		h.site.t.Logf("what %s wrote on host %s:\n%s", name, h.Name, raw[max(0, len(raw)-shown):])
	}
}

// shown is how many bytes of a process's output are shown when a test fails: the last ones.
const shown = 8000
