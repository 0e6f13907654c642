// Command testimage is the one program of the test image: it does what a test wants a container to do.
// What that is says the name it is called by (the image has a link /bin/serve and so on) or, called by
// its own name, the first argument. It is built static and lies in an otherwise empty image.
//
//	serve               HTTP on $PORT (8080), see serve
//	sleep               waits for TERM, then exits with 0 at once; `sleep DURATION` ends by itself, too
//	ignore-term         waits and takes no notice of TERM
//	exit N              exits with N
//	crash-after D N     exits with N after the duration D
//	print TEXT...       writes TEXT to stdout; print-err to stderr
//	write PATH TEXT     writes a file
//	cat PATH...         writes files to stdout
//	ls PATH...          one line a file: mode, uid, gid, size, name
//	env [NAME...]       the environment, or the values of NAMEs, sorted
//	id                  uid, gid, groups, working directory, host name
//	seq STEP...         each STEP is one of the above, words split at blanks: `seq "print a" "exit 3"`
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	args := os.Args
	if filepath.Base(args[0]) == "skerry-test" {
		args = args[1:]
	}
	if len(args) == 0 {
		args = []string{"serve"}
	}
	args[0] = filepath.Base(args[0])
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-test:", err)
		code = 1
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	mode, args := args[0], args[1:]
	switch {
	case mode == "serve":
		return 0, serve()
	case mode == "sleep":
		return 0, sleep(args)
	case mode == "ignore-term":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		for {
			time.Sleep(time.Hour)
		}
	case mode == "exit" && len(args) == 1:
		return strconv.Atoi(args[0])
	case mode == "crash-after" && len(args) == 2:
		if err := sleep(args[:1]); err != nil {
			return 1, err
		}
		return strconv.Atoi(args[1])
	case mode == "print":
		_, err := fmt.Println(strings.Join(args, " "))
		return 0, err
	case mode == "print-err":
		_, err := fmt.Fprintln(os.Stderr, strings.Join(args, " "))
		return 0, err
	case mode == "write" && len(args) == 2:
		return 0, os.WriteFile(args[0], []byte(args[1]), 0o644)
	case mode == "cat":
		for _, name := range args {
			b, err := os.ReadFile(name)
			if err != nil {
				return 1, err
			}
			os.Stdout.Write(b)
		}
		return 0, nil
	case mode == "ls":
		for _, name := range args {
			if err := list(os.Stdout, name); err != nil {
				return 1, err
			}
		}
		return 0, nil
	case mode == "env":
		environ(os.Stdout, args)
		return 0, nil
	case mode == "id":
		identity(os.Stdout)
		return 0, nil
	case mode == "seq":
		for _, step := range args {
			if code, err := run(strings.Fields(step)); code != 0 || err != nil {
				return code, err
			}
		}
		return 0, nil
	}
	return 2, fmt.Errorf("do not know what to do with %q %q", mode, args)
}

// sleep returns on TERM or INT, and after the duration when one is given.
func sleep(args []string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	var over <-chan time.Time
	if len(args) > 0 {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		over = time.After(d)
	}
	select {
	case <-told:
	case <-over:
	}
	return nil
}

// serve answers:
//
//	/                    $MESSAGE, the image's version, the host name
//	/env[?name=N]        as the mode env
//	/file?path=P         the file's content; 404 when there is none
//	/ls?path=P, /id      as the modes
//	/healthz             200, or 503 after a call of /unhealthy, until /healthy is called
//	/exit?code=N         exits with N
//
// Every request is a line on stdout. It ends at once on TERM.
func serve() error {
	var sick atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "%s version=%s host=%s\n", os.Getenv("MESSAGE"), os.Getenv("VERSION"), host)
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { environ(w, r.URL.Query()["name"]) })
	mux.HandleFunc("/id", func(w http.ResponseWriter, r *http.Request) { identity(w) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.URL.Query().Get("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(b)
	})
	mux.HandleFunc("/ls", func(w http.ResponseWriter, r *http.Request) {
		if err := list(w, r.URL.Query().Get("path")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() {
			http.Error(w, "unhealthy", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("/unhealthy", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	mux.HandleFunc("/healthy", func(http.ResponseWriter, *http.Request) { sick.Store(false) })
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})

	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			fmt.Println(r.Method, r.URL)
			mux.ServeHTTP(w, r)
		})}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("serving on", port)
	select {
	case err := <-failed:
		return err
	case <-told:
		return nil
	}
}

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
	var uid, gid uint32
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		uid, gid = sys.Uid, sys.Gid
	}
	fmt.Fprintf(w, "%v %d %d %d %s\n", info.Mode(), uid, gid, info.Size(), info.Name())
}
