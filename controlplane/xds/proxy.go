package xds

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
)

// Retries of a snapshot that could not be made for a reason outside, such as an authority that is not there yet.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// proxy is one connected proxy.
type proxy struct {
	id topology.ProxyID
	// snap is nil until the first snapshot is made.
	snap atomic.Pointer[Snapshot]

	// Of Server.mu:
	meta    Meta // of the newest stream
	streams map[*stream]bool
	dirty   topology.Scope
	pending bool // in Server.pending
	queued  bool // in the queue or with a worker
	gone    bool // no stream is left
	timer   *time.Timer
	// failure is the text of the last error, "" when there was none. Only the worker changes it, who logs it once and not
	// at every change.
	failure string

	// Of the one worker that has the proxy:
	retry time.Duration
	// warned is the text of the last warnings, so that they are logged once.
	warned string
}

// join adds a stream to its proxy and has the snapshot made.
func (s *Server) join(st *stream, meta Meta) *proxy {
	s.mu.Lock()
	p := s.proxies[st.id]
	if p == nil {
		p = &proxy{id: st.id, streams: map[*stream]bool{}}
		s.proxies[st.id] = p
		if s.byMesh[st.id.Mesh] == nil {
			s.byMesh[st.id.Mesh] = map[string]*proxy{}
		}
		s.byMesh[st.id.Mesh][st.id.Name] = p
	}
	p.meta = meta
	p.streams[st] = true
	s.mu.Unlock()
	s.now(p, topology.ScopeFull)
	return p
}

func (s *Server) leave(st *stream, p *proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(p.streams, st)
	if len(p.streams) > 0 {
		return
	}
	p.gone = true
	if p.timer != nil {
		p.timer.Stop()
	}
	delete(s.proxies, p.id)
	delete(s.byMesh[p.id.Mesh], p.id.Name)
	if len(s.byMesh[p.id.Mesh]) == 0 {
		delete(s.byMesh, p.id.Mesh)
	}
}

// work makes the snapshot of a proxy and wakes its streams.
func (s *Server) work(ctx context.Context, p *proxy) {
	s.mu.Lock()
	scope, meta, gone := p.dirty, p.meta, p.gone
	p.dirty = 0
	s.mu.Unlock()
	if !gone && scope != 0 {
		s.make(ctx, p, scope, meta)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.dirty != 0 && !p.gone {
		s.queue.push(p) // touched meanwhile
		return
	}
	p.queued = false
}

func (s *Server) make(ctx context.Context, p *proxy, scope topology.Scope, meta Meta) {
	old := p.snap.Load()
	next, renew, err := s.guard(func() (*Snapshot, time.Time, error) { return s.compute(ctx, p.id, scope, meta, old) })
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		if err.Error() != p.failure {
			s.log.Error("could not make the configuration of a proxy, which keeps what it has",
				"mesh", p.id.Mesh, "proxy", p.id.Name, "error", err)
		}
		s.failed(p, err.Error())
		p.retry = min(max(s.firstRetry, 2*p.retry), lastRetry)
		s.later(p, p.retry)
		return
	}
	p.retry = 0
	if p.failure != "" {
		s.failed(p, "")
	}
	if !renew.IsZero() {
		s.later(p, max(time.Until(renew), s.firstRetry))
	}
	if next == nil || next == old {
		return
	}
	if text := strings.Join(next.Warnings(), "; "); text != p.warned {
		p.warned = text
		if text != "" {
			s.log.Warn("parts of policies have no effect on a proxy", "mesh", p.id.Mesh, "proxy", p.id.Name, "reason", text)
		}
	}
	p.snap.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range p.streams {
		st.notify()
	}
}

func (s *Server) failed(p *proxy, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.failure = text
}

// guard turns a panic into an error: what one proxy's policies do to our code must not end the others' service.
func (s *Server) guard(f func() (*Snapshot, time.Time, error)) (snap *Snapshot, renew time.Time, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// later has the snapshot made again after a while: for a renewal or a retry.
func (s *Server) later(p *proxy, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	if !p.gone {
		p.timer = time.AfterFunc(d, func() { s.now(p, topology.ScopeFull) })
	}
}

// compute returns nil while the Dataplane is not in the topology; a change will tell when it is.
func (s *Server) compute(ctx context.Context, id topology.ProxyID, scope topology.Scope, meta Meta, old *Snapshot) (*Snapshot, time.Time, error) {
	w := s.cfg.Topology.Current()
	if id.Mesh == "" {
		return s.computeZoneProxy(ctx, w, id.Name, meta)
	}
	mesh := w.Meshes[id.Mesh]
	if mesh == nil {
		return nil, time.Time{}, nil
	}
	dp := mesh.Dataplane(id.Name)
	if dp == nil {
		return nil, time.Time{}, nil
	}
	if scope == topology.ScopeEndpoints && old != nil {
		next, err := s.generator.GenerateEndpoints(old, mesh)
		return next, time.Time{}, err
	}
	in := Input{Mesh: mesh, Dataplane: dp, Zone: s.cfg.Zone, Domain: s.cfg.Domain, Meta: meta, Before: old}
	rules, err := s.rulebook.rules(w, mesh, dp, false)
	if err != nil {
		s.log.Warn("rules of a proxy are incomplete", "mesh", id.Mesh, "proxy", id.Name, "error", err)
	}
	in.Rules = rules
	var renew time.Time
	if mesh.Spec.EnabledBackend() != nil {
		if in.TrustBundle, err = s.cfg.TrustBundle(id.Mesh); err != nil {
			return nil, time.Time{}, fmt.Errorf("get the trust bundle of mesh %s: %w", id.Mesh, err)
		}
		if !meta.Has(FeatureIdentityCSR) {
			kp := &KeyPair{}
			if kp.Cert, kp.Key, renew, err = s.cfg.Identity(ctx, id, dp.Spec); err != nil {
				return nil, time.Time{}, fmt.Errorf("get the identity of proxy %s.%s: %w", id.Mesh, id.Name, err)
			}
			in.Identity = kp
		}
	}
	if s.cfg.Admin != nil && meta.AdminPort != 0 && dp.Spec.Networking != nil {
		if in.Admin, err = s.cfg.Admin(dp.Spec.Networking.Address); err != nil {
			return nil, time.Time{}, fmt.Errorf("get the admin certificate of proxy %s.%s: %w", id.Mesh, id.Name, err)
		}
	}
	next, err := s.generator.Generate(in)
	return next, renew, err
}
