package mtlsreport

import (
	"fmt"
	"net/netip"
	"time"
)

// State is what strict mTLS means, or would mean, at an inbound.
type State string

// States. Only would-break says that somebody is known to lose the workload; observing and unknown say that nobody can tell.
const (
	StateOff        State = "off"         // the mesh has no mTLS
	StateEnforced   State = "enforced"    // strict
	StateReady      State = "ready"       // permissive, and nobody has come without an identity for long enough
	StateWouldBreak State = "would-break" // permissive, and somebody has come without an identity
	StateObserving  State = "observing"   // permissive, nobody has come so far, and it is too early to tell
	StateUnknown    State = "unknown"     // nobody counts
)

// DefaultQuiet is how long nobody may have come without an identity, where nothing else is asked for.
const DefaultQuiet = time.Hour

// Verdict judges an inbound at a moment of the clock that its times are of, and says why.
func (in *Inbound) Verdict(now time.Time, quiet time.Duration) (State, string) {
	switch in.Mode {
	case Off:
		return StateOff, "mTLS of the mesh is off"
	case Strict:
		return StateEnforced, "only connections with an identity of the mesh are let in"
	}
	last, open := time.Time{}, 0
	from := map[netip.Addr]bool{}
	for _, p := range in.Peers {
		if !p.Kind.Served() && p.Kind != RefusedPlaintext {
			continue // strict mTLS changes nothing for it
		}
		seen := p.LastSeen
		if p.Open > 0 {
			seen = now
		}
		if now.Sub(seen) < quiet {
			from[p.Address] = true
			open += p.Open
		}
		if seen.After(last) {
			last = seen
		}
	}
	who := len(from)
	switch watched := now.Sub(in.Since); {
	case who > 0 && open > 0:
		return StateWouldBreak, fmt.Sprintf("%d %s without an identity, %d %s open", who, plural(who, "peer came", "peers came"), open, plural(open, "connection is", "connections are"))
	case who > 0:
		return StateWouldBreak, fmt.Sprintf("%d %s without an identity in the last %s", who, plural(who, "peer came", "peers came"), short(quiet))
	case watched < quiet:
		return StateObserving, fmt.Sprintf("nobody has come without an identity since %s ago, and %s are wanted", short(watched), short(quiet))
	case last.IsZero():
		return StateReady, fmt.Sprintf("nobody has come without an identity in the %s that were watched", short(watched))
	default:
		return StateReady, fmt.Sprintf("the last one without an identity came %s ago", short(now.Sub(last)))
	}
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// short is a duration as people say it: 90m rather than 1h30m0.123s.
func short(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour && d%time.Hour == 0 || d >= 10*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d == time.Hour:
		return "1h"
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}
