// Package group runs the long-lived parts of a process together: the first to return stops the others.
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Member is one long-lived part. Run blocks until it fails or its context ends.
type Member struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run starts all members and waits for all of them. As soon as one returns, or ctx ends, the members are stopped from
// the last to the first, each only after the one behind it has returned: order them as they depend on each other. A
// member that returns nil also stops the group. The error returned is the one that stopped the group, joined with those
// of members that then failed to stop cleanly; a panic is an error with its stack; ending because of ctx is no error.
func Run(ctx context.Context, members ...Member) error {
	type running struct {
		stop context.CancelFunc
		done chan struct{}
	}
	first := make(chan struct{})
	var once sync.Once
	errs := make([]error, len(members))
	order := make([]int, 0, len(members)) // members in the order in which they returned
	var mu sync.Mutex
	run := make([]running, len(members))
	base := context.WithoutCancel(ctx)
	for i, m := range members {
		mctx, stop := context.WithCancel(base)
		run[i] = running{stop, make(chan struct{})}
		go func() {
			defer close(run[i].done)
			err := call(mctx, m)
			mu.Lock()
			errs[i] = err
			order = append(order, i)
			mu.Unlock()
			once.Do(func() { close(first) })
		}()
	}
	if len(members) > 0 {
		select {
		case <-first:
		case <-ctx.Done():
		}
	}
	for i := len(members) - 1; i >= 0; i-- {
		run[i].stop()
		<-run[i].done
	}
	var out []error
	for _, i := range order {
		if err := errs[i]; err != nil && !errors.Is(err, context.Canceled) {
			out = append(out, fmt.Errorf("%s: %w", members[i].Name, err))
		}
	}
	return errors.Join(out...)
}

func call(ctx context.Context, m Member) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return m.Run(ctx)
}
