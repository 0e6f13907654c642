package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/skerry-dev/skerry/agent"
	"github.com/skerry-dev/skerry/api"
	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/sources"
	"github.com/skerry-dev/skerry/sources/dir"
	"github.com/skerry-dev/skerry/sources/git"
	"github.com/skerry-dev/skerry/sources/manifest"
)

// loaded is a SOURCE that was read.
type loaded struct {
	name     fleet.SourceName
	snapshot sources.Snapshot
	result   manifest.Result
	partial  bool   // a single file or standard input: what it does not mention stays
	top      string // what files in faults are relative to; empty where that is no folder
	worktree bool   // top is the top of a Git work tree
}

// isGit reports whether a SOURCE is a Git URL and not a path.
func isGit(source string) bool {
	if strings.Contains(source, "://") {
		return true
	}
	if _, err := os.Stat(source); err == nil {
		return false
	}
	before, _, found := strings.Cut(source, ":")
	return found && strings.Contains(before, "@") && !strings.Contains(before, "/")
}

// read reads a SOURCE.
func (o *options) read(ctx context.Context, source string) (loaded, error) {
	switch {
	case source == "-":
		return o.readInput()
	case isGit(source):
		return o.readGit(ctx, source)
	default:
		return readPath(ctx, source, o.policy())
	}
}

// policy is the node's, where it has a configuration that can be read. Without one, only what Namespaces say counts.
func (o *options) policy() manifest.Policy {
	c, err := o.load()
	if err != nil {
		return manifest.Policy{}
	}
	return c.policy()
}

func (l loaded) read(p manifest.Policy) loaded {
	l.result = p.Read(l.snapshot.Files, l.snapshot.Dir)
	return l
}

func (o *options) readInput() (loaded, error) {
	raw, err := io.ReadAll(o.in)
	if err != nil {
		return loaded{}, fmt.Errorf("read standard input: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 { // what should have written it failed
		return loaded{}, errors.New("standard input is empty")
	}
	files := fstest.MapFS{"stdin.yaml": &fstest.MapFile{Data: raw, Mode: 0o600}}
	return loaded{name: "-", partial: true, snapshot: sources.Snapshot{Revision: "stdin", Files: files, Dir: "."}}.read(o.policy()), nil
}

func readPath(ctx context.Context, source string, policy manifest.Policy) (loaded, error) {
	absolute, err := filepath.Abs(source)
	if err != nil {
		return loaded{}, err
	}
	d, err := dir.Open(absolute)
	if err != nil {
		return loaded{}, err
	}
	defer d.Close()
	snapshot, err := d.Fetch(ctx)
	if err != nil {
		return loaded{}, err
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return loaded{}, err
	}
	l := loaded{name: fleet.SourceName(absolute), snapshot: snapshot, partial: !info.IsDir(), top: absolute}
	if l.partial {
		l.top = filepath.Dir(absolute)
	} else if top, ok := workTree(absolute); ok {
		l.top, l.worktree = top, true
	}
	return l.read(policy), nil
}

// shown is a fault with its file as a user can open it from where they are.
func (l loaded) shown(f manifest.Fault) manifest.Fault {
	here, err := os.Getwd()
	if err != nil || l.top == "" {
		return f
	}
	full := filepath.Join(l.top, filepath.FromSlash(f.File))
	f.File = full
	if rel, err := filepath.Rel(here, full); err == nil && filepath.IsLocal(rel) {
		f.File = rel
	}
	return f
}

// workTree is the top of the Git work tree that a folder lies in.
func workTree(folder string) (top string, ok bool) {
	for ; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, ".git")); err == nil {
			return folder, true
		}
		if folder == filepath.Dir(folder) {
			return "", false
		}
	}
}

// readGit reads a Git URL. Credentials are those of the configured source with that URL.
func (o *options) readGit(ctx context.Context, source string) (loaded, error) {
	address, branch := source, ""
	if at, query, found := strings.Cut(source, "?"); found {
		values, err := url.ParseQuery(query)
		if err != nil {
			return loaded{}, fmt.Errorf("%s: %w", git.Redact(source), err)
		}
		address, branch = at, values.Get("ref")
	}
	cfg := sourceConfig{Name: "source", URL: address}
	if c, err := o.load(); err == nil {
		if i := slices.IndexFunc(c.Sources, func(s sourceConfig) bool { return s.URL == address }); i >= 0 {
			cfg = c.Sources[i]
			cfg.Path = "."
		}
	}
	if branch != "" {
		cfg.Branch = branch
	}
	return cfg.read(ctx, o.policy())
}

// read clones a source into a folder of its own, which does not outlive the call.
func (s sourceConfig) read(ctx context.Context, policy manifest.Policy) (loaded, error) {
	clone, err := os.MkdirTemp("", "skerry-source-")
	if err != nil {
		return loaded{}, err
	}
	defer os.RemoveAll(clone)
	g, err := s.open(filepath.Join(clone, "clone"))
	if err != nil {
		return loaded{}, err
	}
	snapshot, err := g.Fetch(ctx)
	if err != nil {
		return loaded{}, err
	}
	return loaded{name: fleet.SourceName(git.Redact(s.URL)), snapshot: snapshot}.read(policy), nil
}

// set is a loaded source on its way to an agent.
func (l loaded) set() (api.Set, error) {
	set := api.Set{Name: l.name, Revision: l.snapshot.Revision, Partial: l.partial}
	if l.worktree {
		set.Path, set.Remotes = l.snapshot.Dir, git.Remotes(l.top)
	}
	for file := range l.result.Broken {
		set.Broken = append(set.Broken, file)
	}
	for _, f := range l.result.Faults { // an object that was refused keeps its last good version
		if f.Kind != manifest.Warning && !slices.Contains(set.Broken, f.File) {
			set.Broken = append(set.Broken, f.File)
		}
	}
	slices.Sort(set.Broken)
	for _, object := range l.result.Objects {
		encoded, err := agent.Encode(object)
		if err != nil {
			return set, err
		}
		set.Objects = append(set.Objects, encoded)
	}
	return set, nil
}

// faults prints what is wrong in a source and counts what keeps something from being taken. Warnings are
// left to validate.
func (o *options) faults(l loaded) (errs int) {
	for _, f := range l.result.Faults {
		switch f.Kind {
		case manifest.Error:
			errs++
			fmt.Fprintln(o.err, l.shown(f))
		case manifest.NotRun:
			fmt.Fprintln(o.err, l.shown(f))
		}
	}
	return errs
}
