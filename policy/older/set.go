// Package older gives the policies from before target references their effect: TrafficPermission, TrafficLog,
// TrafficTrace, FaultInjection and RateLimit (contract effects-security.md §1.4, §4, §5, §7 to §9). Their schemas are with
// those of the other flat kinds, in resource. They only choose and merge nothing, so that all of them together make one
// kind of rules and have one effect.
package older

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the kind of the rules that all of them make. No resource has it.
const Name resource.Kind = "older policies"

// Set holds the policies of a mesh. It is immutable and safe for concurrent use.
type Set struct {
	mesh  *resource.Mesh
	zone  string
	lists map[resource.Kind][]*resource.Resource
}

// NewSet picks the policies out of those of a mesh; nil when there is none. It is earlier, which may be nil, when nothing has
// changed. Zone is added to the tags of inbounds.
func NewSet(mesh *resource.Mesh, policies map[resource.Kind][]*resource.Resource, zone string, earlier *Set) *Set {
	var s *Set
	for _, k := range resource.OlderPolicies() {
		if len(policies[k]) == 0 {
			continue
		}
		if s == nil {
			s = &Set{mesh: mesh, zone: zone, lists: map[resource.Kind][]*resource.Resource{}}
		}
		s.lists[k] = policies[k]
	}
	if s != nil && earlier != nil && earlier.mesh == mesh && earlier.zone == zone &&
		maps.EqualFunc(s.lists, earlier.lists, slices.Equal) {
		return earlier
	}
	return s
}

// inboundConf is what policies say about an inbound. Rules are told apart by its JSON.
type inboundConf struct {
	// Permitted says that a permission is for one of the proxy's inbounds; Permission is that for this one, which may be nil.
	Permitted  bool               `json:"permitted,omitempty"`
	Permission *resource.Resource `json:"permission,omitempty"`
	// Faults and Limits are all that match, those with the most specific sources first.
	Faults []*resource.Resource `json:"faults,omitempty"`
	Limits []*resource.Resource `json:"limits,omitempty"`
}

// logConf is the backend of logs about a destination; nil is none.
type logConf struct {
	Backend *resource.LoggingBackend `json:"backend"`
}

// Rules returns what the policies mean for a proxy: what concerns an inbound in From, logs by destination in To, traces in
// Single. It is nil when no policy matches.
func (s *Set) Rules(dp *resource.Resource) *policy.Rules {
	spec, ok := dp.Spec.(*resource.Dataplane)
	if !ok || spec.Networking == nil {
		return nil
	}
	r := &policy.Rules{Kind: Name}
	s.inbounds(r, spec.Networking.Inbound)
	own := ends(spec.Networking, s.zone)
	s.logs(r, own)
	s.trace(r, own)
	if !effect.Effective(r) && len(r.Warnings) == 0 {
		return nil
	}
	return r
}

func (s *Set) inbounds(r *policy.Rules, inbounds []*resource.Inbound) {
	confs := make([]inboundConf, len(inbounds))
	permitted := false
	for i, in := range inbounds {
		if in.State == resource.InboundIgnored {
			continue
		}
		tags := effect.WithZone(in.Tags, s.zone)
		c := &confs[i]
		if list := s.matching(resource.KindTrafficPermission, tags, func(_ resource.Spec, to rank) rank { return to }); len(list) > 0 {
			c.Permission, permitted = list[0], true
		}
		c.Faults = s.matching(resource.KindFaultInjection, tags, func(spec resource.Spec, _ rank) rank {
			return highest(spec.(*resource.FaultInjection).Sources)
		})
		c.Limits = s.matching(resource.KindRateLimit, tags, func(spec resource.Spec, _ rank) rank {
			return highest(spec.(*resource.RateLimit).Sources)
		})
	}
	for i, in := range inbounds {
		c := &confs[i]
		c.Permitted = permitted
		if permitted || len(c.Faults)+len(c.Limits) > 0 {
			r.From = append(r.From, policy.InboundRules{Inbound: in, Rules: []policy.SubsetRule{{Conf: c}}})
		}
	}
}

