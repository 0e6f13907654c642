// Command skerry deploys containers on your own machines from Kubernetes manifests in a Git repository.
//
// Here are flags, configuration and wiring, one file a command; everything else is in the packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exitCode is an outcome that is told by the exit code alone.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// The exit codes besides 0.
const (
	exitChanges exitCode = 1 // diff: something would change; validate: something is wrong
	exitError   exitCode = 2
)

// run is the whole program. It returns the exit code: 0; 1 where a command says so (diff, validate, apply and
// sync that are not ready in time); 2 for errors.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	logrus.SetOutput(io.Discard)                                 // Podman's bindings log through it what they return as errors, too
	root := rootCommand(terminal{in: in, out: out, err: errOut}) //nolint:contextcheck // cobra hands it to the commands
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintln(errOut, "skerry:", err)
		return int(exitError)
	}
}

// terminal is where a command reads and writes.
type terminal struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// live reports whether lines that were written can be written over.
func (t terminal) live() bool { return isTerminal(t.out) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// options are the flags that all commands have.
type options struct {
	terminal
	configFile string
	socket     string
}

func rootCommand(t terminal) *cobra.Command {
	o := &options{terminal: t}
	root := &cobra.Command{
		Use:           "skerry",
		Short:         "git push to deploy containers on your own machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: `Skerry runs Kubernetes manifests from a Git repository on your own machines: Podman on every
node, and no cluster to run. One agent a node pulls the repository, compares what is desired with
what is there, and drives Podman.

A SOURCE is a folder, a file, - for standard input, or a Git URL with an optional ?ref=BRANCH.`,
	}
	root.PersistentFlags().StringVar(&o.configFile, "config", "", "configuration file (default "+defaultConfigFile+", if it is there)")
	root.PersistentFlags().StringVar(&o.socket, "socket", "", "the agent's socket (default from the configuration)")
	root.AddCommand(
		agentCommand(o), diffCommand(o), applyCommand(o), deleteCommand(o), validateCommand(o), renderCommand(o),
		statusCommand(o), syncCommand(o), cordonCommand(o), uncordonCommand(o), drainCommand(o), nodeCommand(o), networkCommand(o), versionCommand(o),
	)
	return root
}
