package git

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		want  address
		shown string // differs from the URL where something is left out
	}{
		"https://git.example/a/b.git":              {address{scheme: "https", host: "git.example", path: "/a/b.git"}, ""},
		"https://u:p@git.example:8443/a%20b":       {address{scheme: "https", user: "u", password: "p", host: "git.example", port: 8443, path: "/a%20b"}, "https://git.example:8443/a%20b"},
		"http://[::1]:80/a":                        {address{scheme: "http", host: "::1", port: 80, path: "/a"}, ""},
		"git@github.com:org/repo.git":              {address{scheme: "ssh", user: "git", host: "github.com", path: "org/repo.git", brief: true}, ""},
		"host:repo":                                {address{scheme: "ssh", host: "host", path: "repo", brief: true}, ""},
		"git@[fd00::1]:repo":                       {address{scheme: "ssh", user: "git", host: "fd00::1", path: "repo", brief: true}, ""},
		"ssh://git@git.example:2222/srv/x.git":     {address{scheme: "ssh", user: "git", host: "git.example", port: 2222, path: "/srv/x.git"}, ""},
		"ssh://git.example/~me/x":                  {address{scheme: "ssh", host: "git.example", path: "~me/x"}, ""},
		"file:///srv/a%20b/":                       {address{scheme: "file", path: "/srv/a b"}, "file:///srv/a b"},
		"/srv/home.git":                            {address{scheme: "file", path: "/srv/home.git"}, "file:///srv/home.git"},
		"HTTPS://git.example/with:colon/and@sign":  {address{scheme: "https", host: "git.example", path: "/with:colon/and@sign"}, "https://git.example/with:colon/and@sign"},
		"https://token@git.example/path/repo.git/": {address{scheme: "https", user: "token", host: "git.example", path: "/path/repo.git/"}, "https://git.example/path/repo.git/"},
	}
	for raw, test := range tests {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			got, err := parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(address{})); diff != "" {
				t.Error(diff)
			}
			shown := test.shown
			if shown == "" {
				shown = raw
			}
			if diff := cmp.Diff(shown, Redact(raw)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Config{Name: "home", URL: "https://git.example/a", Dir: "/var/lib/x"}
	tests := map[string]struct {
		change func(*Config)
		want   []string // words of each fault, none for a good one
	}{
		"good":            {func(*Config) {}, nil},
		"path":            {func(c *Config) { c.Path = "./clusters/home/" }, nil},
		"token":           {func(c *Config) { c.Token = planted }, nil},
		"no name, no URL": {func(c *Config) { c.Name, c.URL = "", "" }, []string{"name is empty", "URL is empty"}},
		"relative":        {func(c *Config) { c.URL, c.Dir = "../a", "x" }, []string{"not absolute", "neither a URL"}},
		"path leads out":  {func(c *Config) { c.Path = "a/../../b" }, []string{"leads out"}},
		"ref as branch":   {func(c *Config) { c.Branch = "refs/heads/main" }, []string{"is a ref"}},
		"bad branch":      {func(c *Config) { c.Branch = "a..b" }, []string{"not a name"}},
		"two credentials": {func(c *Config) { c.Username, c.Password, c.Token = "u", planted, planted }, []string{"keep one"}},
		"in URL and beside": {func(c *Config) { c.URL, c.Token = "https://u:"+planted+"@git.example/a", planted },
			[]string{"both in the URL"}},
		"password without user": {func(c *Config) { c.Password = planted }, []string{"without a username"}},
		"ssh without key":       {func(c *Config) { c.URL = "git@host:a" }, []string{"needs an ssh key"}},
		"ssh with token":        {func(c *Config) { c.URL, c.SSHKeyFile, c.Token = "git@host:a", "/k", planted }, []string{"does not use one"}},
		"key without ssh":       {func(c *Config) { c.SSHKeyFile = "/k" }, []string{"does not use ssh"}},
		"CA without TLS":        {func(c *Config) { c.URL, c.CAFile = "http://git.example/a", "/ca" }, []string{"does not use TLS"}},
		"git scheme":            {func(c *Config) { c.URL = "git://git.example/a" }, []string{"use https"}},
		"query":                 {func(c *Config) { c.URL = "https://git.example/a?private_token=" + planted }, []string{"query"}},
		"host in file URL":      {func(c *Config) { c.URL = "file://srv/a" }, []string{"three slashes"}},
		"unreadable":            {func(c *Config) { c.URL = "https://u:" + planted + "%zz@git.example/a" }, []string{"cannot be read"}},
		"port":                  {func(c *Config) { c.URL = "https://u:" + planted + "@git.example:99999/a" }, []string{"99999"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := good
			test.change(&c)
			err := c.Validate()
			if err == nil {
				if test.want != nil {
					t.Fatalf("no error, want %q", test.want)
				}
				return
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("faults are %q, want %q", lines, test.want)
			}
			for i, line := range lines {
				if !strings.Contains(line, test.want[i]) || !strings.Contains(line, ": ") {
					t.Errorf("fault is %q, want %q", line, test.want[i])
				}
			}
			if strings.Contains(err.Error()+Redact(c.URL)+c.String(), planted) {
				t.Errorf("a secret is told: %v %s", err, c)
			}
		})
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		interval time.Duration
		failures int
		jitter   float64
		want     time.Duration
	}{
		"good, low":            {10 * time.Second, 0, 0, 9 * time.Second},
		"good, middle":         {10 * time.Second, 0, 0.5, 10 * time.Second},
		"first failure":        {10 * time.Second, 1, 0.5, 9 * time.Second},
		"second":               {10 * time.Second, 2, 0.5, 18 * time.Second},
		"fifth":                {10 * time.Second, 5, 0.5, 144 * time.Second},
		"the longest":          {10 * time.Second, 6, 0.5, 270 * time.Second},
		"for ever":             {10 * time.Second, 1 << 40, 0.5, 270 * time.Second},
		"a long interval":      {time.Hour, 9, 0.5, 54 * time.Minute},
		"no interval":          {0, 0, 0.5, time.Second},
		"no interval, failing": {-time.Second, 3, 0, 3200 * time.Millisecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, Next(test.interval, test.failures, test.jitter)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
