//go:build linux

package scene

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// agentWith is an agent whose log tells of refusals for these reasons, as the relay writes them.
func agentWith(name string, reasons ...string) *Process {
	p := &Process{Name: name, log: &lineLog{name: name}}
	log := slog.New(slog.NewTextHandler(p.log, nil)).With("component", "relay")
	log.Info("connected", "reason", "none")
	for _, r := range reasons {
		log.Warn("envoy refused configuration", "type", "type.googleapis.com/envoy.config.listener.v3.Listener", "reason", r)
	}
	log.Info("all is well")
	return p
}

func TestRefused(t *testing.T) {
	const script = `Error adding/updating listener(s) in: "bad"` + "\nend"
	for _, tt := range []struct {
		name      string
		processes []*Process
		expected  []expectation
		want      []string
	}{
		{"nothing", []*Process{agentWith("web"), agentWith("backend")}, nil, nil},
		{"one", []*Process{agentWith("web", script), agentWith("backend")}, nil, []string{"Envoy of web has refused a Listener: " + script}},
		{"a bare word", []*Process{agentWith("web", "bad")}, nil, []string{"Envoy of web has refused a Listener: bad"}},
		{"before a restart", []*Process{agentWith("web", script), agentWith("web")}, nil, []string{"Envoy of web has refused a Listener: " + script}},
		{"an expected one, twice", []*Process{agentWith("web", script, script)}, []expectation{{"web", "updating"}}, nil},
		{"of another", []*Process{agentWith("web", script), agentWith("backend", script)}, []expectation{{"web", "bad"}}, []string{"Envoy of backend has refused a Listener: " + script}},
		{"for another reason", []*Process{agentWith("web", script, "other")}, []expectation{{"web", "bad"}}, []string{"Envoy of web has refused a Listener: other"}},
		{"one that does not come", []*Process{agentWith("web")}, []expectation{{"web", "bad"}}, []string{`no refusal by Envoy of web for "bad", which was expected`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Scene{processes: tt.processes}
			for _, e := range tt.expected {
				s.ExpectRefusal(e.process, e.text)
			}
			want, got := strings.Join(tt.want, "\n"), ""
			if err := s.Refused(); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestRefusalsIn: what others say of refusals is none.
func TestRefusalsIn(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Warn("said", "text", refused+`a reason="b"`)
	if got := RefusalsIn("web", b.String()); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if got := RefusalsIn("web", refused+`component=relay type=a.B reason="c d"`); !slices.Equal(got, []Refusal{{"web", "a.B", "c d"}}) { // the last line may still be unfinished
		t.Errorf("got %v", got)
	}
}
