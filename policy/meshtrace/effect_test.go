package meshtrace

import (
	"encoding/json"
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func rules(t *testing.T, conf string) *policy.Rules {
	t.Helper()
	c := &Conf{}
	if err := json.Unmarshal([]byte(conf), c); err != nil {
		t.Fatal(err)
	}
	return &policy.Rules{Single: &policy.SingleRule{Conf: c}}
}

func proxy() *effect.Proxy {
	env := effect.Env{Mesh: "m", Address: "10.0.0.1", Tags: map[string][]string{resource.TagService: {"a"}}, MTLSMode: resource.MTLSPermissive}
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "b"}}}
	inbound := func(protocol string, port uint32) *effect.Inbound {
		return effect.NewInbound(env, &resource.Inbound{Port: port, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: "a"}})
	}
	return &effect.Proxy{
		Env: env, Inbounds: []*effect.Inbound{inbound(effect.GRPC, 80), inbound(effect.TCP, 81)},
		Outbounds: []*effect.Outbound{
			effect.NewOutbound(env, "241.0.0.1", 90, service, resource.ServicePort{Port: 90, AppProtocol: effect.HTTP}),
			effect.NewLegacyOutbound(env, "240.0.0.1", 80, map[string]string{resource.TagService: "b"}, effect.HTTP),
			effect.NewLegacyOutbound(env, "240.0.0.2", 80, map[string]string{resource.TagService: "c"}, effect.TCP),
		},
	}
}

// TestWhere asks which listeners make spans, and under which name.
func TestWhere(t *testing.T) {
	p := proxy()
	if err := Apply(p, rules(t, `{"backends":[{"type":"Datadog","datadog":{"url":"http://h:1","splitService":true}}]}`)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	add := func(l *effect.Listener) {
		for _, c := range l.Chains {
			if h := c.HCM(); h != nil && h.Tracing != nil {
				m, err := h.Tracing.Provider.GetTypedConfig().UnmarshalNew()
				if err != nil {
					t.Fatal(err)
				}
				got[l.Name] += m.(interface{ GetServiceName() string }).GetServiceName() + " "
			}
		}
	}
	for _, in := range p.Inbounds {
		add(in.Listener)
	}
	for _, out := range p.Outbounds {
		add(out.Listener)
	}
	want := map[string]string{"inbound:10.0.0.1:80": "a_INBOUND a_INBOUND a_INBOUND ", "outbound:240.0.0.1:80": "a_OUTBOUND_b "}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// TestSecuredCollector: what is encrypted names the server, but for one that has only an address.
func TestSecuredCollector(t *testing.T) {
	for url, want := range map[string]string{
		"https://zipkin.example:9443/a": "zipkin.example", "https://10.0.0.7:9443/a": "", "https://[fd00::7]:9443/a": "",
	} {
		b := (&Zipkin{URL: url}).backend()
		if len(b.Cluster.TLSMatches) != 1 || b.Cluster.TLSMatches[0].TLS.Sni != want {
			t.Errorf("%s: %v, want the server name %q", url, b.Cluster.TLSMatches, want)
		}
	}
}

func TestTracing(t *testing.T) {
	const zipkin = `"provider":{"name":"envoy.tracers.zipkin","typedConfig":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",` +
		`"collectorCluster":"meshtrace:zipkin","collectorEndpoint":"/","collectorHostname":"h:1","collectorEndpointVersion":"HTTP_JSON"}},"spawnUpstreamSpan":false`
	for _, tt := range []struct{ name, conf, want string }{
		{"no path", `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:1"}}]}`, `{` + zipkin + `}`},
		{
			"tags", `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:1"}}],"tags":[{"name":"a","literal":""},{"name":"b","literal":"x"},{"name":"c","header":{"name":"h"}}]}`,
			`{` + zipkin + `,"customTags":[{"tag":"b","literal":{"value":"x"}},{"tag":"c","requestHeader":{"name":"h"}}]}`,
		},
		{
			"sampling", `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:1"}}],"sampling":{"overall":"12.5","client":0}}`,
			`{` + zipkin + `,"overallSampling":{"value":12.5},"clientSampling":{}}`,
		},
		{"no backend", `{"backends":[],"sampling":{"overall":1}}`, ""},
		{"no host", `{"backends":[{"type":"OpenTelemetry","openTelemetry":{"endpoint":":4317"}}]}`, ""},
		{"nothing", `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := proxy()
			if err := Apply(p, rules(t, tt.conf)); err != nil {
				t.Fatal(err)
			}
			parts, err := p.BuildAdded()
			if err != nil {
				t.Fatal(err)
			}
			tracing := p.Inbounds[0].Listener.Chains[0].HCM().Tracing
			if tt.want == "" {
				if tracing != nil || len(parts) > 0 {
					t.Errorf("traces with %v, %v", tracing, parts)
				}
				return
			}
			effecttest.Check(t, tracing)
			b, err := protojson.Marshal(tracing)
			if err != nil {
				t.Fatal(err)
			}
			var g, w any
			if err := errors.Join(json.Unmarshal(b, &g), json.Unmarshal([]byte(tt.want), &w)); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(w, g); diff != "" {
				t.Errorf("tracing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKey(t *testing.T) {
	a := Key(effect.Env{}, rules(t, `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:1"}}]}`))
	if a == Key(effect.Env{}, rules(t, `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:2"}}]}`)) {
		t.Error("two confs have one key")
	}
	if a == Key(proxy().Env, rules(t, `{"backends":[{"type":"Zipkin","zipkin":{"url":"http://h:1"}}]}`)) {
		t.Error("two services have one key")
	}
}
