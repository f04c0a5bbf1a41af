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

// Patch is the effect of MeshProxyPatch: it runs the modifications of all policies, lower precedence first, on finished
// listeners and clusters (contract effects-security.md §10). One that fails, or after which Envoy would refuse a resource,
// is left out as a whole and named in the warnings; all others count. What Envoy will refuse for another reason than the
// rules of its fields is handed on, as in Kuma, with a warning. The messages of parts are not changed.
func Patch(parts []effect.Part, r *policy.Rules) (patched []effect.Part, warnings []string) {
	if r.Single == nil {
		return parts, nil
	}
	patched, warnings = runAll(parts, r.Single, false, nil)
	each := checkChanged(parts, patched) != nil
	if each {
		// What comes out counts, not what is between two modifications; only to find who is to blame is each looked at.
		patched, warnings = runAll(parts, r.Single, true, nil)
	}
	return patched, append(warnings, suspicions(parts, patched, r.Single, each)...)
}

// runAll runs all modifications. After, which may be nil, is called after each one that is not left out.
func runAll(parts []effect.Part, rule *policy.SingleRule, each bool, after func(modification string, before, after []effect.Part)) ([]effect.Part, []string) {
	var warnings []string
	for _, p := range rule.Origin { // the merged conf joins the lists in this order
		spec, ok := p.Spec.(*meshproxypatch.Spec)
		if !ok {
			continue
		}
		for i := range spec.Conf.AppendModifications {
			name := fmt.Sprintf("%s %s: appendModifications[%d]", meshproxypatch.Name, p.Name, i)
			next, err := run(parts, &spec.Conf.AppendModifications[i])
			if err == nil && each {
				err = checkChanged(parts, next)
			}
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("%s is left out: %v", name, err))
				continue
			}
			if after != nil {
				after(name, parts, next)
			}
			parts = next
		}
	}
	return parts, warnings
}

// run returns the parts after a modification; what it changes is a copy.
func run(parts []effect.Part, m *meshproxypatch.Modification) ([]effect.Part, error) {
	switch {
	case m.Cluster != nil:
		c := newChange(meshproxypatch.TargetCluster, &m.Cluster.Change)
		return c.resources(parts, func(p effect.Part) bool {
			cluster, ok := p.Message.(*clusterv3.Cluster)
			return ok && (m.Cluster.Match == nil || wants(m.Cluster.Match.Origin, string(p.Origin)) && wants(m.Cluster.Match.Name, cluster.Name))
		})
	case m.Listener != nil:
		c := newChange(meshproxypatch.TargetListener, &m.Listener.Change)
		return c.resources(parts, func(p effect.Part) bool {
			l, ok := p.Message.(*listenerv3.Listener)
			return ok && (m.Listener.Match == nil || matchListener(p.Origin, l, m.Listener.Match))
		})
	case m.NetworkFilter != nil:
		c := newChange(meshproxypatch.TargetNetworkFilter, &m.NetworkFilter.Change)
		return filters(parts, m.NetworkFilter.Match, func(l *listenerv3.Listener, name string) error {
			return c.networkFilters(l, name)
		})
	case m.HTTPFilter != nil:
		c := newChange(meshproxypatch.TargetHTTPFilter, &m.HTTPFilter.Change)
		return filters(parts, m.HTTPFilter.Match, func(l *listenerv3.Listener, name string) error {
			return c.httpFilters(l, name)
		})
	case m.VirtualHost != nil:
		c := newChange(meshproxypatch.TargetVirtualHost, &m.VirtualHost.Change)
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
