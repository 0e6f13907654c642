// Command testimage is the one program of the test image: it does what a test wants a container to do.
// What that is says the name it is called by (the image has a link /bin/serve and so on) or, called by
// its own name, the first argument. It is built static and lies in an otherwise empty image.
//
// Until it is told to end:
//
//	serve               HTTP on $PORT (8080), see serve
//	grpc                the health service on $PORT (9090), switched by HTTP on $CONTROL_PORT (8080), see serveGRPC
//	tcp                 accepts connections on $PORT (8080) and says nothing
//	sleep [DURATION]    waits, until the duration is over if there is one
//	ignore-term         waits and takes no notice of TERM
//	hang                starts ignore-term in a session of its own, and waits: who kills the one has to kill both
//	eat QUANTITY        takes so much memory (64Mi) step by step, and waits
//	burn                keeps one processor busy
//
// TERM and INT end all of them at once with exit code 0, but ignore-term, and hang, which dies of them. $LINGER is how
// long they go on after that, $TERM_FILE a file that gets a line "TERM <time>", and stdout gets "received TERM".
//
// With an end:
//
//	exit N              exits with N
//	crash-after D N     exits with N after the duration D
//	until PATH          waits for the file; 143 when it is told to end before
//	print TEXT...       writes TEXT to stdout; print-err to stderr
//	now                 the time, as RFC 3339 with nanoseconds
//	resolve NAME...     one line an address; exits with 1 when a name has none
//	fill PATH QUANTITY  writes a file of that size, to the disk
//	write PATH TEXT     writes a file; append adds a line to it
//	touch PATH...       makes files, or sets their times
//	mkdir PATH...       makes folders and those above them
//	link TARGET PATH    makes a symbolic link
//	rename OLD NEW      renames
//	cat PATH...         writes files to stdout
//	ls PATH...          one line a file: mode, uid, gid, size, name; links are followed
//	stat PATH...        one line a file: type, mode (octal), uid, gid, path, and `-> TARGET` of a link
//	env [NAME...]       the environment, or the values of NAMEs, sorted
//	id                  uid, gid, groups, working directory, host name
//	hostname            the host name
//	caps                ids, capabilities, NoNewPrivs and Seccomp of /proc/self/status, and oom_score_adj
//	mounts              /proc/self/mountinfo
//	ps                  one line a process that can be seen: pid, command line
//	sysctl NAME...      the values
//	limits              one line a limit of the own cgroup that can be seen: file, value
//	seq STEP...         each STEP is one of these, words split at blanks: `seq "print a" "exit 3"`
//	modes               the names of these
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
		code = max(code, 1)
	}
	os.Exit(code)
}

// mode is one thing to do.
type mode struct {
	args int // how many there have to be; -1: any number
	run  func(args []string) (int, error)
}

func modes() map[string]mode {
	// plain is a mode that exits with 0 or 1, each one that does the same to all its arguments.
	plain := func(args int, f func(args []string) error) mode {
		return mode{args, func(args []string) (int, error) { return 0, f(args) }}
	}
	each := func(f func(arg string) error) mode {
		return plain(-1, func(args []string) error {
			for _, arg := range args {
				if err := f(arg); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return map[string]mode{
		"serve":       plain(0, func([]string) error { return serve() }),
		"grpc":        plain(0, func([]string) error { return serveGRPC() }),
		"tcp":         plain(0, func([]string) error { return serveTCP() }),
		"sleep":       plain(-1, sleep),
		"ignore-term": plain(0, func([]string) error { ignoreTerm(); return nil }),
		"hang":        plain(0, func([]string) error { return hang() }),
		"burn":        plain(0, func([]string) error { return burn() }),
		"eat":         plain(1, func(args []string) error { return eat(args[0]) }),

		"exit": {1, func(args []string) (int, error) { return strconv.Atoi(args[0]) }},
		"crash-after": {2, func(args []string) (int, error) {
			if err := sleep(args[:1]); err != nil {
				return 1, err
			}
			return strconv.Atoi(args[1])
		}},
		"until": {1, func(args []string) (int, error) { return until(args[0]) }},
		"now": plain(0, func([]string) error {
			fmt.Println(time.Now().Format(time.RFC3339Nano))
			return nil
		}),
		"print": plain(-1, func(args []string) error {
			_, err := fmt.Println(strings.Join(args, " "))
			return err
		}),
		"print-err": plain(-1, func(args []string) error {
			_, err := fmt.Fprintln(os.Stderr, strings.Join(args, " "))
			return err
		}),
		"resolve": each(func(name string) error { return resolve(os.Stdout, name) }),

		"fill":   plain(2, func(args []string) error { return fill(args[0], args[1]) }),
		"write":  plain(2, func(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) }),
		"append": plain(2, func(args []string) error { return add(args[0], args[1]) }),
		"touch":  each(touch),
		"mkdir":  each(func(path string) error { return os.MkdirAll(path, 0o755) }),
		"link":   plain(2, func(args []string) error { return os.Symlink(args[0], args[1]) }),
		"rename": plain(2, func(args []string) error { return os.Rename(args[0], args[1]) }),
		"cat":    each(func(path string) error { return show(os.Stdout, path) }),
		"ls":     each(func(path string) error { return list(os.Stdout, path) }),
		"stat":   each(func(path string) error { return stat(os.Stdout, path) }),

		"env":      plain(-1, func(args []string) error { environ(os.Stdout, args); return nil }),
		"id":       plain(0, func([]string) error { identity(os.Stdout); return nil }),
		"hostname": plain(0, func([]string) error { return hostname(os.Stdout) }),
		"caps":     plain(0, func([]string) error { return capabilities(os.Stdout) }),
		"mounts":   plain(0, func([]string) error { return show(os.Stdout, "/proc/self/mountinfo") }),
		"ps":       plain(0, func([]string) error { return processes(os.Stdout) }),
		"sysctl":   each(func(name string) error { return sysctl(os.Stdout, name) }),
		"limits":   plain(0, func([]string) error { limits(os.Stdout); return nil }),

		"seq": {-1, func(args []string) (int, error) {
			for _, step := range args {
				if code, err := run(strings.Fields(step)); code != 0 || err != nil {
					return code, err
				}
			}
			return 0, nil
		}},
		"modes": plain(0, func([]string) error {
			for _, name := range slices.Sorted(maps.Keys(modes())) {
				fmt.Println(name)
			}
			return nil
		}),
	}
}

func run(args []string) (int, error) {
	if len(args) > 0 {
		if m, ok := modes()[args[0]]; ok && (m.args == -1 || m.args == len(args)-1) {
			return m.run(args[1:])
		}
	}
	return 2, fmt.Errorf("do not know what to do with %q", args)
}
