package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// listen makes the signals that end us come by the channel, from now on.
func listen() <-chan os.Signal {
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	return told
}

// wait returns when we were told to end and $LINGER is over, or with what comes by over.
func wait(told <-chan os.Signal, over <-chan error) error {
	linger, err := duration("LINGER")
	if err != nil {
		return err
	}
	var end <-chan time.Time
	for {
		select {
		case err := <-over:
			return err
		case sig := <-told:
			if err := note(sig); err != nil {
				return err
			}
			if linger == 0 {
				return nil
			}
			if end == nil {
				end = time.After(linger)
			}
		case <-end:
			return nil
		}
	}
}

// note says that a signal came, on stdout and in $TERM_FILE.
func note(sig os.Signal) error {
	name := "TERM"
	if sig == syscall.SIGINT {
		name = "INT"
	}
	fmt.Println("received", name)
	if path := os.Getenv("TERM_FILE"); path != "" {
		return add(path, name+" "+time.Now().Format(time.RFC3339Nano))
	}
	return nil
}

// duration is the value of an environment variable, 0 when there is none.
func duration(name string) (time.Duration, error) {
	value := os.Getenv(name)
	if value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// sleep returns as wait does, and after the duration when one is given.
func sleep(args []string) error {
	told := listen()
	over := make(chan error, 1)
	if len(args) > 0 {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		time.AfterFunc(d, func() { over <- nil })
	}
	return wait(told, over)
}

func ignoreTerm() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	for {
		time.Sleep(time.Hour)
	}
}

// hang leaves stdout and stderr to its child, too, as a careless script would.
func hang() error {
	child := exec.CommandContext(context.Background(), "/proc/self/exe")
	child.Args = []string{"ignore-term"}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("hanging with", child.Process.Pid)
	return child.Wait()
}

// eat takes the memory from the kernel itself, so that it is neither collected nor more than was asked for.
func eat(quantity string) error {
	told := listen()
	n, err := bytes(quantity)
	if err != nil {
		return err
	}
	const step = 1 << 20
	for left := n; left > 0; left -= step {
		piece, err := syscall.Mmap(-1, 0, min(left, step), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < len(piece); i += os.Getpagesize() {
			piece[i] = 1
		}
	}
	fmt.Println("ate", n)
	return wait(told, nil)
}

func burn() error {
	told := listen()
	go func() {
		for sum := [sha256.Size]byte{}; ; {
			sum = sha256.Sum256(sum[:])
		}
	}()
	fmt.Println("burning")
	return wait(told, nil)
}

// bytes reads a whole number with one of Kubernetes' suffixes.
func bytes(quantity string) (int, error) {
	digits := strings.TrimRight(quantity, "KMGki")
	unit, ok := map[string]int{
		"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30,
	}[quantity[len(digits):]]
	n, err := strconv.Atoi(digits)
	if err != nil || !ok || n < 0 {
		return 0, fmt.Errorf("not a quantity: %q", quantity)
	}
	return n * unit, nil
}

func until(path string) (int, error) {
	told := listen()
	look := time.Tick(20 * time.Millisecond)
	for {
		_, err := os.Lstat(path)
		if err == nil {
			return 0, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return 1, err
		}
		select {
		case sig := <-told:
			return 128 + int(syscall.SIGTERM), note(sig)
		case <-look:
		}
	}
}
