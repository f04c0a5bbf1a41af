package effect

import (
	"fmt"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestSourceTags(t *testing.T) {
	dp := &resource.Dataplane{Networking: &resource.Networking{Inbound: []*resource.Inbound{
		{Tags: map[string]string{"app": "web", "kuma.io/protocol": "tcp", "team": "a"}},
		{Tags: map[string]string{"app": "web", "kuma.io/protocol": "http"}},
	}}}
	want := "&app=web&&kuma.io/protocol=http,tcp&&kuma.io/zone=z&&team=a&"
	if got := sourceTags(tagsOf(dp, "z")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	gateway := &resource.Dataplane{Networking: &resource.Networking{Gateway: &resource.Gateway{Tags: map[string]string{"a": "b"}}}}
	if got := sourceTags(tagsOf(gateway, "")); got != "&a=b&" {
		t.Errorf("got %s for a gateway", got)
	}
	if got := sourceTags(tagsOf(&resource.Dataplane{}, "z")); got != "" {
		t.Errorf("got %s for nothing", got)
	}
}

func TestStatName(t *testing.T) {
	for in, want := range map[string]string{
		"localhost:80": "localhost_80", "m_a-b___msvc_80": "m_a-b___msvc_80", "inbound:[fd00::1]:1": "inbound__fd00__1__1", "é": "_",
	} {
		if got := StatName(in); got != want {
			t.Errorf("StatName(%s) = %s, want %s", in, got, want)
		}
	}
}

func service(mesh, name string, labels map[string]string) *resource.Resource {
	return &resource.Resource{Meta: resource.Meta{
		Key: resource.Key{Kind: resource.KindMeshService, Mesh: mesh, Name: name}, Labels: labels,
	}}
}

func TestSNI(t *testing.T) {
	long := "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij"
	for _, tt := range []struct {
		r    *resource.Resource
		want string
	}{
		{service("default", "backend", nil), "a601e0c00295a9fbe.backend.8080.default.ms"},
		{service("default", "frontend", nil), "ac543b9fba24f052c.frontend.8080.default.ms"},
		{
			service("default", "hashed", map[string]string{resource.LabelOrigin: resource.OriginGlobal, resource.LabelDisplayName: "backend"}),
			"a601e0c00295a9fbe.backend.8080.default.ms",
		},
		{service("default", long, nil), "a" + SNI(service("default", long, nil), 1)[1:17] + "." + long[:62] + "x.8080.default.ms"},
	} {
		if got := SNI(tt.r, 8080); got != tt.want {
			t.Errorf("SNI of %s is %s, want %s", tt.r.Name, got, tt.want)
		}
	}
}

func TestCommonProtocol(t *testing.T) {
	for _, tt := range [][3]string{
		{HTTP, HTTP, HTTP},
		{HTTP, GRPC, TCP},
		{HTTP, HTTP2, TCP},
		{GRPC, HTTP2, HTTP2},
		{Kafka, TCP, TCP},
		{"", TCP, ""},
		{"", "", ""},
		{"tls", Kafka, TCP},
	} {
		if got := CommonProtocol(tt[0], tt[1]); got != tt[2] {
			t.Errorf("CommonProtocol(%s, %s) = %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestModes(t *testing.T) {
	in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: HTTP, resource.TagService: "a"}}
	for _, tt := range []struct {
		mode                string
		guarded             bool
		chains, tls, filter int
	}{
		{resource.MTLSStrict, false, 1, 1, 0},
		{resource.MTLSPermissive, false, 3, 1, 1},
		{"", false, 1, 0, 0},
		{resource.MTLSStrict, true, 2, 2, 1},
		{resource.MTLSPermissive, true, 3, 1, 1},
		{"", true, 1, 0, 0},
	} {
		ib := NewInbound(Env{Mesh: "m", Address: "10.0.0.1", MTLSMode: resource.MTLSStrict, Guarded: tt.guarded}, in)
		ib.SetMode(tt.mode)
		if strict := tt.mode == resource.MTLSStrict; ib.Strict() != strict {
			t.Errorf("%s: strict is %t", tt.mode, ib.Strict())
		}
		tls := 0
		for _, c := range ib.Listener.Chains {
			if c.TLS != nil {
				tls++
			}
			if c.HCM() == nil || c.TCPProxy() != nil {
				t.Errorf("%s: a chain of an http inbound has no connection manager", tt.mode)
			}
		}
		if len(ib.Listener.Chains) != tt.chains || tls != tt.tls || len(ib.Listener.ListenerFilters) != tt.filter {
			t.Errorf("%s: %d chains, %d with TLS, %d listener filters", tt.mode, len(ib.Listener.Chains), tls, len(ib.Listener.ListenerFilters))
		}
	}
}

// TestModeKeepsConnections: Envoy keeps the connections of a chain that does not change in a listener of which nothing else
// changes.
func TestModeKeepsConnections(t *testing.T) {
	for _, protocol := range []string{HTTP, GRPC, TCP, Kafka} {
		in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: "a"}}
		build := func(mode string) (member *listenerv3.FilterChain, rest *listenerv3.Listener) {
			l, err := NewInbound(Env{Mesh: "m", Address: "10.0.0.1", MTLSMode: mode, Guarded: true}, in).Listener.Build()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range l.FilterChains {
				if len(c.GetFilterChainMatch().GetApplicationProtocols()) > 0 {
					member = c
				}
			}
			l.FilterChains = nil
			return member, l
		}
		strict, one := build(resource.MTLSStrict)
		permissive, other := build(resource.MTLSPermissive)
		if strict == nil || !proto.Equal(strict, permissive) {
			t.Errorf("%s: the chain of members is %v, then %v", protocol, strict, permissive)
		}
		if !proto.Equal(one, other) {
			t.Errorf("%s: the listener is %v, then %v", protocol, one, other)
		}
	}
}

func TestServiceWithoutTagsIsValid(t *testing.T) {
	ib := NewInbound(Env{Mesh: "m", Address: "10.0.0.1"}, &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: HTTP}})
	l, err := ib.Listener.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ValidateAll(); err != nil {
		t.Error(err)
	}
}

