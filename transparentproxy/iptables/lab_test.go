//go:build linux

package iptables

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newBackend makes a backend that knows only these flavours.
func newBackend(t testing.TB, only ...Flavour) *Backend {
	t.Helper()
	b, err := New(t.Context(), Config{Wait: DefaultWait, StateDir: t.TempDir() + "/state"})
	if err != nil {
		t.Fatal(err)
	}
	b.tools = slices.DeleteFunc(b.tools, func(x tool) bool { return !slices.Contains(only, x.flavour) })
	if want := 2 * len(only); len(b.tools) != want {
		t.Fatalf("found %d tools for %v, want %d; install the package iptables", len(b.tools), only, want)
	}
	return b
}
