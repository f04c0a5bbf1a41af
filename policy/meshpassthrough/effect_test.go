package meshpassthrough_test

import (
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshpassthrough"
)

func apply(t *testing.T, open bool, conf meshpassthrough.Conf) *effect.Proxy {
	t.Helper()
	p := &effect.Proxy{Env: effect.Env{Transparent: true}}
	for _, ipv6 := range []bool{false, true} {
		p.Passthrough = append(p.Passthrough, effect.NewPassthrough(corev3.TrafficDirection_OUTBOUND, ipv6, 15001, open))
	}
	if err := meshpassthrough.Apply(p, &policy.Rules{Single: &policy.SingleRule{Conf: &conf}}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		mode       string
		open, want bool
	}{
		{meshpassthrough.ModeAll, true, true},
		{meshpassthrough.ModeAll, false, true},
		{meshpassthrough.ModeNone, true, false},
		{meshpassthrough.ModeNone, false, false},
		{meshpassthrough.ModeMatched, true, false},
		{"", true, false},
		{"", false, false},
	} {
		for _, pass := range apply(t, tt.open, meshpassthrough.Conf{PassthroughMode: tt.mode}).Passthrough {
			if got := pass.Cluster != nil; got != tt.want {
				t.Errorf("mode %q on a mesh with passthrough %v: %s lets pass %v", tt.mode, tt.open, pass.Listener.Name, got)
			}
			if len(pass.Listener.Chains) != 1 || len(pass.Listener.ListenerFilters) != 0 {
				t.Errorf("mode %q changes the chains of %s", tt.mode, pass.Listener.Name)
			}
		}
	}
}

// TestContradictions: what several policies say together must not make a listener that Envoy refuses, unless the reference
// makes it too.
func TestContradictions(t *testing.T) {
	port := func(n uint32) *uint32 { return &n }
	match := func(typ, value, protocol string, p *uint32) meshpassthrough.Match {
		return meshpassthrough.Match{Type: typ, Value: value, Protocol: protocol, Port: p}
	}
	const domain, ip, cidr = meshpassthrough.TypeDomain, meshpassthrough.TypeIP, meshpassthrough.TypeCIDR
	for _, tt := range []struct {
		name     string
		matches  []meshpassthrough.Match
		want     string // chains of the listener for IPv4
		warnings int
	}{
		{
			"the later of two protocols for domains wins",
			[]meshpassthrough.Match{
				match(domain, "a.x", "http", port(80)), match(domain, "b.x", "http2", port(80)), match(domain, "c.x", "http", port(81)),
			},
			"meshpassthrough_http_81 meshpassthrough_http2_80", 1,
		},
		{
			"addresses have chains of their own",
			[]meshpassthrough.Match{match(ip, "10.0.0.1", "http", port(80)), match(ip, "10.0.0.2", "grpc", port(80)), match(domain, "a.x", "http2", port(80))},
			"meshpassthrough_http_10.0.0.1_80 meshpassthrough_http2_80 meshpassthrough_grpc_10.0.0.2_80", 0,
		},
		{
			"one address, two protocols",
			[]meshpassthrough.Match{match(ip, "10.0.0.1", "http", port(80)), match(ip, "10.0.0.1", "grpc", port(80)), match(ip, "10.0.0.1", "tcp", port(80))},
			"meshpassthrough_tcp_10.0.0.1_80 meshpassthrough_grpc_10.0.0.1_80", 1,
		},
		{
			"one range, written in two ways",
			[]meshpassthrough.Match{match(cidr, "10.1.2.3/16", "tcp", nil), match(cidr, "10.1.0.0/16", "tcp", nil)},
			"meshpassthrough_tcp_10.1.0.0/16_*", 1,
		},
		{
			"one name, written in two ways",
			[]meshpassthrough.Match{match(domain, "A.x", "tls", port(443)), match(domain, "a.x", "tls", port(443))},
			"meshpassthrough_tls_A.x_443", 0,
		},
		{
			"any port beside the same on one port",
			[]meshpassthrough.Match{match(ip, "10.0.0.1", "tcp", nil), match(ip, "10.0.0.1", "tcp", port(5))},
			"meshpassthrough_tcp_10.0.0.1_5 meshpassthrough_tcp_10.0.0.1_*", 0,
		},
		{
			"without a protocol",
			[]meshpassthrough.Match{match(ip, "10.0.0.1", "", nil), match(ip, "10.0.0.2", "tcp", nil)},
			"meshpassthrough_tcp_10.0.0.2_*", 1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := apply(t, true, meshpassthrough.Conf{AppendMatch: tt.matches})
			var got []string
			for _, c := range p.Passthrough[0].Listener.Chains {
				got = append(got, c.Name)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("chains are %s, want %s", strings.Join(got, " "), tt.want)
			}
			if len(p.Warnings()) != tt.warnings {
				t.Errorf("warnings are %q, want %d", p.Warnings(), tt.warnings)
			}
			clusters := map[string]bool{}
			parts, err := p.BuildAdded()
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range parts {
				name := part.Message.(interface{ GetName() string }).GetName()
				if clusters[name] || part.Origin != effect.OriginPassthrough {
					t.Errorf("cluster %s of %s is there twice or from elsewhere", name, part.Origin)
				}
				clusters[name] = true
			}
			for _, c := range p.Passthrough[0].Listener.Chains {
				if c.HCM() == nil && !slices.Contains([]string{c.Name}, c.TCPProxy().GetCluster()) {
					t.Errorf("chain %s leads to %s", c.Name, c.TCPProxy().GetCluster())
				}
			}
		})
	}
}

