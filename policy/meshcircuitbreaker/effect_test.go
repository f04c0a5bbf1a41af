package meshcircuitbreaker

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestStandardDeviationFactor(t *testing.T) {
	for _, tt := range []struct {
		in   resource.IntOrString
		want int64
	}{
		{resource.IntOrString{Str: "1.9"}, 1900},
		{resource.IntOrString{Int: 2}, 2000},
		{resource.IntOrString{Str: "0.0019"}, 1},
		{resource.IntOrString{Str: "4.35"}, 4350},
		{resource.IntOrString{Str: "x"}, -1},
		{resource.IntOrString{Str: "NaN"}, -1},
		{resource.IntOrString{Str: "1e99"}, -1},
		{resource.IntOrString{Str: "-1"}, -1},
	} {
		got := int64(-1)
		if v := thousandths(&tt.in); v != nil {
			got = int64(v.Value)
		}
		if got != tt.want {
			t.Errorf("factor %s is %d, want %d", tt.in, got, tt.want)
		}
	}
}

func TestApply(t *testing.T) {
	env := effect.Env{Mesh: "m", Address: "10.0.0.1"}
	conf := &Conf{
		ConnectionLimits: &ConnectionLimits{MaxConnections: proto.Uint32(3)},
		OutlierDetection: &OutlierDetection{Detectors: &Detectors{GatewayFailures: &Consecutive{}, SuccessRate: &SuccessRate{}}},
	}
	same := &resource.Inbound{Port: 80}
	other := &resource.Inbound{Port: 81, ServicePort: 8081}
	p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, same), effect.NewInbound(env, other)}}
	rules := []policy.SubsetRule{{Conf: conf}}
	if err := Apply(p, &policy.Rules{From: []policy.InboundRules{{Inbound: same, Rules: rules}, {Inbound: other, Rules: rules}}}); err != nil {
		t.Fatal(err)
	}
	c := p.Inbounds[0].Cluster
	if n := c.CircuitBreakers.Thresholds[0]; n.MaxConnections.Value != 3 || n.MaxRequests != nil {
		t.Errorf("thresholds are %v", n)
	}
	o := c.OutlierDetection
	if o.EnforcingConsecutive_5Xx.GetValue() != 0 || o.EnforcingConsecutiveGatewayFailure == nil || o.EnforcingConsecutiveGatewayFailure.Value != 0 ||
		o.EnforcingSuccessRate.Value != 100 || o.EnforcingFailurePercentage.Value != 0 {
		t.Errorf("outlier detection is %v", o)
	}
	if p.Inbounds[1].Cluster.CircuitBreakers != nil {
		t.Error("an inbound whose workload has another port is limited")
	}
	conf.OutlierDetection.Disabled = proto.Bool(true)
	fresh := effect.NewInbound(env, same)
	apply(fresh.Cluster, conf)
	if fresh.Cluster.OutlierDetection != nil {
		t.Error("disabled outlier detection is in force")
	}
}
