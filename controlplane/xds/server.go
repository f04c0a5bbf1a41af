package xds

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
)

// Server is the AggregatedDiscoveryService. All methods are safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	cfg Config
	log *slog.Logger
	// firstRetry is the constant; tests shorten it before Run.
	firstRetry time.Duration
	generator  *Generator
	rulebook   *rulebook
	// shown is what resources look like to people.
	shown *partCache[*Resource, json.RawMessage]

	mu      sync.Mutex
	proxies map[topology.ProxyID]*proxy
	byMesh  map[string]map[string]*proxy // the same, by mesh and name
	pending []*proxy                     // touched, not yet in the queue
	stopped bool

	kick    chan struct{} // holds one token while something is pending
	queue   *queue
	stop    chan struct{} // closed when Run ends: streams end then
	streams sync.WaitGroup
}

// Run follows the topology and makes snapshots until ctx ends; then it ends all streams and waits for them. It may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	cancel := s.cfg.Topology.Subscribe(s.touch)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.debounce(ctx) })
	for range s.cfg.Workers {
		wg.Go(func() {
			for p := s.queue.pop(); p != nil; p = s.queue.pop() {
				s.work(ctx, p)
			}
		})
	}
	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	close(s.stop)
	s.queue.close()
	wg.Wait()
	s.streams.Wait()
	return nil
}

// Connected returns how many proxies have a stream.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.proxies)
}

// IsConnected tells whether a proxy has a stream.
func (s *Server) IsConnected(mesh, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proxies[topology.ProxyID{Mesh: mesh, Name: name}] != nil
}

// Refresh makes the configuration of a mesh's proxies, and of zone proxies, anew: what it is made of has changed outside of the
// store.
func (s *Server) Refresh(mesh string) {
	s.touch(topology.Change{All: map[string]bool{mesh: true, "": true}})
}

// touch notes which connected proxies a change concerns. It runs on the topology's goroutine and does not block.
func (s *Server) touch(c topology.Change) {
	s.mu.Lock()
	for mesh := range c.All {
		for _, p := range s.byMesh[mesh] {
			s.mark(p, topology.ScopeFull)
		}
	}
	for id, scope := range c.Proxies {
		if p := s.proxies[id]; p != nil {
			s.mark(p, scope)
		}
	}
	some := len(s.pending) > 0
	s.mu.Unlock()
	if some {
		s.signal()
	}
}

func (s *Server) signal() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// mark must be called with s.mu held.
func (s *Server) mark(p *proxy, scope topology.Scope) {
	p.dirty |= scope
	if !p.pending && !p.queued {
		p.pending = true
		s.pending = append(s.pending, p)
	}
}

// flush hands everything that is pending to the workers.
func (s *Server) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		p.pending = false
		if !p.queued && !p.gone {
			p.queued = true
			s.queue.push(p)
		}
	}
	s.pending = nil
}

// now makes a proxy's snapshot without waiting for the debounce: for a proxy that has just come, and for renewals.
func (s *Server) now(p *proxy, scope topology.Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.dirty |= scope
	if !p.queued && !p.gone {
		p.queued = true
		s.queue.push(p)
	}
}
