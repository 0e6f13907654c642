package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"skerry": main})
}

// TestScripts runs the commands as a shell would: what they print and their exit codes are the contract. No
// script needs Podman, an agent or root; none may touch the machine, so what makes or reads state is pointed
// at the script's own folder.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SKERRY_NODE_DATADIR", filepath.Join(env.WorkDir, "data"))
			env.Setenv("SKERRY_LISTEN_SOCKET", filepath.Join(env.WorkDir, "run", "skerry.sock"))
			env.Setenv("SKERRY_PODMAN_SOCKET", "unix://"+filepath.Join(env.WorkDir, "run", "podman.sock"))
			env.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits is the script command `exits CODE COMMAND ARGS...`: it runs a command, which has to end with that exit
// code. An exec in a script tells only success from failure.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
