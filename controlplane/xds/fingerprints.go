package xds

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// fingerprints renders, for cache keys, what rules say about one inbound or service.
type fingerprints struct {
	effects []effect.Kind
	rules   map[resource.Kind]*policy.Rules
	// byEffect are the rules of each of effects, keys what else its effect lets flow into parts; "" for none.
	byEffect []*policy.Rules
	keys     []string
	confs    map[any]string
	// scoped are the kinds with rules for single routes.
	scoped map[resource.Kind]bool
	// all and byTags are the keys of these reaches.
	all, byTags reaching
	// clusters is what rules of the proxy's own inbounds mean for its clusters.
	clusters string
	// quick is all of this and of the environment together.
	quick string
	// last is what was asked for at last: the listener of an outbound and its cluster want to know the same.
	last portRules
}

// portRules is what the rules of each kind but routes say about a port of a service object.
type portRules struct {
	target *effect.Target
	confs  [maxKinds][]any
}

func (f *fingerprints) ofPort(t *effect.Target) *portRules {
	if f.last.target == t {
		return &f.last
	}
	f.last.target = t
	section := effect.Section(t.Port)
	for i, rules := range f.byEffect {
		f.last.confs[i] = nil
		if rules != nil && f.effects[i].Route == nil {
			f.last.confs[i] = rules.ForService(t.Service, section)
		}
	}
	return &f.last
}

// reaching are keys of one reach: what flows into listeners, and what of it flows into clusters.
type reaching struct{ listeners, clusters string }

func (r *reaching) add(e effect.Kind, key string) {
	text := join(string(e.Kind), key)
	r.listeners += text
	if !e.ListenersOnly {
		r.clusters += text
	}
}

func newFingerprints(effects []effect.Kind, env effect.Env, rules map[resource.Kind]*policy.Rules) *fingerprints {
	f := &fingerprints{effects: effects, rules: rules, confs: map[any]string{}, scoped: map[resource.Kind]bool{}, keys: make([]string, len(effects))}
	named := ""
	for i, e := range effects {
		f.byEffect = append(f.byEffect, rules[e.Kind])
		if e.Route != nil {
			continue // what routes say is told by effect.Routing
		}
		f.scoped[e.Kind] = rules[e.Kind].RouteScoped()
		clusters := effect.ClusterKey(rules[e.Kind])
		f.clusters += join(clusters, bit(clusters != "" && env.Guarded))
		if e.Key == nil || !effect.Effective(rules[e.Kind]) {
			continue
		}
		switch key := e.Key(env, rules[e.Kind]); e.Reach {
		case effect.Everything:
			f.all.add(e, key)
		case effect.ByTags:
			f.byTags.add(e, key)
		default:
			f.keys[i] = key
			named += join(string(e.Kind), key)
		}
	}
	f.quick = join(env.Mesh, env.MTLSMode, bit(env.Transparent), bit(env.IPv6), env.SourceTags, f.common(), named)
	return f
}

// common is what flows into parts that lead to service objects from elsewhere than the environment and their rules.
func (f *fingerprints) common() string { return join(f.all.listeners, f.all.clusters, f.clusters) }

// service renders what rules say about a port of a service object, for its listener or its cluster.
func (f *fingerprints) service(t *effect.Target, listener bool) string {
	parts := make([]string, 0, 2*len(f.effects))
	if listener {
		parts = append(parts, f.all.listeners)
	} else {
		parts = append(parts, f.all.clusters)
	}
	confs := &f.ofPort(t).confs
	for i := range f.effects {
		for _, conf := range confs[i] {
			parts = append(parts, f.conf(conf), f.key(i, listener))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

// key is that of a kind for parts that it names.
func (f *fingerprints) key(i int, listener bool) string {
	if f.effects[i].ListenersOnly && !listener {
		return ""
	}
	return f.keys[i]
}

// legacyService renders what rules by tags say about a kuma.io/service.
func (f *fingerprints) legacyService(name string, listener bool) string {
	parts := []string{f.all.clusters, f.byTags.clusters}
	if listener {
		parts = []string{f.all.listeners, f.byTags.listeners}
	}
	for i, e := range f.effects {
		if e.Route != nil {
			continue
		}
		if conf := f.rules[e.Kind].ForLegacyService(name); conf != nil {
			parts = append(parts, f.conf(conf), f.key(i, listener))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

// legacyRoutes renders what rules say about single routes to a kuma.io/service.
func (f *fingerprints) legacyRoutes(name string, routing *effect.Routing) string {
	var parts []string
	for i, e := range f.effects {
		if rules := f.rules[e.Kind]; e.Route == nil && rules != nil && f.scoped[e.Kind] {
			for _, route := range effect.RouteNames(routing) {
				tags := map[string]string{resource.TagService: name, policy.RuleMatchesHash: route}
				parts = append(parts, f.conf(rules.ForTags(tags)), f.keys[i])
			}
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

func (f *fingerprints) inbound(in *resource.Inbound) string {
	parts := []string{f.all.listeners, f.byTags.listeners}
	for i, e := range f.effects {
		if rules := f.rules[e.Kind]; rules != nil {
			for _, r := range rules.From {
				own, cluster := r.Of(in), r.Inbound.Port == effect.WorkloadPort(in) // a MeshCircuitBreaker takes the one port for the other
				if own || cluster {
					parts = append(parts, f.keys[i], bit(own), bit(cluster), f.subsets(r.Rules), bit(r.Exact != nil), f.subsets(r.Exact))
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
	print := hash(b) // confs may be long, and keys are kept
	f.confs[conf] = print
	return print
}

// join makes one string of parts such that different parts never give the same string.
func join(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 4
	}
	var b strings.Builder
	b.Grow(n)
	var length [12]byte
	for _, p := range parts {
		b.Write(append(strconv.AppendInt(length[:0], int64(len(p)), 36), ':'))
		b.WriteString(p)
	}
	return b.String()
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
