//go:build linux

package scene

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Refusal is what an Envoy has refused of what it was sent.
type Refusal struct {
	// Process is the name of the agent, Type the type URL, Reason Envoy's own words.
	Process, Type, Reason string
}

func (r Refusal) String() string {
	return fmt.Sprintf("Envoy of %s has refused a %s: %s", r.Process, r.Type[strings.LastIndexByte(r.Type, '.')+1:], r.Reason)
}

// refused is how an agent begins to tell of a refusal. It writes one line about each as it passes by, which is there also
// when what was refused is mended, and when Envoy, whose statistics begin anew then, or the agent has started again.
const refused = `msg="envoy refused configuration" `

// RefusalsIn returns those that the log of an agent tells of.
func RefusalsIn(process, log string) []Refusal {
	var out []Refusal
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), refused); ok {
			_, rest, _ = strings.Cut(rest, "type=") // after which part of the agent tells it
			typ, reason, _ := strings.Cut(rest, " reason=")
			if text, err := strconv.Unquote(reason); err == nil {
				reason = text
			}
			out = append(out, Refusal{process, typ, reason})
		}
	}
	return out
}

// Refusals returns what the Envoys of the scene have refused since it began.
func (s *Scene) Refusals() []Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Refusal
	for _, p := range s.processes {
		out = append(out, RefusalsIn(p.Name, p.Log())...)
	}
	return out
}

// expectation is a refusal that must come.
type expectation struct{ process, text string }

// ExpectRefusal says that the Envoy of an agent will refuse something for a reason that has this text. Any other refusal is a
// fault of the scene, see Refused, and so is one that does not come.
func (s *Scene) ExpectRefusal(process, text string) {
	s.expected = append(s.expected, expectation{process, text})
}

// Refused returns what was refused unexpectedly, and what was expected and has not been refused.
func (s *Scene) Refused() error {
	seen := map[expectation]bool{}
	var errs []error
	for _, r := range s.Refusals() {
		known := false
		for _, e := range s.expected {
			if e.process == r.Process && strings.Contains(r.Reason, e.text) {
				seen[e], known = true, true
			}
		}
		if !known {
			errs = append(errs, errors.New(r.String()))
		}
	}
	for _, e := range s.expected {
		if !seen[e] {
			errs = append(errs, fmt.Errorf("no refusal by Envoy of %s for %q, which was expected", e.process, e.text))
		}
	}
	return errors.Join(errs...)
}
