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
	for _, e := range effects {
		f.byEffect = append(f.byEffect, rules[e.Kind])
		if e.Route != nil {
			continue // what routes say is told by effect.Routing
		}
		f.scoped[e.Kind] = rules[e.Kind].RouteScoped()
		effective := effect.Effective(rules[e.Kind])
		f.general += bit(effective)
		if effective && e.Key != nil {
			key := join(e.Key(env, rules[e.Kind]))
			if e.ListenersOnly {
				f.listeners += key
			} else {
				f.general += key
			}
		}
		f.clusters += join(effect.ClusterKey(rules[e.Kind]))
	}
	f.quick = join(env.Mesh, env.MTLSMode, bit(env.Transparent), bit(env.IPv6), env.SourceTags, f.general, f.listeners, f.clusters)
	return f
}

func (f *fingerprints) service(key resource.Key, section string) string {
	parts := []string{f.general}
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
	parts := []string{f.general}
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
	parts := []string{f.general}
	for _, e := range f.effects {
		if rules := f.rules[e.Kind]; rules != nil {
			for _, r := range rules.From {
				if r.Of(in) {
					parts = append(parts, f.subsets(r.Rules), bit(r.Exact != nil), f.subsets(r.Exact))
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
		b = strconv.AppendInt(b, int64(len(p)), 36)
		b = append(b, ':')
		b = append(b, p...)
	}
	return string(b)
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
