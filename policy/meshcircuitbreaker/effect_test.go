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
		{resource.IntOrString{Str: "1.0009999999"}, 1000},
		{resource.IntOrString{Str: "1.5e1"}, 15000},
		{resource.IntOrString{Str: "x"}, -1},
		{resource.IntOrString{Str: "NaN"}, -1},
		{resource.IntOrString{Str: "Inf"}, -1},
		{resource.IntOrString{Str: "0x1p4"}, -1},
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

// TestInboundOfAnotherPort: rules of an inbound are for the cluster named by its port, whosever that is.
func TestInboundOfAnotherPort(t *testing.T) {
	env := effect.Env{Mesh: "m", Address: "10.0.0.1"}
	front, back := &resource.Inbound{Port: 80, ServicePort: 8080}, &resource.Inbound{Port: 8080, ServicePort: 9090}
	conf := func(n uint32) []policy.SubsetRule {
		return []policy.SubsetRule{{Conf: &Conf{ConnectionLimits: &ConnectionLimits{MaxConnections: proto.Uint32(n)}}}}
	}
	r := &policy.Rules{From: []policy.InboundRules{{Inbound: front, Rules: conf(1)}, {Inbound: back, Rules: conf(2)}}}
	// The inbounds are made one by one: the other one may be known from before.
	p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, front)}}
	if err := Apply(p, r); err != nil {
		t.Fatal(err)
	}
	c := p.Inbounds[0].Cluster
	if c.Name != "localhost:8080" || len(c.CircuitBreakers.GetThresholds()) != 1 || c.CircuitBreakers.Thresholds[0].MaxConnections.Value != 2 {
		t.Errorf("cluster %s has %v", c.Name, c.CircuitBreakers)
	}
	p = &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, back)}}
	if err := Apply(p, r); err != nil {
		t.Fatal(err)
	}
	if c := p.Inbounds[0].Cluster; c.CircuitBreakers != nil {
		t.Errorf("cluster %s has %v", c.Name, c.CircuitBreakers)
	}
}
