package meshloadbalancingstrategy

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxPriority is Envoy's limit.
const maxPriority = 128

// defaultOverprovisioning is the factor without a failoverThreshold, in percent.
const defaultOverprovisioning = 200

// Endpoints arranges the endpoints of a destination by where they are from the client's point of view (contract
// effects-routing.md §10.2). The key holds all that the arrangement depends on.
func Endpoints(env effect.Env, b *effect.Backend, r *policy.Rules) (string, func(*endpointv3.ClusterLoadAssignment)) {
	conf, ok := b.Conf(r).(*Conf)
	if !ok || b.External() {
		return "", nil
	}
	a := conf.LocalityAwareness
	if a == nil || a.LocalZone == nil && a.CrossZone == nil {
		if a != nil && a.Disabled != nil && *a.Disabled {
			return "", nil
		}
		return "far last in " + env.Zone, func(cla *endpointv3.ClusterLoadAssignment) { farLast(cla, env.Zone) }
	}
	z := &arrangement{
		zone: env.Zone, affinities: affinities(env, conf.affinity()), overprovisioning: defaultOverprovisioning,
		egress: env.ThroughEgress && b.LegacyService != "",
	}
	if a.CrossZone != nil {
		z.failover = a.CrossZone.Failover
		if t := a.CrossZone.FailoverThreshold; t != nil {
			z.overprovisioning = overprovisioning(t.Percentage)
		}
	}
	// What is marshalled comes from JSON.
	key, _ := json.Marshal([]any{z.zone, z.affinities, z.failover, z.overprovisioning, z.egress})
	return string(key), z.apply
}

func (c *Conf) affinity() []AffinityTag {
	if c.LocalityAwareness == nil || c.LocalityAwareness.LocalZone == nil {
		return nil
	}
	return c.LocalityAwareness.LocalZone.AffinityTags
}

// farLast lets endpoints of other zones wait until those of the zone fail.
func farLast(cla *endpointv3.ClusterLoadAssignment, zone string) {
	for _, group := range cla.Endpoints {
		if group.Locality != nil && group.Locality.Zone != zone {
			group.Priority = 1
		}
	}
}

// arrangement is how one client sees the endpoints of one destination.
type arrangement struct {
	zone             string
	affinities       []affinity
	failover         []Failover
	overprovisioning uint32
	// egress: endpoints of other zones are all behind the ZoneEgress, which chooses among them.
	egress bool
}

// affinity is a tag that the client has, with the weight of endpoints that have it too.
type affinity struct {
	Key, Value string
	Weight     uint32
}

// affinities are those tags of a list that the client has, of several values the first. Without weights of its own an
// element weighs ten times the next one, also when the client lacks that.
func affinities(env effect.Env, tags []AffinityTag) []affinity {
	weights := make([]uint64, len(tags))
	for i, t := range tags {
		// Of more than nine tags the last ones weigh the same: ten to the tenth is more than Envoy's weights hold.
		weights[i] = uint64(9 * math.Pow10(max(min(len(tags), 9)-i-1, 0)))
		if t.Weight != nil {
			weights[i] = uint64(*t.Weight)
		}
	}
	fit(weights)
	var out []affinity
	for i, t := range tags {
		if values := env.Tags[t.Key]; len(values) > 0 {
			out = append(out, affinity{t.Key, values[0], uint32(weights[i])})
		}
	}
	return out
}

// fit halves weights until Envoy, whose sum of weights is of 32 bits, takes them.
func fit(weights []uint64) {
	for {
		sum := uint64(1) // of what shares no tag
		for _, w := range weights {
			sum += w
		}
		if sum <= math.MaxUint32 {
			return
		}
		for i := range weights {
			weights[i] = max(weights[i]/2, 1)
		}
	}
}

// overprovisioning is in hundreds, as Kuma 2.9 rounds it: traffic leaves the zone when less than 100/factor of it is healthy.
func overprovisioning(percentage resource.IntOrString) uint32 {
	n, ok := policy.Decimal(percentage)
	if !ok || n <= 0 || n > 100 {
		return defaultOverprovisioning
	}
	return uint32(min(math.Floor(100/n)*100, math.MaxUint32))
}

