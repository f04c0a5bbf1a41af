package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Status is how a proxy gets on with its configuration.
type Status struct {
	// Connected: it has a stream to this control plane. All else is empty without one.
	Connected bool
	// Refusals is what its Envoy does not take; it has all the rest.
	Refusals []Refusal
	// Failure says why there is no configuration; the proxy keeps what it has. "" when there is one.
	Failure string
	// Suspects are the policies without which there would be a configuration; of a Failure only.
	Suspects []*resource.Resource
	// Warnings say which parts of policies have no effect on the proxy, or will be refused.
	Warnings []Warning
}

// Refusal is one or more resources of a type that an Envoy refuses: in their place it keeps what it has, or nothing.
type Refusal struct {
	Type string // the type URL
	// Resources are their names, sorted. When Envoy does not say which it means, they are all that it was sent with them.
	Resources []string
	// Reason is what Envoy says.
	Reason string
	Since  time.Time
	// Policies are those that may be to blame, of each kind from low to high precedence: without them the resources would be
	// others. Policies of the kinds that patch, which can make anything, are named alone when there are any.
	Policies []*resource.Resource
}

// Kind is the last word of the type, such as Listener.
func (r *Refusal) Kind() string { return r.Type[strings.LastIndexByte(r.Type, '.')+1:] }

// Warning begins with the kind of the policies that it is about.
type Warning struct {
	Text string
	// Policies are those without which it would not be there.
	Policies []*resource.Resource
}

// About tells whether the warning is about policies of a kind.
func (w *Warning) About(kind resource.Kind) bool {
	rest, ok := strings.CutPrefix(w.Text, string(kind))
	return ok && !inWord(rest[:min(len(rest), 1)])
}

// Status returns how a Dataplane gets on; Blame also says because of which policies. The error is ErrUnknownProxy.
func (s *Server) Status(mesh, name string) (*Status, error) {
	w, m, dp, err := s.find(mesh, name)
	if err != nil {
		return nil, err
	}
	out, _ := s.statusOf(w, m, dp)
	return out, nil
}

func (s *Server) statusOf(w *topology.World, m *topology.Mesh, dp *topology.Dataplane) (*Status, Meta) {
	out, meta := s.status(topology.ProxyID{Mesh: m.Name, Name: dp.Name})
	if out.Connected {
		// What is missing of rules is told in their warnings.
		rules, _ := s.rulebook.rules(w, m, dp, false)
		out.warn(s.warningsOf(rules, nil))
	}
	return out, meta
}

// ZoneStatus returns how a ZoneIngress or ZoneEgress gets on; nobody is blamed. The error is ErrUnknownProxy.
func (s *Server) ZoneStatus(kind resource.Kind, name string) (*Status, error) {
	zones := s.cfg.Topology.Current().Zones
	if kind == resource.KindZoneIngress && zones.Ingress(name) == nil || kind == resource.KindZoneEgress && zones.Egress(name) == nil {
		return nil, fmt.Errorf("inspect %s %s: %w", kind, name, ErrUnknownProxy)
	}
	out, meta := s.status(topology.ProxyID{Name: name})
	if meta.ProxyType != proxyTypeOf(kind) {
		return &Status{}, nil
	}
	return out, nil
}

func (s *Server) status(id topology.ProxyID) (*Status, Meta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proxies[id]
	if p == nil {
		return &Status{}, Meta{}
	}
	// What follows an error is the stack of a panic, which is in the log.
	failure, _, _ := strings.Cut(p.failure, "\ngoroutine ")
	out := &Status{Connected: true, Failure: failure}
	for st := range p.streams {
		out.Refusals = append(out.Refusals, st.refused.list()...)
	}
	slices.SortStableFunc(out.Refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), a.Since.Compare(b.Since))
	})
	if snap := p.snap.Load(); snap != nil {
		out.warn(snap.Warnings())
	}
	return out, p.meta
}

func (s *Status) warn(texts []string) {
	for _, text := range texts {
		s.Warnings = append(s.Warnings, Warning{Text: text})
	}
}
