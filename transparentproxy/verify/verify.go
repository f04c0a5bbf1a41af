//go:build linux

// Package verify says with real packets whether redirection does what its configuration promises: for each promise it sends the
// packet with which such a connection begins, and reads from the kernel's connection tracking where that went. It works before
// Envoy and kuma-dp run and beside them: no connection is ever established, so that they notice nothing.
//
// Everything happens in the network namespace of the calling thread. What is made there for the time of a run is one link, and
// the kernel takes that away when this process ends, however it ends.
package verify

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Result is what is known of a promise.
type Result string

// The results.
const (
	Holds   Result = "holds"
	Broken  Result = "broken"
	Unknown Result = "unknown"
)

// Check is one promise and what became of it.
type Check struct {
	// ID names the promise and stays the same: outbound.ipv4, inbound.exclude.port.22.ipv6, foreign.mesh.
	ID      string `json:"id"`
	Promise string `json:"promise"`
	Result  Result `json:"result"`
	// Seen is what the result is made of; of an unknown promise, why it is not known.
	Seen string `json:"seen"`
	// Remedy is what to do, empty when the promise holds.
	Remedy string `json:"remedy,omitempty"`
}

// Report is the outcome of a run.
type Report struct {
	Result Result  `json:"result"`
	Checks []Check `json:"checks"`
}

// Input is what to verify.
type Input struct {
	// Config and Host are what the plan was made of.
	Config tp.Config
	Host   tp.Host
	// Backend is the one whose rules are expected, as redirect names it.
	Backend string
	// Leftovers are rules of ours and of Kuma's in other backends.
	Leftovers []tp.Difference
	// Legacy lists NAT rules that the kernel does not tell of itself, those of legacy iptables. nil for none.
	Legacy func(ctx context.Context) ([]tp.NATRule, error)
}

// Run sends the packets. It takes as long as the slowest answer, and ends when ctx does: what is not known then is unknown. An
// error means that nothing could be tried.
func Run(ctx context.Context, in Input) (_ *Report, err error) {
	// Users, sockets and namespaces are those of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	plan, err := tp.NewPlan(in.Config, in.Host)
	if err != nil {
		return nil, err
	}
	r, err := newRun(ctx, in, plan)
	if err != nil {
		return nil, fmt.Errorf("verify redirection: %w", err)
	}
	defer r.close()
	checks := r.packets(ctx)
	checks = append(checks, r.listenerChecks()...)
	checks = append(checks, foreign(ctx, in)...)
	report := &Report{Result: Holds, Checks: checks}
	for _, result := range []Result{Unknown, Broken} { // the last wins
		if slices.ContainsFunc(checks, func(c Check) bool { return c.Result == result }) {
			report.Result = result
		}
	}
	return report, nil
}

// Waits, all within the caller's time.
const (
	// packetTime is how long a packet may take to be seen. Those that this host sends are seen before the call returns.
	packetTime = 500 * time.Millisecond
	// answerTime is how long the agent may take to answer a query, for which it may have to ask another server.
	answerTime = 3 * time.Second
)

// combine makes a check of what became of a promise's packets: the worst counts.
func combine(p promise, verdicts []verdict) Check {
	c := Check{ID: p.id, Promise: p.words, Result: Holds}
	var seen []string
	for _, want := range []Result{Broken, Unknown, Holds} {
		for _, v := range verdicts {
			if v.result == want && !slices.Contains(seen, v.seen) {
				seen = append(seen, v.seen)
			}
			if v.result == want && c.Remedy == "" {
				c.Remedy = v.remedy
			}
		}
		if len(seen) > 0 {
			c.Result = want
			break
		}
	}
	c.Seen = strings.Join(seen, "; ")
	return c
}

// verdict is what became of one packet.
type verdict struct {
	result       Result
	seen, remedy string
}

func unknown(seen, remedy string) verdict { return verdict{Unknown, seen, remedy} }

// familyID ends the ids of checks of one family.
func familyID(f tp.Family) string { return strings.ToLower(f.String()) }
