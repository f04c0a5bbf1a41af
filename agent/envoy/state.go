package envoy

import (
	"fmt"
	"log/slog"
)

// State is where a Process is in its life.
type State int

// The states of a Process.
const (
	Initial  State = iota // Run has not started Envoy yet
	Running               // Envoy was started
	Draining              // Drain was called; Envoy still serves
	Stopped               // ended because that was asked for
	Exited                // ended by itself, or could not be started
)

var stateNames = [...]string{"initial", "running", "draining", "stopped", "exited"}

// String returns the name of the state in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", int(s))
	}
	return stateNames[s]
}

// over says whether there is no process any more.
func (s State) over() bool { return s == Stopped || s == Exited }

// next lists where each state may go.
var next = [...][]State{
	Initial:  {Running, Stopped, Exited},
	Running:  {Draining, Stopped, Exited},
	Draining: {Stopped, Exited},
	Stopped:  {},
	Exited:   {},
}

// to moves to a state, and is the only one that does. It returns false when the state cannot be reached from the present one.
func (p *Process) to(s State) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, allowed := range next[p.state] {
		if allowed == s {
			p.cfg.Log.Debug("envoy changes state", slog.String("from", p.state.String()), slog.String("to", s.String()))
			p.state = s
			return true
		}
	}
	return false
}

// State returns the present state.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}
