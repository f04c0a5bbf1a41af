package xds

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rulebook computes the rules of proxies. What depends only on the matched policies and the services of the mesh is
// computed once for all proxies that share them.
type rulebook struct {
	kinds []policy.Kind
	zone  string
	to    *partCache[string, toRules]
}

type toRules struct {
	services []*resource.Resource
	*policy.ToRules
}

func newRulebook(kinds []policy.Kind, zone string) *rulebook {
	return &rulebook{kinds: kinds, zone: zone, to: newPartCache[string, toRules](4 << 10)}
}

// rules returns the rules of dp by kind. Kinds of which no policy matches are absent. When the tags of a kind's `from`
// items are too many to enumerate, its rules are empty, which for permissions means that nobody is let in; the error says
// so, and the map is good all the same.
func (b *rulebook) rules(w *topology.World, mesh *topology.Mesh, dp *topology.Dataplane, shadow bool) (map[resource.Kind]*policy.Rules, error) {
	out := map[resource.Kind]*policy.Rules{}
	var faults []error
	for _, k := range b.kinds {
		kind := k.Descriptor.Kind
		matched := policy.Matched(k, dp.Resource, mesh.Policies[kind], b.zone, shadow)
		if len(matched) == 0 {
			continue
		}
		r, err := policy.BuildFrom(k, dp.Resource, matched)
		if err != nil {
			faults = append(faults, err)
			r = &policy.Rules{Kind: kind}
		}
		to, err := b.toRules(w, mesh, k, matched)
		if err != nil {
			faults = append(faults, err)
		} else {
			r.To, r.ToResources = to.To, to.ToResources
		}
		out[kind] = r
	}
	return out, errors.Join(faults...)
}

func (b *rulebook) toRules(w *topology.World, mesh *topology.Mesh, k policy.Kind, matched []*policy.Match) (*policy.ToRules, error) {
	services := w.Services(mesh.Name)
	var key strings.Builder
	fmt.Fprintf(&key, "%s\x00%s", mesh.Name, k.Descriptor.Kind)
	for _, m := range matched {
		if m.Policy.Version == 0 { // never stored: nothing says when it changes
			return policy.BuildTo(k, matched, w)
		}
		key.WriteString("\x00" + m.Policy.Name + "\x00" + strconv.FormatUint(m.Policy.Version, 36))
	}
	if known, ok := b.to.lookup(key.String()); ok && sameSlice(known.services, services) {
		return known.ToRules, nil
	}
	r, err := policy.BuildTo(k, matched, w)
	if err != nil {
		return nil, err
	}
	b.to.store(key.String(), toRules{services, r})
	return r, nil
}

// sameSlice tells whether two slices are one. The topology shares them between pictures with equal services.
func sameSlice(a, b []*resource.Resource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
