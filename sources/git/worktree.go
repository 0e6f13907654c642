package git

import (
	"slices"
	"strings"

	gogit "github.com/go-git/go-git/v5"
)

// Remotes are the addresses that a Git work tree's commits are pushed to and pulled from, without
// credentials, and its own path: whoever pulls from one of them gets what is committed here. None when top is
// not the top of a work tree that can be read.
func Remotes(top string) []string {
	r, err := gogit.PlainOpenWithOptions(top, &gogit.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return nil
	}
	list := []string{top}
	cfg, err := r.Config()
	if err != nil {
		return list
	}
	for _, remote := range cfg.Remotes {
		for _, address := range remote.URLs {
			list = append(list, Redact(address))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Same reports whether two addresses name one repository, as far as can be seen: credentials, a trailing .git
// and the way a local path is written make no difference.
func Same(a, b string) bool { return plain(a) == plain(b) }

func plain(address string) string {
	address = strings.TrimPrefix(Redact(address), "file://")
	return strings.TrimSuffix(strings.TrimRight(address, "/"), ".git")
}
