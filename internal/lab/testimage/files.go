package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// add writes a line at the end of a file, which it makes if need be.
func add(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text+"\n")
	return errors.Join(err, f.Close())
}

// fill makes a file of that size. The kernel may forget what is in it when it returns, as it lies on the disk.
func fill(path, quantity string) error {
	n, err := bytes(quantity)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for left := n; left > 0 && err == nil; left -= len(block) {
		_, err = f.Write(block[:min(left, len(block))])
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	now := time.Now()
	return errors.Join(f.Close(), os.Chtimes(path, now, now))
}

func show(w io.Writer, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func list(w io.Writer, path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, syscall.ENOTDIR) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		line(w, info)
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(path, e.Name()))
		if err != nil {
			return err
		}
		line(w, info)
	}
	return nil
}

func line(w io.Writer, info os.FileInfo) {
	sys := info.Sys().(*syscall.Stat_t)
	fmt.Fprintf(w, "%v %d %d %d %s\n", info.Mode(), sys.Uid, sys.Gid, info.Size(), info.Name())
}

func stat(w io.Writer, path string) error {
	var s syscall.Stat_t
	if err := syscall.Lstat(path, &s); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	kind := map[uint32]string{
		syscall.S_IFREG: "file", syscall.S_IFDIR: "dir", syscall.S_IFLNK: "link", syscall.S_IFSOCK: "socket",
		syscall.S_IFIFO: "fifo", syscall.S_IFCHR: "char", syscall.S_IFBLK: "block",
	}[s.Mode&syscall.S_IFMT]
	fmt.Fprintf(w, "%s %04o %d %d %s", kind, s.Mode&0o7777, s.Uid, s.Gid, path)
	if kind == "link" {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, " -> %s", target)
	}
	fmt.Fprintln(w)
	return nil
}
