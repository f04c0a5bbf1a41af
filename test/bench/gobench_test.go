//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseBench(t *testing.T) {
	const out = `goos: linux
BenchmarkMix/service/MeshRetry-2  	  10	  900000 ns/op	  700123 median-ns	 1.0 resources/op
BenchmarkMix/service/MeshRetry-2  	  10	  900000 ns/op	  900000 median-ns	 1.0 resources/op
BenchmarkMix/service/MeshRetry-2  	  10	  900000 ns/op	  800000 median-ns	 1.0 resources/op
BenchmarkMix/service/MeshTrace-2  	  10	 2000000 ns/op	 1500000 median-ns	 1.0 resources/op
PASS
`
	for metric, want := range map[string]string{
		"median-ns": "800µs (MeshRetry) to 1.5ms (MeshTrace), in the middle 1.5ms (n=3 each)",
		"ns/op":     "900µs (MeshRetry) to 2ms (MeshTrace), in the middle 2ms (n=3 each)",
	} {
		if got, err := parseBench(out, metric); err != nil || got != want {
			t.Errorf("%s: got %q %v, want %q", metric, got, err, want)
		}
	}
	if got, err := parseBench("BenchmarkMixCold-2 30 40123456 ns/op\n", "ns/op"); err != nil || got != "median 40.1ms (n=1)" {
		t.Errorf("got %q %v", got, err)
	}
	if got, err := parseBench("BenchmarkNewTable/10000-2 20 3100000 ns/op 1478492 heap-B\n", "heap-B"); err != nil || got != "median 1.4 MB (n=1)" {
		t.Errorf("got %q %v", got, err)
	}
	for _, out := range []string{"", "PASS\n", "BenchmarkMixCold-2 30 x ns/op\n"} {
		if got, err := parseBench(out, "ns/op"); err == nil {
			t.Errorf("%q gives %q", out, got)
		}
	}
}

// TestGoBenchesExist: a benchmark that is called otherwise would print no figure, and be noticed by nobody.
func TestGoBenchesExist(t *testing.T) {
	for _, g := range goBenches() {
		name, _, _ := strings.Cut(g.pattern, "/")
		files, err := filepath.Glob(filepath.Join("../..", g.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(files, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), "func "+strings.Trim(name, "^$")+"(b *testing.B)")
		})
		if !found {
			t.Errorf("%s has no %s", g.pkg, g.pattern)
		}
	}
}
