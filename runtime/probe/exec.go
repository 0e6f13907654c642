package probe

import (
	"context"
	"fmt"
	"strings"
)

// askCommand is well when a command ends with 0. That there is no such command (126, 127) is the container's failing as
// well: its image lacks it.
func (p *Prober) askCommand(ctx context.Context, container string, command []string) error {
	code, output, err := p.Execs.Exec(ctx, container, command)
	switch {
	case err != nil:
		return fmt.Errorf("run command: %w", err)
	case code != 0:
		return unwell(line(said(fmt.Sprintf("exit code %d", code), string(output))))
	}
	return nil
}

// said joins what happened with what was said of it, if anything was.
func said(what, words string) string {
	if words = strings.TrimSpace(words); words == "" {
		return what
	}
	return what + ": " + words
}
