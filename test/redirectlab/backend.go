//go:build linux

package redirectlab

import (
	"context"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Backend puts plans into the kernel, in the namespace of the calling thread.
type Backend interface {
	Apply(ctx context.Context, plan *tp.Plan) error
	Remove(ctx context.Context) (removed bool, err error)
	Check(ctx context.Context, plan *tp.Plan) ([]tp.Difference, error)
}

// Apply makes a host follow a plan.
func Apply(t testing.TB, h *netlab.Host, b Backend, p *tp.Plan) {
	t.Helper()
	if err := h.Do(func() error { return b.Apply(t.Context(), p) }); err != nil {
		t.Fatal(err)
	}
}

// Remove takes redirection off a host and says whether there was any.
func Remove(t testing.TB, h *netlab.Host, b Backend) bool {
	t.Helper()
	var removed bool
	if err := h.Do(func() (err error) { removed, err = b.Remove(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
	return removed
}

// Check compares a host with a plan.
func Check(t testing.TB, h *netlab.Host, b Backend, p *tp.Plan) []tp.Difference {
	t.Helper()
	var d []tp.Difference
	if err := h.Do(func() (err error) { d, err = b.Check(t.Context(), p); return err }); err != nil {
		t.Fatal(err)
	}
	return d
}
