package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroups = "/sys/fs/cgroup"

// groups are the machine's hierarchies of control groups, in each of which a host has a branch.
type groups struct {
	version string   // 1, 2, or 0 for none
	names   []string // of version 1: cpu, memory and so on
}

func findGroups() (groups, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return groups{version: "2"}, nil
	}
	entries, err := os.ReadDir(cgroups)
	if err != nil {
		return groups{}, err
	}
	g := groups{version: "0"}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(cgroups, e.Name(), "tasks")); e.IsDir() && err == nil {
			g.version, g.names = "1", append(g.names, e.Name())
		}
	}
	return g, nil
}

// branches are the folders that are a host's.
func (g groups) branches(host string) []string {
	if g.version == "2" {
		return []string{filepath.Join(cgroups, "host-"+host)}
	}
	var dirs []string
	for _, name := range g.names {
		dirs = append(dirs, filepath.Join(cgroups, name, "host-"+host))
	}
	return dirs
}

// mounts are lines of an fstab that show a host its branches as the whole.
func (g groups) mounts() string {
	if g.version == "2" {
		return "host " + cgroups + " cgroup2\n"
	}
	text := "host " + cgroups + " tmpfs mode=755\n"
	for _, name := range g.names {
		option := name
		if name == "systemd" {
			option = "none,name=systemd"
		}
		text += fmt.Sprintf("host %s/%s cgroup x-mount.mkdir,%s\n", cgroups, name, option)
	}
	return text
}

// join is shell text with which a process that entered a host takes its place in the host's branches.
func (g groups) join() string {
	if g.version == "2" {
		return "echo 0 >" + cgroups + "/init/cgroup.procs; "
	}
	text := ""
	for _, name := range g.names {
		text += "echo 0 >" + cgroups + "/" + name + "/cgroup.procs; "
	}
	return text
}

func (g groups) create(host string) error {
	for _, dir := range g.branches(host) {
		leaf := dir
		if g.version == "2" {
			leaf = filepath.Join(dir, "init")
		}
		if err := os.MkdirAll(leaf, 0o755); err != nil {
			return err
		}
		// A new cpuset of version 1 takes no process.
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			raw, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
			if g.version == "2" || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimSpace(string(raw))), 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a dead host's branches, in which it left groups of its containers.
func (g groups) remove(host string) error {
	for _, top := range g.branches(host) {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := removeGroup(dirs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroup removes an empty group. The kernel lets go of its last process a little after that has ended.
func removeGroup(dir string) error {
	var err error
	for range 200 {
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