// place is where an endpoint goes.
type place struct {
	zone, subZone string
	priority      uint32
	weight        uint32 // none when zero
}

func (z *arrangement) apply(cla *endpointv3.ClusterLoadAssignment) {
	groups := map[place][]*endpointv3.LbEndpoint{}
	for _, group := range cla.Endpoints {
		zone := group.GetLocality().GetZone()
		for _, e := range group.LbEndpoints {
			if p, ok := z.place(zone, e); ok {
				groups[p] = append(groups[p], e)
			}
		}
	}
	cla.Endpoints = nil
	for _, p := range slices.SortedFunc(maps.Keys(groups), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.zone+a.subZone, b.zone+b.subZone), cmp.Compare(a.zone, b.zone), cmp.Compare(a.weight, b.weight))
	}) {
		slices.SortStableFunc(groups[p], func(a, b *endpointv3.LbEndpoint) int {
			x, y := a.GetEndpoint().GetAddress().GetSocketAddress(), b.GetEndpoint().GetAddress().GetSocketAddress()
			return cmp.Or(cmp.Compare(x.GetAddress(), y.GetAddress()), cmp.Compare(x.GetPortValue(), y.GetPortValue()))
		})
		group := &endpointv3.LocalityLbEndpoints{
			Locality: &corev3.Locality{Zone: p.zone, SubZone: p.subZone}, LbEndpoints: groups[p], Priority: p.priority,
		}
		if p.weight > 0 {
			group.LoadBalancingWeight = wrapperspb.UInt32(p.weight)
		}
		cla.Endpoints = append(cla.Endpoints, group)
	}
	cla.Policy = &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(z.overprovisioning)}
}

// place tells where an endpoint of a zone goes, false when the client must not use it.
func (z *arrangement) place(zone string, e *endpointv3.LbEndpoint) (place, bool) {
	switch {
	case zone == z.zone || zone == "" && !z.egress:
		return z.local(e), true
	case z.egress:
		return place{zone: z.behindEgress(), priority: 1}, true
	}
	for i, rule := range z.failover {
		if rule.from(z.zone) && rule.To.has(zone) {
			return place{zone: zone, priority: uint32(min(i+1, maxPriority))}, true
		}
	}
	return place{}, false
}

func (z *arrangement) local(e *endpointv3.LbEndpoint) place {
	tags := e.GetMetadata().GetFilterMetadata()["envoy.lb"].GetFields()
	for _, a := range z.affinities {
		if v := tags[a.Key]; v != nil && v.GetStringValue() == a.Value {
			return place{zone: z.zone, subZone: a.Key + "=" + a.Value, weight: a.Weight}
		}
	}
	return place{zone: z.zone, weight: 1}
}

// behindEgress names a locality such that clients with other rules have another one (contract effects-routing.md §10.2).
func (z *arrangement) behindEgress() string {
	var text strings.Builder
	for i, rule := range z.failover {
		if !rule.from(z.zone) || rule.To.Type == ToNone {
			continue
		}
		fmt.Fprintf(&text, "%d:", i+1)
		if rule.To.Type != ToOnly {
			text.WriteString(rule.To.Type)
		}
		if rule.To.Type == ToAnyExcept {
			text.WriteString(":")
		}
		text.WriteString(strings.Join(slices.Sorted(slices.Values(rule.To.Zones)), ",") + ";")
	}
	sum := sha256.Sum256([]byte(text.String()))
	return "egress_" + base64.StdEncoding.EncodeToString(sum[:])[:8]
}

func (f *Failover) from(zone string) bool {
	return f.From == nil || slices.Contains(f.From.Zones, zone)
}

func (z *ToZone) has(zone string) bool {
	switch z.Type {
	case ToAny:
		return true
	case ToOnly:
		return slices.Contains(z.Zones, zone)
	case ToAnyExcept:
		return !slices.Contains(z.Zones, zone)
	}
	return false
}
