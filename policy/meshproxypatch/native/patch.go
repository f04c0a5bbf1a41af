package native

import (
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
)

// Patcher is the effect of MeshProxyPatch: it runs the modifications of all policies, lower precedence first, on finished
// listeners and clusters (contract effects-security.md §10). One that fails, or after which Envoy would refuse a resource,
// is left out as a whole and named in the warnings; all others count. What Envoy will refuse for another reason than the
// rules of its fields is handed on, as in Kuma, with a warning. The messages of parts are not changed.
type Patcher struct{ modifications []modification }

// modification is one step of a policy.
type modification struct {
	*meshproxypatch.Modification
	change *change // nil for one that says nothing
	name   string  // for warnings
}

var _ effect.Patcher = (*Patcher)(nil)

// NewPatcher reads the modifications of policies.
func NewPatcher(r *policy.Rules) effect.Patcher {
	out := &Patcher{}
	if r.Single == nil {
		return out
	}
	for _, p := range r.Single.Origin { // the merged conf joins the lists in this order
		spec, ok := p.Spec.(*meshproxypatch.Spec)
		if !ok {
			continue
		}
		for i := range spec.Conf.AppendModifications {
			m := modification{
				Modification: &spec.Conf.AppendModifications[i], name: fmt.Sprintf("%s %s: appendModifications[%d]", meshproxypatch.Name, p.Name, i),
			}
			m.change = m.read()
			out.modifications = append(out.modifications, m)
		}
	}
	return out
}

func (m *modification) read() *change {
	switch {
	case m.Cluster != nil:
		return newChange(meshproxypatch.TargetCluster, &m.Cluster.Change)
	case m.Listener != nil:
		return newChange(meshproxypatch.TargetListener, &m.Listener.Change)
	case m.NetworkFilter != nil:
		return newChange(meshproxypatch.TargetNetworkFilter, &m.NetworkFilter.Change)
	case m.HTTPFilter != nil:
		return newChange(meshproxypatch.TargetHTTPFilter, &m.HTTPFilter.Change)
	case m.VirtualHost != nil:
		return newChange(meshproxypatch.TargetVirtualHost, &m.VirtualHost.Change)
	}
	return nil
}

// Concerns implements effect.Patcher. A part that no modification selects as it comes keeps the name and the origin by
// which it could be selected later.
func (p *Patcher) Concerns(origin effect.Origin, listener bool, name string) bool {
	return slices.ContainsFunc(p.modifications, func(m modification) bool { return m.concerns(origin, listener, name) })
}

func (m *modification) concerns(origin effect.Origin, listener bool, name string) bool {
	in := func(wantOrigin, wantName string) bool {
		return wants(wantOrigin, string(origin)) && wants(wantName, name)
	}
	switch {
	case m.Cluster != nil && m.Cluster.Operation == meshproxypatch.OpAdd, m.Listener != nil && m.Listener.Operation == meshproxypatch.OpAdd:
		return m.change.value != nil && idOf(m.change.value) == id{listener, name}
	case m.Cluster != nil:
		return !listener && (m.Cluster.Match == nil || in(m.Cluster.Match.Origin, m.Cluster.Match.Name))
	case !listener:
		return false
	case m.Listener != nil:
		return m.Listener.Match == nil || in(m.Listener.Match.Origin, m.Listener.Match.Name)
	case m.NetworkFilter != nil:
		return m.NetworkFilter.Match == nil || in(m.NetworkFilter.Match.Origin, m.NetworkFilter.Match.ListenerName)
	case m.HTTPFilter != nil:
		return m.HTTPFilter.Match == nil || in(m.HTTPFilter.Match.Origin, m.HTTPFilter.Match.ListenerName)
	case m.VirtualHost != nil:
		return m.VirtualHost.Match == nil || in(m.VirtualHost.Match.Origin, "")
	}
	return false
}

