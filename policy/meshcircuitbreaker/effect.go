package meshcircuitbreaker

import (
	"math"
	"math/big"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Apply writes limits and outlier detection into clusters (contract effects-routing.md §8). Rules of an inbound are for
// the local cluster that has the inbound's port in its name, as Kuma 2.9 finds it, although the name is of the port of the
// workload: where the two differ that is no cluster, or one of another inbound (ibid. §1.5).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, in := range p.Inbounds {
		for _, from := range r.From {
			if from.Inbound.Port == effect.WorkloadPort(in.Resource) && len(from.Rules) > 0 {
				apply(in.Cluster, from.Rules[0].Conf)
			}
		}
	}
	for _, b := range p.Backends {
		if b.External() {
			continue
		}
		apply(b.Cluster, b.Conf(r))
	}
	return nil
}

func apply(c *effect.Cluster, conf any) {
	cf, ok := conf.(*Conf)
	if !ok {
		return
	}
	if l := cf.ConnectionLimits; l != nil {
		c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: effect.Number(l.MaxConnections), MaxConnectionPools: effect.Number(l.MaxConnectionPools),
			MaxPendingRequests: effect.Number(l.MaxPendingRequests), MaxRetries: effect.Number(l.MaxRetries),
			MaxRequests: effect.Number(l.MaxRequests),
		}}}
	}
	if o := cf.OutlierDetection; o != nil && (o.Disabled == nil || !*o.Disabled) {
		c.OutlierDetection = o.envoy()
	}
}

// envoy states for every detector whether it is in force: Envoy's own defaults would switch some on.
func (o *OutlierDetection) envoy() *clusterv3.OutlierDetection {
	out := &clusterv3.OutlierDetection{
		Interval: effect.Span(o.Interval), BaseEjectionTime: effect.Span(o.BaseEjectionTime), MaxEjectionPercent: effect.Number(o.MaxEjectionPercent),
	}
	if o.SplitExternalAndLocalErrors != nil {
		out.SplitExternalLocalOriginErrors = *o.SplitExternalAndLocalErrors
	}
	d := o.Detectors
	if d == nil {
		d = &Detectors{}
	}
	out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = d.TotalFailures.envoy()
	out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = d.GatewayFailures.envoy()
	out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = d.LocalOriginFailures.envoy()
	out.EnforcingSuccessRate = enforcing(d.SuccessRate != nil)
	out.EnforcingLocalOriginSuccessRate = enforcing(d.SuccessRate != nil)
	if s := d.SuccessRate; s != nil {
		out.SuccessRateMinimumHosts, out.SuccessRateRequestVolume = effect.Number(s.MinimumHosts), effect.Number(s.RequestVolume)
		out.SuccessRateStdevFactor = thousandths(s.StandardDeviationFactor)
	}
	out.EnforcingFailurePercentage = enforcing(d.FailurePercentage != nil)
	out.EnforcingFailurePercentageLocalOrigin = enforcing(d.FailurePercentage != nil)
	if f := d.FailurePercentage; f != nil {
		out.FailurePercentageMinimumHosts, out.FailurePercentageRequestVolume = effect.Number(f.MinimumHosts), effect.Number(f.RequestVolume)
		out.FailurePercentageThreshold = effect.Number(f.Threshold)
	}
	return out
}

func (c *Consecutive) envoy() (count, enforce *wrapperspb.UInt32Value) {
	if c == nil || c.Consecutive == nil {
		return nil, enforcing(false)
	}
	return effect.Number(c.Consecutive), enforcing(true)
}

func enforcing(on bool) *wrapperspb.UInt32Value {
	if on {
		return wrapperspb.UInt32(100)
	}
	return wrapperspb.UInt32(0)
}

// thousandths is Envoy's form of a factor: 1.9 is 1900. What is not a number in range is left to Envoy's default.
func thousandths(v *resource.IntOrString) *wrapperspb.UInt32Value {
	if v == nil {
		return nil
	}
	if f, ok := policy.Decimal(*v); !ok || f < 0 || f*1000 > math.MaxUint32 {
		return nil
	}
	exact, ok := new(big.Rat).SetString(v.String())
	if !ok {
		return nil
	}
	exact.Mul(exact, big.NewRat(1000, 1))
	n := new(big.Int).Quo(exact.Num(), exact.Denom())
	return wrapperspb.UInt32(uint32(min(n.Uint64(), math.MaxUint32)))
}
