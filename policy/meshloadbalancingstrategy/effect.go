package meshloadbalancingstrategy

import (
	"math/big"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Key tells whether the proxy is only shown, where that makes a difference.
func Key(env effect.Env, r *policy.Rules) string {
	odd := func(conf any) bool {
		c, ok := conf.(*Conf)
		return ok && c.LoadBalancer != nil && c.LoadBalancer.odd()
	}
	refused := slices.ContainsFunc(r.To, func(rule policy.SubsetRule) bool { return odd(rule.Conf) }) ||
		slices.ContainsFunc(r.ToResources, func(rule policy.ResourceRule) bool { return slices.ContainsFunc(rule.Conf, odd) })
	return strconv.FormatBool(refused && env.Shown)
}

// Apply writes the algorithm into clusters and what the hash is made of into routes (contract effects-routing.md §10.1).
// Where endpoints are is the matter of Endpoints.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, out := range p.Outbounds {
		conf, ok := out.Conf(r).(*Conf)
		if !ok || out.External() || conf.LoadBalancer == nil {
			continue
		}
		for _, chain := range out.Listener.Chains {
			if h := chain.HCM(); h != nil {
				h.RouteActions(func(_ *routev3.Route, a *routev3.RouteAction) {
					a.HashPolicy = append(a.HashPolicy, conf.LoadBalancer.hash()...)
				})
			}
		}
	}
	for _, b := range p.Backends {
		conf, ok := b.Conf(r).(*Conf)
		if !ok || b.External() {
			continue
		}
		// An egress knows no zones of what is outside.
		if len(conf.affinity()) > 0 && !b.Egress {
			weighLocalities(b.Cluster)
		}
		if conf.LoadBalancer != nil {
			conf.LoadBalancer.cluster(b.Cluster, p.Shown)
		}
	}
	return nil
}

func weighLocalities(c *effect.Cluster) {
	if c.CommonLbConfig == nil {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
	}
	c.CommonLbConfig.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
		LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
	}
}

// odd tells whether Kuma hands on sizes with which Envoy refuses the cluster. They are shown as Kuma shows them; a proxy gets
// the nearest that work.
func (b *LoadBalancer) odd() bool {
	switch {
	case b.Type == RingHashType && b.RingHash != nil:
		return b.RingHash.inverted()
	case b.Type == MaglevType && b.Maglev != nil && b.Maglev.TableSize != nil:
		return !prime(*b.Maglev.TableSize)
	}
	return false
}

func (b *LoadBalancer) cluster(c *effect.Cluster, shown bool) {
	switch b.Type {
	case RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	case Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case LeastRequestType:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if lr := b.LeastRequest.envoy(); lr != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: lr}
		}
	case RingHashType:
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		if b.RingHash != nil {
			c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: b.RingHash.envoy(shown)}
		}
	case MaglevType:
		c.LbPolicy = clusterv3.Cluster_MAGLEV
		if b.Maglev != nil && b.Maglev.TableSize != nil && (shown || !b.odd()) {
			c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{
				TableSize: wrapperspb.UInt64(uint64(*b.Maglev.TableSize)),
			}}
		}
	}
}

// prime: Envoy refuses a cluster with a table of another size.
func prime(n uint32) bool { return big.NewInt(int64(n)).ProbablyPrime(0) }

func (l *LeastRequest) envoy() *clusterv3.Cluster_LeastRequestLbConfig {
	if l == nil || l.ChoiceCount == nil && l.ActiveRequestBias == nil {
		return nil
	}
	out := &clusterv3.Cluster_LeastRequestLbConfig{ChoiceCount: effect.Number(l.ChoiceCount)}
	if l.ActiveRequestBias != nil {
		if n, ok := policy.Decimal(*l.ActiveRequestBias); ok && n >= 0 {
			out.ActiveRequestBias = &corev3.RuntimeDouble{DefaultValue: n}
		}
	}
	return out
}

// defaultMinRingSize is Envoy's.
const defaultMinRingSize = 1024

// inverted: Envoy refuses a ring whose least size is above the largest one, also when the least is its own.
func (r *RingHash) inverted() bool {
	least := uint32(defaultMinRingSize)
	if r.MinRingSize != nil {
		least = *r.MinRingSize
	}
	return r.MaxRingSize != nil && least > *r.MaxRingSize
}

func (r *RingHash) envoy(shown bool) *clusterv3.Cluster_RingHashLbConfig {
	out := &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: size(r.MinRingSize), MaximumRingSize: size(r.MaxRingSize)}
	if r.HashFunction == MurmurHash2 {
		out.HashFunction = clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
	}
	if !shown && r.inverted() {
		out.MinimumRingSize = size(r.MaxRingSize)
	}
	return out
}

func size(n *uint32) *wrapperspb.UInt64Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt64(uint64(*n))
}

// hash returns what the hash is made of, without what Envoy would refuse.
func (b *LoadBalancer) hash() []*routev3.RouteAction_HashPolicy {
	var from []HashPolicy
	switch {
	case b.Type == RingHashType && b.RingHash != nil:
		from = b.RingHash.HashPolicies
	case b.Type == MaglevType && b.Maglev != nil:
		from = b.Maglev.HashPolicies
	}
	var out []*routev3.RouteAction_HashPolicy
	for _, p := range from {
		if h := p.envoy(); h != nil && h.ValidateAll() == nil {
			out = append(out, h)
		}
	}
	return out
}

func (p *HashPolicy) envoy() *routev3.RouteAction_HashPolicy {
	out := &routev3.RouteAction_HashPolicy{Terminal: p.Terminal != nil && *p.Terminal}
	switch {
	case p.Type == HashHeader && p.Header != nil:
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: p.Header.Name}}
	case p.Type == HashCookie && p.Cookie != nil:
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{
			Name: p.Cookie.Name, Ttl: effect.Span(p.Cookie.TTL), Path: p.Cookie.Path,
		}}
	case p.Type == HashQueryParameter && p.QueryParameter != nil:
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: p.QueryParameter.Name},
		}
	case p.Type == HashFilterState && p.FilterState != nil:
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_FilterState_{FilterState: &routev3.RouteAction_HashPolicy_FilterState{Key: p.FilterState.Key}}
	case p.Type == HashSourceIP || p.Type == HashConnection:
		// Kuma 2.9 breaks on the first of the two names, which is the only one that its schema lets in (contract
		// effects-routing.md §11); it says what is meant.
		on := true
		if p.Connection != nil && p.Connection.SourceIP != nil {
			on = *p.Connection.SourceIP
		}
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: on},
		}
	default:
		return nil
	}
	return out
}
