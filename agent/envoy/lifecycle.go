package envoy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// How often Envoy is asked whether it is ready: it tells nobody by itself. The first question comes soon, as Envoy starts
// within milliseconds; a cause that takes seconds is not worth a hundred questions per second.
const (
	readyFirst = 5 * time.Millisecond
	readyLast  = 100 * time.Millisecond
)

// live is what the admin endpoint says when Envoy takes traffic (contract agent.md §4.2).
const live = "LIVE"

// errNotReady is the answer of an Envoy that is not live.
var errNotReady = errors.New("envoy is not ready")

// CheckReady asks Envoy once. The error tells what is missing, such as PRE_INITIALIZING before the first configuration.
func (p *Process) CheckReady(ctx context.Context) error {
	status, body, err := p.admin.call(ctx, http.MethodGet, "/ready")
	if err != nil {
		return err
	}
	if status != http.StatusOK || body != live {
		return fmt.Errorf("%w: status %d: %s", errNotReady, status, body)
	}
	return nil
}

// Ready waits until Envoy takes traffic. It fails when ctx ends first, with the last answer, or when Envoy ends first.
func (p *Process) Ready(ctx context.Context) error {
	select {
	case <-p.started:
	case <-ctx.Done():
		return fmt.Errorf("wait for envoy: it was not started: %w", context.Cause(ctx))
	}
	last := errNotReady
	for pause := readyFirst; ; pause = min(2*pause, readyLast) {
		select {
		case <-p.done:
			return p.endedEarly()
		default:
		}
		if err := p.CheckReady(ctx); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.done:
			timer.Stop()
			return p.endedEarly()
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for envoy: %w; last answer: %w", context.Cause(ctx), last)
		}
	}
}

// endedEarly is the error of waiting for something that cannot come any more.
func (p *Process) endedEarly() error {
	if p.err != nil {
		return fmt.Errorf("wait for envoy: %w", p.err)
	}
	return errors.New("wait for envoy: it has ended")
}

// Drain ends Envoy gently (contract agent.md §3.3): it makes Envoy report itself unhealthy and close connections when their
// requests are done, waits for the drain time, and then ends the process, if need be by SIGKILL. It returns when the process
// has ended.
//
// The end of ctx cuts the waiting short, never the ending: a second signal from the user should cancel ctx, or call Drain
// again, which does the same. The waiting is also left out when Envoy cannot be told to drain, and when DrainInbound was called before. The error is not nil only when
// Envoy ended by itself, not with status 0, before it was told to. Before Run it makes Run return at once.
func (p *Process) Drain(ctx context.Context) error {
	if !p.to(Draining) {
		initial := p.State() == Initial
		p.requestStop()
		if initial {
			return nil // Run returns as soon as it begins
		}
		<-p.done
		return p.err
	}
	p.inbound.Lock()
	drained := p.drained
	p.inbound.Unlock()
	if drained {
		p.cfg.Log.Info("already drained, ending at once")
	} else {
		p.wait(ctx)
	}
	p.requestStop()
	<-p.done
	return p.err
}

// wait tells Envoy to drain and lets the drain time go by.
func (p *Process) wait(ctx context.Context) {
	p.cfg.Log.Info("draining envoy connections")
	if err := p.admin.post(ctx, "/healthcheck/fail"); err != nil {
		p.cfg.Log.Warn("envoy cannot be drained, ending it at once", slog.Any("error", err))
		return
	}
	p.cfg.Log.Info("waiting for connections to be drained", slog.Duration("wait_time", p.cfg.DrainTime))
	timer := time.NewTimer(p.cfg.DrainTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		p.cfg.Log.Info("drain cut short")
	case <-p.done:
	}
}

// DrainInbound makes Envoy close its inbound listeners when their requests are done, while outbound traffic goes on and the
// process stays. It is for workloads that still have calls to make when they take none any more; a later Drain does not
// wait again (contract agent.md §3.3, SIGUSR2). Calling it again does nothing.
func (p *Process) DrainInbound(ctx context.Context) error {
	p.inbound.Lock()
	defer p.inbound.Unlock()
	if p.drained {
		return nil
	}
	if s := p.State(); s != Running {
		return fmt.Errorf("drain inbound listeners: envoy is %s", s)
	}
	if err := p.admin.post(ctx, "/drain_listeners?inboundonly&graceful&skip_exit"); err != nil {
		return fmt.Errorf("drain inbound listeners: %w", err)
	}
	p.drained = true
	return nil
}