// Patch implements effect.Patcher.
func (p *Patcher) Patch(parts []effect.Part) (patched []effect.Part, warnings []string) {
	patched, warnings = p.run(parts, false, nil)
	each := checkChanged(parts, patched) != nil
	if each {
		// What comes out counts, not what is between two modifications; only to find who is to blame is each looked at.
		patched, warnings = p.run(parts, true, nil)
	}
	return patched, append(warnings, p.suspicions(parts, patched, each)...)
}

// run runs all modifications. After, which may be nil, is called after each one that is not left out.
func (p *Patcher) run(parts []effect.Part, each bool, after func(modification string, before, after []effect.Part)) (_ []effect.Part, warnings []string) {
	for _, m := range p.modifications {
		next, err := m.run(parts)
		if err == nil && each {
			err = checkChanged(parts, next)
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s is left out: %v", m.name, err))
			continue
		}
		if after != nil {
			after(m.name, parts, next)
		}
		parts = next
	}
	return parts, warnings
}

// run returns the parts after a modification; what it changes is a copy.
func (m *modification) run(parts []effect.Part) ([]effect.Part, error) {
	c := m.change
	switch {
	case m.Cluster != nil:
		return c.resources(parts, func(p effect.Part) bool {
			cluster, ok := p.Message.(*clusterv3.Cluster)
			return ok && (m.Cluster.Match == nil || wants(m.Cluster.Match.Origin, string(p.Origin)) && wants(m.Cluster.Match.Name, cluster.Name))
		})
	case m.Listener != nil:
		return c.resources(parts, func(p effect.Part) bool {
			l, ok := p.Message.(*listenerv3.Listener)
			return ok && (m.Listener.Match == nil || matchListener(p.Origin, l, m.Listener.Match))
		})
	case m.NetworkFilter != nil:
		return filters(parts, m.NetworkFilter.Match, func(l *listenerv3.Listener, name string) error {
			return c.networkFilters(l, name)
		})
	case m.HTTPFilter != nil:
		return filters(parts, m.HTTPFilter.Match, func(l *listenerv3.Listener, name string) error {
			return c.httpFilters(l, name)
		})
	case m.VirtualHost != nil:
		match := m.VirtualHost.Match
		if match == nil {
			match = &meshproxypatch.VirtualHostMatch{}
		}
		return listeners(parts, &meshproxypatch.ListenerMatch{Origin: match.Origin}, func(l *listenerv3.Listener) error {
			return c.virtualHosts(l, match)
		})
	}
	return nil, errors.New("it says nothing")
}

// wants tells whether a field of a match, empty for any, selects a value.
func wants(want, value string) bool { return want == "" || want == value }

// matchListener compares tags with those of the inbound, which the listener carries; "*" is any value.
func matchListener(origin effect.Origin, l *listenerv3.Listener, m *meshproxypatch.ListenerMatch) bool {
	if !wants(m.Origin, string(origin)) || !wants(m.Name, l.Name) {
		return false
	}
	have := l.GetMetadata().GetFilterMetadata()["io.kuma.tags"].GetFields()
	for k, v := range m.Tags {
		value, ok := have[k]
		if !ok || v != "*" && value.GetStringValue() != v {
			return false
		}
	}
	return true
}

// listeners runs edit on copies of the listeners that match.
func listeners(parts []effect.Part, m *meshproxypatch.ListenerMatch, edit func(*listenerv3.Listener) error) ([]effect.Part, error) {
	out := slices.Clone(parts)
	for i, p := range out {
		l, ok := p.Message.(*listenerv3.Listener)
		if !ok || !matchListener(p.Origin, l, m) {
			continue
		}
		l = proto.CloneOf(l)
		if err := edit(l); err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		out[i].Message = l
	}
	return out, nil
}

func filters(parts []effect.Part, m *meshproxypatch.FilterMatch, edit func(l *listenerv3.Listener, name string) error) ([]effect.Part, error) {
	if m == nil {
		m = &meshproxypatch.FilterMatch{}
	}
	of := &meshproxypatch.ListenerMatch{Origin: m.Origin, Name: m.ListenerName, Tags: m.ListenerTags}
	return listeners(parts, of, func(l *listenerv3.Listener) error { return edit(l, m.Name) })
}
