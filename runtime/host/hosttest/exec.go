package hosttest

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// outputLimit is how much of a command's output Exec returns.
const outputLimit = 10 << 10

// Exec runs a command in a running container.
func (h *Host) Exec(ctx context.Context, container string, command []string) (code int, output []byte, err error) {
	var run func(context.Context, []string) (int, string)
	var ended chan struct{}
	lost, err := h.begin(ctx, "Exec", "", func() error {
		c := h.findContainer(container)
		switch {
		case c == nil:
			return fmt.Errorf("exec in container %s: %w", container, notFound("container", container))
		case c.state != fleet.Running:
			return fmt.Errorf("exec in container %s: it is %s: container state improper", container, c.state)
		case len(command) == 0:
			return fmt.Errorf("exec in container %s: no command", container)
		}
		h.execs++
		run, ended = h.command(c, command), c.ended
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	inside, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	var text string
	go func() {
		defer close(over)
		code, text = run(inside, slices.Clone(command))
		h.mu.Lock()
		defer h.mu.Unlock()
		h.execs--
	}()
	died := false
	select {
	case <-over:
	case <-ctx.Done():
	case <-ended:
		died = true
	}
	cancel()
	<-over // the machine kills what does not go by itself; a process here has to go by itself
	switch {
	case ctx.Err() != nil:
		return 0, nil, ctx.Err()
	case lost != nil:
		return 0, nil, lost
	case died:
		return killed, nil, nil
	}
	return code, []byte(text[:min(len(text), outputLimit)]), nil
}

// command is what a command does in a container.
func (h *Host) command(c *container, command []string) func(context.Context, []string) (int, string) {
	if path.Base(command[0]) == "cat" && len(command) == 2 {
		if text, ok := h.file(c, command[1]); ok {
			return func(context.Context, []string) (int, string) { return 0, text }
		}
	}
	if c.process.Exec != nil {
		return c.process.Exec
	}
	return everywhere
}

// common are the commands of containers whose Process has nothing to say about commands.
var common = []string{"true", "false", "hang"}

func everywhere(ctx context.Context, command []string) (int, string) {
	switch command[0] {
	case "true":
		return 0, ""
	case "false":
		return 1, ""
	case "hang":
		<-ctx.Done()
		return killed, ""
	}
	return 127, fmt.Sprintf("exec: %q: executable file not found in $PATH\n", command[0])
}

// file is the content of a file that the machine itself puts into a container, or shows there.
func (h *Host) file(c *container, name string) (string, bool) {
	p := h.pods[c.spec.PodID]
	if p == nil {
		return "", false
	}
	var b strings.Builder
	switch setting, below := strings.CutPrefix(name, "/proc/sys/"); {
	case below:
		value, set := p.box.Sysctls[strings.ReplaceAll(setting, "/", ".")]
		return value + "\n", set
	case name == "/etc/hostname":
		return p.box.Hostname + "\n", true
	case name == "/etc/hosts":
		b.WriteString("127.0.0.1\tlocalhost\n")
		for _, line := range p.box.Hosts {
			host, address, _ := strings.Cut(line, ":")
			fmt.Fprintf(&b, "%s\t%s\n", address, host)
		}
	case name == "/etc/resolv.conf":
		dns := p.box.DNS
		if !dns.Alone {
			dns.Nameservers = append([]string{"10.88.0.1"}, dns.Nameservers...)
		}
		if len(dns.Searches) > 0 {
			fmt.Fprintln(&b, "search", strings.Join(dns.Searches, " "))
		}
		for _, server := range dns.Nameservers {
			fmt.Fprintln(&b, "nameserver", server)
		}
		if len(dns.Options) > 0 {
			fmt.Fprintln(&b, "options", strings.Join(dns.Options, " "))
		}
	default:
		return "", false
	}
	return b.String(), true
}

// Lingering is how many processes that Exec started live. Nobody waits for those that are left when all is quiet.
func (h *Host) Lingering() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.execs
}

var _ host.Execs = (*Host)(nil)
