package manifest

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// BenchmarkRead reads a tree of 200 Deployments in as many files.
func BenchmarkRead(b *testing.B) {
	fsys := fstest.MapFS{}
	for i := range 200 {
		text := strings.Replace(bareDeployment, "name: web}", fmt.Sprintf("name: web%d}", i), 1)
		fsys[fmt.Sprintf("d%d.yaml", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := Read(fsys, "."); len(r.Objects) != 200 {
			b.Fatal(r.Faults)
		}
	}
}
