package podman

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/runtime/host"
)

func TestUsage(t *testing.T) {
	first := map[string]string{"memory": "/p/c", "cpu": "/q/c", "cpuacct": "/q/c"}
	second := map[string]string{"": "/p/c"}
	both := map[string]string{"memory": "/p/c", "": "/u/c"}
	files := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name   string
		groups map[string]string
		files  map[string]string
		want   host.Measurement
		ok     bool
	}{
		{"version 1", first, files(
			"memory/p/c/memory.usage_in_bytes", "1000\n", "memory/p/c/memory.stat", "inactive_file 1\ncache 700\ntotal_inactive_file 300\n",
			"cpuacct/q/c/cpuacct.usage", "1234567\n",
		), host.Measurement{CPU: 1234567, Memory: 700}, true},
		{"version 2", second, files(
			"p/c/memory.current", "1000\n", "p/c/memory.stat", "anon 5\ninactive_file 300\nactive_file 20\n",
			"p/c/cpu.stat", "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n",
		), host.Measurement{CPU: 1234 * time.Microsecond, Memory: 700}, true},
		{"both", both, files(
			"memory/p/c/memory.usage_in_bytes", "1000\n", "memory/p/c/memory.stat", "total_inactive_file 300\n",
			"unified/u/c/cpu.stat", "usage_usec 7\n",
		), host.Measurement{CPU: 7 * time.Microsecond, Memory: 700}, true},
		{"memory is not counted", second, files("p/c/cpu.stat", "usage_usec 1\n"), host.Measurement{CPU: time.Microsecond}, true},
		{"half of it cannot be read", second, files("p/c/cpu.stat", "usage_usec 1\n", "p/c/memory.current", "1000\n"),
			host.Measurement{CPU: time.Microsecond}, true},
		{"read in the midst of a change", second, files(
			"p/c/memory.current", "1000\n", "p/c/memory.stat", "inactive_file 1001\n", "p/c/cpu.stat", "usage_usec 1\n",
		), host.Measurement{CPU: time.Microsecond}, true},
		{"processors are not", first, files("memory/p/c/memory.usage_in_bytes", "1000\n", "memory/p/c/memory.stat", "total_inactive_file 300\n"),
			host.Measurement{}, false},
		{"nothing there", second, nil, host.Measurement{}, false},
		{"no groups", nil, files("cpu.stat", "usage_usec 1\n", "memory.current", "5\n"), host.Measurement{}, false},
		{"nonsense", second, files("p/c/cpu.stat", "usage_usec x\nusage_usecs 1\n"), host.Measurement{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range c.files {
				at := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := time.Now()
			got, ok := usage(root, c.groups)
			if got.At.Before(before) {
				t.Errorf("it was measured at %s", got.At)
			}
			got.At = time.Time{}
			if ok != c.ok || (ok && got != c.want) {
				t.Errorf("it is %+v, %v; want %+v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}
