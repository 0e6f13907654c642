// Command hello is the web program of the example: small enough to be read at a glance, and it uses what
// a pod can be given: an environment variable, a file from a ConfigMap, a file from a Secret, its own name.
//
//	hello          serves on :8080 until it is told to end
//	hello get URL  prints what URL answers (an image from scratch has no curl)
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker: the image's tag.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 2 && args[0] == "get" {
		return get(ctx, args[1], out)
	}
	if len(args) == 1 && args[0] == "once" { // as the work of a Job
		_, err := fmt.Fprintln(out, "hello", version, "did its work")
		return err
	}
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(greet), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Fprintln(out, "hello", version, "listens on", server.Addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// A rollout takes pods away while they are asked: who is being answered gets the whole answer.
	fmt.Fprintln(out, "hello ends")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// greet reads the files anew each time: they change in the running pod when the ConfigMap does.
func greet(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "%s (hello:%s in pod %s)\n", os.Getenv("MESSAGE"), version, os.Getenv("POD_NAME"))
	motto, err := os.ReadFile("/etc/hello/motto")
	if err != nil {
		motto = []byte("no motto: " + err.Error())
	}
	fmt.Fprintf(w, "%s\n", bytes.TrimSpace(motto))
	if _, err := os.Stat("/run/secrets/hello/token"); err != nil {
		fmt.Fprintln(w, "the secret is missing")
	} else {
		fmt.Fprintln(w, "the secret is there, and is not told")
	}
}

func get(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