func TestKafkaIsRendered(t *testing.T) {
	a, err := Pack(kafkaBroker("x").Config)
	if err != nil {
		t.Fatal(err)
	}
	l := &listenerv3.Filter{Name: FilterKafka, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: a}}
	b, err := protojson.MarshalOptions{Resolver: Types{}}.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	back := &listenerv3.Filter{}
	if err := (protojson.UnmarshalOptions{Resolver: Types{}}).Unmarshal(b, back); err != nil {
		t.Fatal(err)
	}
	if string(back.GetTypedConfig().Value) != "\n\x01x" {
		t.Errorf("wire form is %q", back.GetTypedConfig().Value)
	}
}

func TestPercent(t *testing.T) {
	for in, want := range map[float64]string{
		0:           "0/HUNDRED",
		12:          "12/HUNDRED",
		100:         "100/HUNDRED",
		2.5:         "250/TEN_THOUSAND",
		0.01:        "1/TEN_THOUSAND",
		4.35:        "43500/MILLION", // 100 of it are 434.99999999999994
		33.333:      "333330/MILLION",
		0.0001:      "1/MILLION",
		0.00001:     "0/MILLION",
		99.99999999: "1000000/MILLION",
	} {
		p := Percent(in)
		if got := fmt.Sprintf("%d/%s", p.Numerator, p.Denominator); got != want {
			t.Errorf("%v%% is %s, want %s", in, got, want)
		}
	}
}

func TestEffective(t *testing.T) {
	if Effective(nil) || Effective(&policy.Rules{}) {
		t.Error("no rules are effective")
	}
	if !Effective(&policy.Rules{To: []policy.SubsetRule{{}}}) || !Effective(&policy.Rules{Single: &policy.SingleRule{}}) {
		t.Error("rules are not effective")
	}
}
