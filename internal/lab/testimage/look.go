package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

func environ(w io.Writer, names []string) {
	if len(names) > 0 {
		for _, name := range names {
			fmt.Fprintln(w, os.Getenv(name))
		}
		return
	}
	all := os.Environ()
	sort.Strings(all)
	for _, line := range all {
		fmt.Fprintln(w, line)
	}
}

func identity(w io.Writer) {
	groups, _ := os.Getgroups()
	dir, _ := os.Getwd()
	host, _ := os.Hostname()
	fmt.Fprintf(w, "uid=%d gid=%d groups=%v dir=%s host=%s\n", os.Getuid(), os.Getgid(), groups, dir, host)
}

func hostname(w io.Writer) error {
	name, err := os.Hostname()
	fmt.Fprintln(w, name)
	return err
}

// capabilities has one blank where the kernel has tabs.
func capabilities(w io.Writer) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp":
			fmt.Fprintln(w, strings.Join(append([]string{name + ":"}, strings.Fields(value)...), " "))
		}
	}
	fmt.Fprintf(w, "oom_score_adj: %s", score)
	return nil
}

func processes(w io.Writer) error {
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	sort.Slice(pids, func(i, j int) bool {
		return len(pids[i]) < len(pids[j]) || len(pids[i]) == len(pids[j]) && pids[i] < pids[j]
	})
	for _, dir := range pids {
		b, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		line := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
		if line == "" { // a zombie
			comm, _ := os.ReadFile(dir + "/comm")
			line = "[" + strings.TrimSpace(string(comm)) + "]"
		}
		fmt.Fprintln(w, filepath.Base(dir), line)
	}
	return nil
}

func sysctl(w io.Writer, name string) error {
	return show(w, "/proc/sys/"+strings.ReplaceAll(name, ".", "/"))
}

// limits knows cgroup v1 and v2 by their files.
func limits(w io.Writer) {
	for _, file := range []string{
		"memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.soft_limit_in_bytes",
		"cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "pids/pids.max",
		"memory.max", "memory.low", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max",
	} {
		if b, err := os.ReadFile("/sys/fs/cgroup/" + file); err == nil {
			fmt.Fprintln(w, filepath.Base(file), strings.TrimSpace(string(b)))
		}
	}
}

func resolve(w io.Writer, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(context.Background(), name)
	if err != nil {
		return err
	}
	sort.Strings(addresses)
	for _, address := range addresses {
		fmt.Fprintln(w, address)
	}
	return nil
}
