package meshtimeout

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func proxy(protocol string) *effect.Proxy {
	env := effect.Env{Mesh: "m", Address: "10.0.0.1"}
	in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: "a"}}
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "b"}}}
	port := resource.ServicePort{Port: 90, AppProtocol: protocol}
	return &effect.Proxy{
		Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, in)},
		Outbounds: []*effect.Outbound{effect.NewOutbound(env, "241.0.0.1", 90, service, port)},
		Backends:  []*effect.Backend{effect.NewBackend(env, service, &resource.MeshService{}, nil, port, protocol)},
	}
}

func TestNothingEffectiveChangesNothing(t *testing.T) {
	p, want := proxy(effect.HTTP), proxy(effect.HTTP)
	if err := Apply(p, &policy.Rules{}); err != nil {
		t.Fatal(err)
	}
	got, base := p.Inbounds[0].Listener.Chains[0].HCM(), want.Inbounds[0].Listener.Chains[0].HCM()
	if !proto.Equal(got.HttpConnectionManager, base.HttpConnectionManager) || !proto.Equal(p.Backends[0].Cluster.Cluster, want.Backends[0].Cluster.Cluster) {
		t.Error("the base has changed")
	}
}

func TestAnyPolicyWritesDefaultsEverywhere(t *testing.T) {
	r := &policy.Rules{To: []policy.SubsetRule{{Conf: &Conf{}}}} // for a service that is not there
	for _, tt := range []struct {
		protocol string
		http     bool
	}{{effect.HTTP, true}, {effect.HTTP2, true}, {effect.TCP, false}, {effect.GRPC, false}} {
		t.Run(tt.protocol, func(t *testing.T) {
			p := proxy(tt.protocol)
			if err := Apply(p, r); err != nil {
				t.Fatal(err)
			}
			if d := p.Inbounds[0].Cluster.ConnectTimeout.AsDuration(); d != 5*time.Second {
				t.Errorf("local cluster connects in %s", d)
			}
			options := p.Backends[0].Cluster.HTTP.CommonHttpProtocolOptions
			if (options != nil) != tt.http {
				t.Errorf("cluster options are %v", options)
			}
			if tt.http && options.IdleTimeout.AsDuration() != time.Hour {
				t.Errorf("idle timeout is %s", options.IdleTimeout.AsDuration())
			}
			chain := p.Outbounds[0].Listener.Chains[0]
			if tcp := chain.TCPProxy(); tcp != nil && tcp.IdleTimeout.AsDuration() != time.Hour {
				t.Errorf("tcp idle timeout is %s", tcp.IdleTimeout.AsDuration())
			}
			if h := chain.HCM(); h != nil {
				action := h.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute()
				if action.Timeout.AsDuration() != 15*time.Second || action.IdleTimeout.AsDuration() != 30*time.Minute {
					t.Errorf("route has %s and %s", action.Timeout.AsDuration(), action.IdleTimeout.AsDuration())
				}
			}
		})
	}
}

func TestZeroIsAValue(t *testing.T) {
	zero := &resource.Duration{}
	p := proxy(effect.HTTP)
	r := &policy.Rules{ToResources: []policy.ResourceRule{{
		Target: resource.Key{Kind: resource.KindMesh, Name: "m"},
		Conf:   []any{&Conf{IdleTimeout: zero, HTTP: &HTTP{RequestTimeout: zero, StreamIdleTimeout: zero}}},
	}}}
	if err := Apply(p, r); err != nil {
		t.Fatal(err)
	}
	action := p.Outbounds[0].Listener.Chains[0].HCM().GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute()
	if action.Timeout.AsDuration() != 0 || action.IdleTimeout == nil || action.IdleTimeout.AsDuration() != 0 {
		t.Errorf("route has %v and %v, want zeros", action.Timeout, action.IdleTimeout)
	}
	if d := p.Backends[0].Cluster.HTTP.CommonHttpProtocolOptions.IdleTimeout; d == nil || d.AsDuration() != 0 {
		t.Errorf("cluster idle timeout is %v, want zero", d)
	}
}
