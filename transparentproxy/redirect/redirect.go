//go:build linux

// Package redirect applies a plan to the host that it runs on: it chooses a backend, cleans what other backends, earlier
// versions or Kuma's kumactl left behind in any of them, and compares the kernel with the plan.
//
// Everything happens in the network namespace of the calling thread.
package redirect

import (
	"context"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Backend puts plans into the kernel in one way. Its methods name only rules of ours and of Kuma's.
type Backend interface {
	// Facts adds to host what only this backend can see. It changes nothing.
	Facts(ctx context.Context, host *tp.Host) error
	// Apply makes the kernel follow the plan without a moment of no redirection when there was one. An error means that
	// everything is as it was.
	Apply(ctx context.Context, plan *tp.Plan) error
	// Remove takes out everything, needing neither a plan nor a journal nor a user. removed says whether there was anything.
	Remove(ctx context.Context) (removed bool, err error)
	// Check compares the kernel with the plan; nil is the plan of no redirection. It changes nothing.
	Check(ctx context.Context, plan *tp.Plan) ([]tp.Difference, error)
}
