package xds

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// fingerprints renders, for cache keys, what rules say about one inbound or service.
type fingerprints struct {
	effects []effect.Kind
	rules   map[resource.Kind]*policy.Rules
	// byEffect are the rules of each of effects.
	byEffect []*policy.Rules
	confs    map[any]string
	// scoped are the kinds with rules for single routes.
	scoped map[resource.Kind]bool
	// general says for every kind whether any policy is effective at all, which some effects look at, and what else of the
	// proxy flows into its parts.
	general string
	// listeners is what of the proxy flows into its listeners besides.
	listeners string
	// clusters is what rules of the proxy's own inbounds mean for its clusters.
	clusters string
	// quick is all of this and of the environment together.
	quick string
	// last is what confKey was asked for at last.
	last    *effect.Target
	lastKey confKey
}

func newFingerprints(effects []effect.Kind, env effect.Env, rules map[resource.Kind]*policy.Rules) *fingerprints {
	f := &fingerprints{effects: effects, rules: rules, confs: map[any]string{}, scoped: map[resource.Kind]bool{}}
	f.byEffect = make([]*policy.Rules, 0, len(effects))
	var general, listeners, clusters []byte
	for _, e := range effects {
		f.byEffect = append(f.byEffect, rules[e.Kind])
		if e.Route != nil {
			continue // what routes say is told by effect.Routing
		}
		if rules[e.Kind].RouteScoped() {
			f.scoped[e.Kind] = true
		}
		effective := effect.Effective(rules[e.Kind])
		general = append(general, bit(effective)...)
		if effective && e.Key != nil {
			key := e.Key(env, rules[e.Kind])
			if e.ListenersOnly {
				listeners = appendPart(listeners, key)
			} else {
				general = appendPart(general, key)
			}
		}
		clusters = appendPart(clusters, effect.ClusterKey(rules[e.Kind]))
	}
	f.general, f.listeners, f.clusters = string(general), string(listeners), string(clusters)
	f.quick = join(env.Mesh, env.MTLSMode, bit(env.Transparent), bit(env.IPv6), env.SourceTags, f.general, f.listeners, f.clusters)
	return f
}

// parts begins a list with room for what is said by each kind.
func (f *fingerprints) parts() []string {
	return append(make([]string, 0, len(f.effects)+8), f.general)
}

func (f *fingerprints) service(key resource.Key, section string) string {
	parts := f.parts()
	for _, e := range f.effects {
		if e.Route != nil {
			continue
		}
		for _, conf := range f.rules[e.Kind].ForService(key, section) {
			parts = append(parts, f.conf(conf))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

// legacyService renders what rules by tags say about a kuma.io/service.
func (f *fingerprints) legacyService(name string) string {
	parts := f.parts()
	for _, e := range f.effects {
		if e.Route != nil {
			continue
		}
		if conf := f.rules[e.Kind].ForLegacyService(name); conf != nil {
			parts = append(parts, f.conf(conf))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

// legacyRoutes renders what rules say about single routes to a kuma.io/service.
func (f *fingerprints) legacyRoutes(name string, routing *effect.Routing) string {
	var parts []string
	for _, e := range f.effects {
		if rules := f.rules[e.Kind]; e.Route == nil && rules != nil && f.scoped[e.Kind] {
			for _, route := range effect.RouteNames(routing) {
				tags := map[string]string{resource.TagService: name, policy.RuleMatchesHash: route}
				parts = append(parts, f.conf(rules.ForTags(tags)))
			}
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

func (f *fingerprints) inbound(in *resource.Inbound) string {
	parts := f.parts()
	for _, e := range f.effects {
		if rules := f.rules[e.Kind]; rules != nil {
			for _, r := range rules.From {
				own, cluster := r.Of(in), r.Inbound.Port == effect.WorkloadPort(in) // a MeshCircuitBreaker takes the one port for the other
				if own || cluster {
					parts = append(parts, bit(own), bit(cluster), f.subsets(r.Rules), bit(r.Exact != nil), f.subsets(r.Exact))
				}
			}
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

func (f *fingerprints) subsets(rules []policy.SubsetRule) string {
	var parts []string
	for _, r := range rules {
		parts = append(parts, strconv.Itoa(len(r.Matchers)), f.conf(r.Conf))
		for _, m := range r.Matchers {
			parts = append(parts, m.Key, m.Value, bit(m.Not))
		}
	}
	return join(parts...)
}

func (f *fingerprints) conf(conf any) string {
	if s, ok := f.confs[conf]; ok {
		return s
	}
	b, err := json.Marshal(conf)
	if err != nil {
		// Confs come from JSON; one that does not go back is unlike all others.
		b = fmt.Appendf(nil, "%p", conf)
	}
	f.confs[conf] = string(b)
	return string(b)
}

// join makes one string of parts such that different parts never give the same string.
func join(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 4
	}
	b := slices.Grow([]byte(nil), n)
	for _, p := range parts {
		b = appendPart(b, p)
	}
	return string(b)
}

// appendPart adds one part to what join makes.
func appendPart(b []byte, part string) []byte {
	b = strconv.AppendInt(b, int64(len(part)), 36)
	b = append(b, ':')
	return append(b, part...)
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
