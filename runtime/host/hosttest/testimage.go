package hosttest

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// TestImage is what the lab's test image does (internal/lab/testimage), as far as it shows from outside: for
// BehaveAs. Its commands do the same when Exec runs them.
func TestImage(c host.Container) Process {
	words := append(slices.Clone(c.Entrypoint), c.Args...)
	if len(c.Entrypoint) > 0 {
		var fails string
		if words, fails = found(words); fails != "" {
			return Process{Fails: fails}
		}
	}
	if len(words) == 0 {
		words = []string{"serve"}
	}
	p := &performance{container: c}
	process := p.play(words)
	process.Message = p.message(process.Code)
	process.Exec = func(ctx context.Context, command []string) (int, string) { return inTestImage(ctx, c, words, command) }
	return process
}

// found is a command's words from the mode on, or why there is no such program in the image.
func found(command []string) (words []string, fails string) {
	switch name := command[0]; {
	case name == "/skerry-test":
		return command[1:], ""
	case path.IsAbs(name) && path.Dir(name) != "/bin":
		return nil, fmt.Sprintf("exec: %q: no such file or directory", name)
	case !slices.Contains(modes, path.Base(name)):
		return nil, fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
	default:
		return append([]string{path.Base(name)}, command[1:]...), ""
	}
}

// modes are what the test image has in its /bin.
var modes = strings.Fields(`serve grpc tcp sleep ignore-term hang eat burn exit crash-after until print print-err now resolve fill write append
	touch mkdir link rename cat ls stat env id hostname caps mounts ps sysctl limits seq modes`)

// inTestImage runs a command beside the process that main is.
func inTestImage(ctx context.Context, c host.Container, main, command []string) (int, string) {
	words, fails := found(command)
	if fails != "" {
		return 127, fails + "\n"
	}
	if len(words) > 0 && words[0] == "ps" {
		return 0, fmt.Sprintf("1 %s\n9 ps\n", strings.Join(main, " "))
	}
	p := &performance{container: c}
	process := p.play(words)
	var over <-chan time.Time
	if process.Ends {
		timer := time.NewTimer(process.After)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return int(process.Code), p.printed.String()
	case <-ctx.Done():
		return killed, p.printed.String()
	}
}

// performance is one run of the test image's program.
type performance struct {
	container host.Container
	printed   strings.Builder
	written   string // where the container says what it wants to be said of its end
}

// play is what words come to.
func (p *performance) play(words []string) Process {
	if len(words) == 0 {
		return Process{Ends: true, Code: 2}
	}
	word := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	span, _ := time.ParseDuration(word(1))
	linger, _ := time.ParseDuration(p.container.Env["LINGER"])
	waits := Process{Lingers: linger}
	switch mode := path.Base(words[0]); mode {
	case "serve", "grpc", "tcp":
		return waits
	case "until":
		return Process{Told: 143}
	case "sleep":
		waits.Ends, waits.After = len(words) > 1, span
		return waits
	case "ignore-term":
		return Process{Deaf: true}
	case "hang":
		return Process{Told: 2}
	case "eat":
		quantity, err := resource.ParseQuantity(word(1))
		if err != nil {
			return Process{Ends: true, Code: 1}
		}
		if limit := p.container.Limits.Memory; limit > 0 && quantity.Value() >= limit {
			return Process{Ends: true, Code: killed, OutOfMemory: true}
		}
		waits.Uses.Memory = quantity.Value()
		return waits
	case "burn":
		waits.Uses.CPU = 1000
		return waits
	case "exit":
		return Process{Ends: true, Code: code(word(1))}
	case "crash-after":
		return Process{Ends: true, After: span, Code: code(word(2))}
	case "print", "print-err":
		fmt.Fprintln(&p.printed, strings.Join(words[1:], " "))
		return Process{Ends: true}
	case "write":
		if _, at := p.ending(); at == word(1) {
			p.written = word(2)
		}
		return Process{Ends: true}
	case "seq":
		whole := Process{Ends: true}
		for _, step := range words[1:] {
			one := p.play(strings.Fields(step))
			one.After += whole.After
			if whole = one; !one.Ends || one.Code != 0 {
				break
			}
		}
		return whole
	default:
		if slices.Contains(modes, mode) {
			return Process{Ends: true}
		}
		return Process{Ends: true, Code: 2}
	}
}

// ending is how and where the container says why it ended.
func (p *performance) ending() (policy, path string) {
	policy, path, _ = strings.Cut(p.container.Labels[fleet.LabelMessage], " ")
	return policy, path
}

// message is what is to be said of its end with that code.
func (p *performance) message(code int32) string {
	policy, _ := p.ending()
	if p.written == "" && code != 0 && policy == "FallbackToLogsOnError" {
		return p.printed.String()
	}
	return p.written
}

func code(word string) int32 {
	n, err := strconv.ParseInt(word, 10, 32)
	if err != nil {
		return 1
	}
	return int32(n)
}
