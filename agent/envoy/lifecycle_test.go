package envoy

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDrain(t *testing.T) {
	const drainTime = 300 * time.Millisecond
	r := startFake(t, fakeConfig{}, func(c *Config) { c.DrainTime = drainTime })
	r.ready(t)
	begin := time.Now()
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < drainTime {
		t.Errorf("ended after %v, want at least the drain time %v", d, drainTime)
	}
	if err := r.wait(t); err != nil || r.State() != Stopped {
		t.Errorf("run: %v in state %v", err, r.State())
	}
	fail, term := strings.Index(r.out.String(), "POST /healthcheck/fail"), strings.Index(r.out.String(), "SIGTERM")
	if fail < 0 || term < fail {
		t.Errorf("envoy saw:\n%s", r.out)
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("draining what has ended: %v", err)
	}
}

func TestDrainCutShort(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(r *run, cancel func())
	}{
		{"by the context", func(_ *run, cancel func()) { cancel() }},
		{"by draining again", func(r *run, _ func()) { r.Drain(context.Background()) }},
		{"by the end of Run's context", func(r *run, _ func()) { r.cancel() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := startFake(t, fakeConfig{}, func(c *Config) { c.DrainTime = time.Hour })
			r.ready(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			drained := make(chan error)
			go func() { drained <- r.Drain(ctx) }()
			r.out.Await(t, "POST /healthcheck/fail")
			if r.State() != Draining {
				t.Errorf("state %v", r.State())
			}
			tt.cut(r, cancel)
			if err := <-drained; err != nil {
				t.Error(err)
			}
			if err := r.wait(t); err != nil || !strings.Contains(r.out.String(), "SIGTERM") {
				t.Errorf("run: %v; envoy saw:\n%s", err, r.out)
			}
		})
	}
}

func TestDrainThatEnvoyRefuses(t *testing.T) {
	r := startFake(t, fakeConfig{FailDrain: true}, func(c *Config) { c.DrainTime = time.Hour })
	r.ready(t)
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

func TestEnvoyDiesWhileDraining(t *testing.T) {
	// The call fails because the process is gone; whoever drains must not wait an hour for nothing.
	r := startFake(t, fakeConfig{DieOnDrain: true}, func(c *Config) { c.DrainTime = time.Hour })
	r.ready(t)
	_ = r.Drain(t.Context()) // an error only when the end was noticed before it was asked for
	_ = r.wait(t)
	if !r.State().over() {
		t.Errorf("state %v", r.State())
	}
}

func TestDrainBeforeRun(t *testing.T) {
	dir := t.TempDir()
	p, err := New(Config{Binary: fakeBinary, BootstrapPath: filepath.Join(dir, "none"), Admin: filepath.Join(dir, "a.sock")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.DrainInbound(t.Context()); err == nil {
		t.Error("draining what does not run must fail")
	}
	if err := p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Run(t.Context()); err != nil || p.State() != Stopped || p.PID() != 0 {
		t.Errorf("run: %v, state %v, pid %d", err, p.State(), p.PID())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Ready(ctx); err == nil {
		t.Error("ready although it never ran")
	}
}

func TestDrainInbound(t *testing.T) {
	r := startFake(t, fakeConfig{}, func(c *Config) { c.DrainTime = time.Hour })
	r.ready(t)
	for range 2 {
		if err := r.DrainInbound(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r.State() != Running {
		t.Errorf("state %v", r.State())
	}
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	out := r.out.String()
	if strings.Count(out, "POST /drain_listeners?inboundonly&graceful&skip_exit") != 1 || strings.Contains(out, "healthcheck") {
		t.Errorf("envoy saw:\n%s", out)
	}
}

func TestStates(t *testing.T) {
	p := &Process{}
	p.cfg.setDefaults()
	for _, step := range []struct {
		to State
		ok bool
	}{{Draining, false}, {Running, true}, {Initial, false}, {Draining, true}, {Running, false}, {Draining, false}, {Exited, true}, {Stopped, false}} {
		if got := p.to(step.to); got != step.ok {
			t.Errorf("to %v: got %v", step.to, got)
		}
	}
	if got := State(9).String(); got != "state 9" {
		t.Errorf("got %q", got)
	}
}

func TestReadyOfNeverStarted(t *testing.T) {
	p, err := New(Config{Binary: "x", BootstrapPath: "x", Admin: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Ready(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not started") {
		t.Errorf("got %v", err)
	}
}