// TestOneFamily: a proxy without IPv6 has no cluster that nothing leads to.
func TestOneFamily(t *testing.T) {
	p := &effect.Proxy{Env: effect.Env{Transparent: true}}
	p.Passthrough = append(p.Passthrough, effect.NewPassthrough(corev3.TrafficDirection_OUTBOUND, false, 15001, true))
	conf := &meshpassthrough.Conf{AppendMatch: []meshpassthrough.Match{
		{Type: meshpassthrough.TypeIP, Value: "fd00::1", Protocol: meshpassthrough.ProtocolTCP},
		{Type: meshpassthrough.TypeIP, Value: "10.0.0.1", Protocol: meshpassthrough.ProtocolTCP},
		{Type: meshpassthrough.TypeDomain, Value: "a.x", Protocol: meshpassthrough.ProtocolTLS},
	}}
	if err := meshpassthrough.Apply(p, &policy.Rules{Single: &policy.SingleRule{Conf: conf}}); err != nil {
		t.Fatal(err)
	}
	parts, err := p.BuildAdded()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, part := range parts {
		got = append(got, part.Message.(interface{ GetName() string }).GetName())
	}
	if want := []string{"meshpassthrough_tls_a.x_*", "meshpassthrough_tcp_10.0.0.1_*"}; !slices.Equal(got, want) {
		t.Errorf("clusters are %q, want %q", got, want)
	}
}

// TestAnyPortBesideOne: a proxy that runs must not get two chains for the same connections, as Kuma makes and Envoy refuses.
func TestAnyPortBesideOne(t *testing.T) {
	port := uint32(50051)
	conf := &meshpassthrough.Conf{AppendMatch: []meshpassthrough.Match{
		{Type: meshpassthrough.TypeDomain, Value: "a.x", Protocol: meshpassthrough.ProtocolHTTP},
		{Type: meshpassthrough.TypeDomain, Value: "b.x", Protocol: meshpassthrough.ProtocolGRPC, Port: &port},
		{Type: meshpassthrough.TypeDomain, Value: "c.x", Protocol: meshpassthrough.ProtocolTLS},
		{Type: meshpassthrough.TypeCIDR, Value: "10.0.0.1/32", Protocol: meshpassthrough.ProtocolTCP},
		{Type: meshpassthrough.TypeIP, Value: "10.0.0.1", Protocol: meshpassthrough.ProtocolTCP, Port: &port},
	}}
	const tls, end = "meshpassthrough_tls_c.x_50051 meshpassthrough_tls_c.x_* meshpassthrough_tcp_10.0.0.1_50051 ", "meshpassthrough_grpc_50051"
	for shown, want := range map[bool]string{
		true:  tls + "meshpassthrough_tcp_10.0.0.1/32_50051 meshpassthrough_tcp_10.0.0.1/32_* meshpassthrough_http_50051 meshpassthrough_http_* " + end,
		false: tls + "meshpassthrough_tcp_10.0.0.1/32_* meshpassthrough_http_* " + end,
	} {
		p := &effect.Proxy{Env: effect.Env{Transparent: true, Shown: shown}}
		p.Passthrough = append(p.Passthrough, effect.NewPassthrough(corev3.TrafficDirection_OUTBOUND, false, 15001, true))
		if err := meshpassthrough.Apply(p, &policy.Rules{Single: &policy.SingleRule{Conf: conf}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range p.Passthrough[0].Listener.Chains {
			got = append(got, c.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("shown %v: chains are %q, want %q", shown, got, want)
		}
	}
}
