package xds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/crew"
	"github.com/kuma-dp/kuma-dp/internal/wirejson"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

var (
	// ErrUnknownProxy means that the mesh has no such Dataplane.
	ErrUnknownProxy = errors.New("no such dataplane")
	// ErrUnknownMesh means that there is no such Mesh.
	ErrUnknownMesh = errors.New("no such mesh")
)

// Rules returns what the policies mean for a proxy, in the order of the kinds; kinds of which no policy matches are left
// out. With shadow, policies with the label kuma.io/effect: shadow count. The error is ErrUnknownProxy, or says which
// rules are missing; those that could be made are returned all the same.
func (s *Server) Rules(mesh, name string, shadow bool) ([]*policy.Rules, error) {
	w, m, dp, err := s.find(mesh, name)
	if err != nil {
		return nil, err
	}
	rules, err := s.rulebook.rules(w, m, dp, shadow)
	var out []*policy.Rules
	for _, k := range s.cfg.Kinds {
		if r := rules[k.Descriptor.Kind]; r != nil {
			out = append(out, r)
		}
	}
	if !shadow {
		s.warnOfPatches(out, m, dp, rules)
	}
	return out, err
}

// warnOfPatches adds to the rules of kinds that patch, which need not make sense to Envoy, what was left out and what Envoy
// refuses because of them; other kinds have no such warnings (contract policies.md §4.8).
func (s *Server) warnOfPatches(out []*policy.Rules, m *topology.Mesh, dp *topology.Dataplane, rules map[resource.Kind]*policy.Rules) {
	for _, e := range s.generator.effects {
		i := slices.IndexFunc(out, func(r *policy.Rules) bool { return r.Kind == e.Kind })
		if e.Patch == nil || i < 0 || !effect.Effective(out[i]) {
			continue
		}
		snap, told := s.told(m, dp, e.Kind)
		if snap == nil {
			var err error
			if snap, err = s.generator.Generate(inspected(m, dp, s.cfg.Zone, rules)); err != nil {
				told = append(told, err.Error())
				snap = &Snapshot{}
			}
		}
		r := *out[i] // rules are shared
		r.Warnings = slices.Concat(r.Warnings, snap.patchWarnings[e.Kind], told)
		out[i] = &r
	}
}

// told returns what a connected proxy is told and which of it Envoy refuses because of policies of a kind that patches; nil
// when it is not connected.
func (s *Server) told(m *topology.Mesh, dp *topology.Dataplane, kind resource.Kind) (snap *Snapshot, refused []string) {
	s.mu.Lock()
	p := s.proxies[topology.ProxyID{Mesh: m.Name, Name: dp.Name}]
	s.mu.Unlock()
	if p == nil {
		return nil, nil
	}
	// It has been found a moment ago; who is gone has no rules either.
	status, _ := s.Status(m.Name, dp.Name)
	if status != nil && len(status.Refusals) > 0 {
		status, _ = s.Blame(m.Name, dp.Name, kind)
	}
	if status == nil {
		return nil, nil
	}
	for _, r := range status.Refusals {
		if len(r.Policies) > 0 {
			refused = append(refused, fmt.Sprintf("Envoy refuses a %s and keeps the one it has: %s", r.Kind(), r.Reason))
		}
	}
	return p.snap.Load(), slices.Compact(refused)
}

// GatewayRules returns what the policies mean for the proxies of a MeshGateway, as Rules does. The error is ErrUnknownProxy
// when there is no such MeshGateway.
func (s *Server) GatewayRules(mesh, gateway string) ([]*policy.Rules, error) {
	w := s.cfg.Topology.Current()
	if m := w.Meshes[mesh]; m != nil {
		for _, g := range m.Gateways {
			if g.Name == gateway {
				return s.rulebook.gatewayRules(w, m, g)
			}
		}
	}
	return nil, fmt.Errorf("inspect gateway %s.%s: %w", mesh, gateway, ErrUnknownProxy)
}

// ConfigOf returns the configuration of a proxy as `_config` shows it: by type URL and name, without what only the
// metadata of a connected proxy tells, and with placeholders for secrets (contract effects-security.md §0.1). The error
// is ErrUnknownProxy, or tells why there is no configuration.
func (s *Server) ConfigOf(mesh, name string, shadow bool) (map[string]map[string]json.RawMessage, error) {
	w, m, dp, err := s.find(mesh, name)
	if err != nil {
		return nil, err
	}
	rules, err := s.rulebook.rules(w, m, dp, shadow)
	if err != nil {
		s.log.Warn("rules of a proxy are incomplete", "mesh", mesh, "proxy", name, "error", err)
	}
	snap, err := s.generator.Generate(inspected(m, dp, s.cfg.Zone, rules))
	if err != nil {
		return nil, err
	}
	return s.show(snap)
}

// shownAt is what begins the lines of a resource in an answer that is indented by one space, in which it is the value of a
// value of a value.
const shownAt = "   "

// maxShown bounds the resources of which a Server remembers what they look like: at most twice as many, 2 kB each.
const maxShown = 4 << 10

// show renders a snapshot by type URL and name, each resource indented as an answer shows it. It contains private keys if
// the snapshot does.
func (s *Server) show(snap *Snapshot) (map[string]map[string]json.RawMessage, error) {
	out := map[string]map[string]json.RawMessage{}
	var all []*Resource
	for _, typeURL := range snap.Types() {
		all = slices.AppendSeq(all, maps.Values(snap.Resources(typeURL)))
	}
	texts := make([]json.RawMessage, len(all))
	err := crew.Each(len(all), func(i int) (err error) {
		texts[i], err = s.shown.get(all[i], all[i].JSON)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, typeURL := range snap.Types() {
		n := len(snap.Resources(typeURL))
		out[typeURL] = make(map[string]json.RawMessage, n)
		for i, r := range all[:n] {
			out[typeURL][r.Name] = texts[i]
		}
		all, texts = all[n:], texts[n:]
	}
	return out, nil
}

// shown renders resources as an answer shows them.
var shown = wirejson.New(shownAt, " ", effect.Types{})

// rendering is where texts grow; what is remembered of one is as large as it must be.
var rendering = sync.Pool{New: func() any { return new([]byte) }}

// JSON renders a resource, indented as the answer of `_config` shows it.
func (r *Resource) JSON() (json.RawMessage, error) {
	buffer := rendering.Get().(*[]byte)
	defer rendering.Put(buffer)
	text, err := shown.Append((*buffer)[:0], r.Any)
	*buffer = text
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", r.Name, err)
	}
	return bytes.Clone(text), nil
}

func (s *Server) find(mesh, name string) (*topology.World, *topology.Mesh, *topology.Dataplane, error) {
	w := s.cfg.Topology.Current()
	if m := w.Meshes[mesh]; m != nil {
		if dp := m.Dataplane(name); dp != nil {
			return w, m, dp, nil
		}
	}
	return nil, nil, nil, fmt.Errorf("inspect proxy %s.%s: %w", mesh, name, ErrUnknownProxy)
}
