package hosts

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// disks is where the lab keeps the hosts' disks: scripts/lab removes it in the end, even when the test is killed.
const disks = "/var/lib/containers/hosts"

// Capacity is how much /var/lib/skerry holds, in bytes. It is a file system of its own, so that filling it neither
// takes room from Podman nor from the machine.
const Capacity = 512 << 20

// makeDisk makes what a host keeps while it is off: its /var/lib and /etc/containers. /var/lib/skerry is in memory, but
// mounted outside of the host.
func (h *Host) makeDisk() error {
	data := h.dataDir()
	for _, dir := range []string{data, filepath.Join(h.disk, "lib/containers"), filepath.Join(h.disk, "output")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("host", data, "tmpfs", 0, sized(Capacity)); err != nil {
		return fmt.Errorf("mount %s: %w", data, err)
	}
	etc := filepath.Join(h.disk, "etc")
	if err := os.CopyFS(etc, os.DirFS("/etc/containers")); err != nil {
		return err
	}
	// The lab's settings, and images from its storage. Checkers read the file of events, which Podman would begin anew
	// at one megabyte.
	settings, err := os.ReadFile(filepath.Join(etc, "containers.conf"))
	if err != nil {
		return err
	}
	settings = bytes.Replace(settings, []byte("[engine]"), []byte("[engine]\nevents_logfile_max_size = \"1g\""), 1)
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	for _, other := range h.site.Hosts {
		hosts += fmt.Sprintf("%s %s\n", other.Address, other.Name)
	}
	for name, text := range map[string]string{
		"etc/containers.conf": string(settings),
		"etc/storage.conf": `[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
[storage.options]
additionalimagestores = ["/run/images"]
`,
		"hosts": hosts,
		"fstab": h.fstab(),
	} {
		if err := os.WriteFile(filepath.Join(h.disk, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fstab is what is mounted in a host, in this order. The source "host" is that of no mount of the lab, or mount would think
// that it is there already.
func (h *Host) fstab() string {
	return "host /sys sysfs nosuid,nodev,noexec\n" + h.site.groups.mounts() +
		"host /run tmpfs mode=755\n" +
		"host /dev/shm tmpfs mode=1777\n" +
		"/var/lib/containers/storage /run/images none bind,ro,x-mount.mkdir\n" + // before /var/lib is another
		h.disk + "/etc /etc/containers none bind\n" +
		h.disk + "/hosts /etc/hosts none bind\n" +
		h.disk + "/lib /var/lib none rbind\n"
}

func (h *Host) removeDisk() error {
	if err := unix.Unmount(h.dataDir(), 0); err != nil && !os.IsNotExist(err) && err != unix.EINVAL {
		return fmt.Errorf("unmount %s: %w", h.dataDir(), err)
	}
	return os.RemoveAll(h.disk)
}

// dataDir is /var/lib/skerry of the host, as the test sees it, whether the host is on or off.
func (h *Host) dataDir() string { return filepath.Join(h.disk, "lib/skerry") }

// Disk is where the test finds a file below /var/lib of the host, whether that is on or off.
func (h *Host) Disk(path string) string { return filepath.Join(h.disk, "lib", path) }

// FillDisk leaves no room in /var/lib/skerry: writing fails with ENOSPC. What is there can still be read, and removing it
// makes no room.
func (h *Host) FillDisk() {
	h.site.t.Helper()
	// The file system is made as small as what is in it, which needs no memory. Somebody may write at the same time.
	var err error
	for range 100 {
		var s unix.Statfs_t
		if err = unix.Statfs(h.dataDir(), &s); err != nil {
			break
		}
		// A size of zero would be no limit.
		if err = h.resize(max(1, int64(s.Blocks-s.Bfree)*s.Bsize)); err == nil {
			return
		}
	}
	h.site.t.Fatalf("fill the disk of host %s: %v", h.Name, err)
}

// FreeDisk undoes FillDisk.
func (h *Host) FreeDisk() {
	h.site.t.Helper()
	if err := h.resize(Capacity); err != nil {
		h.site.t.Fatalf("free the disk of host %s: %v", h.Name, err)
	}
}

func (h *Host) resize(size int64) error {
	return unix.Mount("host", h.dataDir(), "tmpfs", unix.MS_REMOUNT, sized(size))
}

func sized(bytes int64) string { return "mode=755,size=" + strconv.FormatInt(bytes, 10) }