// matching returns the policies of a kind for an inbound with tags, in the order of the rank that a function makes of a spec
// and the rank of its destination.
func (s *Set) matching(kind resource.Kind, tags map[string]string, of func(resource.Spec, rank) rank) []*resource.Resource {
	var found []match
	for _, p := range s.lists[kind] {
		if to, ok := best(p.Spec.(resource.OlderPolicy).Proxies(), tags); ok {
			found = append(found, match{p, of(p.Spec, to)})
		}
	}
	return ordered(found)
}

// logs makes a rule for every destination that a policy names, and one for all others.
func (s *Set) logs(r *policy.Rules, own []map[string]string) {
	from := map[*resource.Resource]rank{}
	names := map[string]bool{}
	for _, p := range s.lists[resource.KindTrafficLog] {
		spec := resource.SpecOf[*resource.TrafficLog](p)
		source, ok := best(spec.Sources, own...)
		if !ok {
			continue
		}
		from[p] = source
		for _, d := range spec.Destinations {
			names[d.Match[resource.TagService]] = true
		}
	}
	missing := map[*resource.Resource]bool{}
	add := func(service string, matchers ...policy.Matcher) {
		var found []match
		for p, source := range from {
			spec := resource.SpecOf[*resource.TrafficLog](p)
			if to, ok := best(spec.Destinations, map[string]string{resource.TagService: service}); ok {
				found = append(found, match{p, source.plus(to)})
			}
		}
		if len(found) == 0 {
			return
		}
		p := ordered(found)[0]
		conf := &logConf{s.mesh.LoggingBackend(resource.SpecOf[*resource.TrafficLog](p).Conf.BackendName())}
		if !canLog(conf.Backend) {
			conf.Backend = nil
		}
		if conf.Backend == nil && !missing[p] {
			missing[p] = true
			r.Warnings = append(r.Warnings, noBackend(p, "logging"))
		}
		r.To = append(r.To, policy.SubsetRule{Matchers: matchers, Conf: conf})
	}
	for _, service := range slices.Sorted(maps.Keys(names)) {
		if service != "*" {
			add(service, policy.Matcher{Key: resource.TagService, Value: service})
		}
	}
	add("") // a service that nobody names
	r.Tagged = len(r.To) > 0
}

func (s *Set) trace(r *policy.Rules, own []map[string]string) {
	var found []match
	for _, p := range s.lists[resource.KindTrafficTrace] {
		if rank, ok := best(resource.SpecOf[*resource.TrafficTrace](p).Selectors, own...); ok {
			found = append(found, match{p, rank})
		}
	}
	if len(found) == 0 {
		return
	}
	p := ordered(found)[0]
	b := s.mesh.TracingBackend(resource.SpecOf[*resource.TrafficTrace](p).Conf.BackendName())
	if !canTrace(b) {
		r.Warnings = append(r.Warnings, noBackend(p, "tracing"))
		return
	}
	r.Single = &policy.SingleRule{Conf: b}
}

// canLog and canTrace tell whether there is a backend that says where it is: in a Mesh that an earlier version stored it need
// not.
func canLog(b *resource.LoggingBackend) bool {
	return b != nil && b.Conf != nil && (b.Type == resource.LoggingFile && b.Conf.Path != "" || b.Type == resource.LoggingTCP && b.Conf.Address != "")
}

func canTrace(b *resource.TracingBackend) bool {
	return b != nil && b.Conf != nil && (b.Type == resource.TracingZipkin || b.Type == resource.TracingDatadog && b.Conf.Address != "")
}

func noBackend(p *resource.Resource, field string) string {
	return fmt.Sprintf("%s %s has no effect: %s.backends of the Mesh has no such backend, or no default one", p.Kind, p.Name, field)
}
