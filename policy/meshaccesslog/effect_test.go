package meshaccesslog

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func env() effect.Env {
	return effect.Env{
		Mesh: "m", Address: "10.0.0.1", Dataplane: "d", WorkDir: "/run", Transparent: true, MTLSMode: resource.MTLSPermissive,
		Tags: map[string][]string{resource.TagService: {"a", "b"}},
	}
}

func same(t *testing.T, got proto.Message, want string) {
	t.Helper()
	b, err := protojson.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := errors.Join(json.Unmarshal(b, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(w, g); diff != "" {
		t.Errorf("differs (-want +got):\n%s", diff)
	}
}

func TestLoggers(t *testing.T) {
	r := effect.Traffic{Source: "src", Destination: "dst", Direction: effect.Outgoing}.Placeholders(env())
	const body, rest = `"body":`, `,"attributes":{},"commonConfig":{"grpcService":{"envoyGrpc":{"clusterName":"meshaccesslog:opentelemetry:0"}},` +
		`"logName":"MeshAccessLog","transportApiVersion":"V3"}}`
	for _, tt := range []struct{ name, backend, want string }{
		{
			"every name", `{"type":"File","file":{"path":"/x","format":{"type":"Plain","plain":"%KUMA_SOURCE_ADDRESS% %KUMA_SOURCE_ADDRESS_WITHOUT_PORT% %KUMA_SOURCE_SERVICE% ` +
				`%KUMA_DESTINATION_SERVICE% %KUMA_MESH% %KUMA_TRAFFIC_DIRECTION% %PROTOCOL%"}}}`,
			`{"path":"/x","logFormat":{"textFormatSource":{"inlineString":"10.0.0.1:0 10.0.0.1 src dst m OUTBOUND %PROTOCOL%\n"}}}`,
		},
		{"standard", `{"type":"File","file":{"path":"/x"}}`, `{"path":"/x","logFormat":{"textFormatSource":{"inlineString":"standard m\n"}}}`},
		{
			"escapes", `{"type":"File","file":{"path":"/x","format":{"type":"Json","json":[{"key":"k\\\"","value":"a\\nb"},{"key":"n","value":"1\",\"more\":\"2"}],"omitEmptyValues":true}}}`,
			`{"path":"/x","logFormat":{"omitEmptyValues":true,"jsonFormat":{"k\"":"a\nb","n":"1","more":"2"}}}`,
		},
		{
			"pipe", `{"type":"Tcp","tcp":{"address":"h:1","format":{"type":"Json","json":[{"key":"k","value":"%KUMA_MESH%"}]}}}`,
			`{"path":"/run/kuma-al-d-m.sock","logFormat":{"jsonFormat":{"address":"h:1","message":{"k":"m"}}}}`,
		},
		{"no body", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h"}}`, `{` + body + `{"stringValue":"standard m"}` + rest},
		{"null", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":null}}`, `{` + body + `{"stringValue":"standard m"}` + rest},
		{"no value", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":{"what":1}}}`, `{` + body + `{"stringValue":"standard m"}` + rest},
		{"text", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":"x %KUMA_MESH%"}}`, `{` + body + `{"stringValue":"\"x m\""}` + rest},
		{"list", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":[1, 2]}}`, `{` + body + `{"stringValue":"[1,2]"}` + rest},
		{"wrong value", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":{"stringValue": 5}}}`, `{` + body + `{"stringValue":"{\"stringValue\":5}"}` + rest},
		{
			"nested", `{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h","body":{"arrayValue":{"values":[{"kvlistValue":{"values":[{"key":"%KUMA_MESH%","value":{"stringValue":"%KUMA_MESH%"}},{"key":"n"}]}}]}}}}`,
			`{` + body + `{"arrayValue":{"values":[{"kvlistValue":{"values":[{"key":"m","value":{"stringValue":"m"}},{"key":"n"}]}}]}}` + rest,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b Backend
			if err := json.Unmarshal([]byte(tt.backend), &b); err != nil {
				t.Fatal(err)
			}
			var clusters []string
			l := &loggers{env: env(), collectors: map[collector]string{}, add: func(c *effect.Cluster) { clusters = append(clusters, c.Name) }}
			l.refused, l.warn = map[string]bool{}, func(string, ...any) {}
			got, err := l.logger(b, "standard %KUMA_MESH%", r)
			if err != nil {
				t.Fatal(err)
			}
			config, err := got.GetTypedConfig().UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			same(t, config, tt.want)
			if (len(clusters) == 1) != (b.Type == BackendOpenTelemetry) {
				t.Errorf("clusters %v", clusters)
			}
		})
	}
	t.Run("attributes", func(t *testing.T) {
		o := &OpenTelemetry{Attributes: []KeyValue{{"k", "%KUMA_MESH%"}}}
		for connected, want := range map[bool]string{true: "m", false: "%KUMA_MESH%"} {
			if got := o.config("c", "x", r, connected).Attributes.Values[0].Value.GetStringValue(); got != want {
				t.Errorf("connected %t: %s", connected, got)
			}
		}
	})
	t.Run("no host", func(t *testing.T) {
		l := &loggers{env: env(), collectors: map[collector]string{}, add: func(c *effect.Cluster) { t.Errorf("cluster %s", c.Name) }}
		warned := 0
		l.refused, l.warn = map[string]bool{}, func(string, ...any) { warned++ }
		for range 2 {
			if got, err := l.logger(Backend{Type: BackendOpenTelemetry, OpenTelemetry: &OpenTelemetry{Endpoint: ":4317"}}, "x", r); got != nil || err != nil || warned != 1 {
				t.Errorf("got %v, %v, warned %d times", got, err, warned)
			}
		}
	})
}

// TestUnloggable: Envoy fills in texts only, and refuses a listener with another value.
func TestUnloggable(t *testing.T) {
	for body, want := range map[string]int{
		`null`:                0,
		`"text"`:              0,
		`7`:                   0, // becomes a text
		`{"stringValue":"x"}`: 0,
		`{"intValue":"7"}`:    1,
		`{"boolValue":true}`:  1,
		`{"arrayValue":{"values":[{"stringValue":"x"}]}}`:                        0,
		`{"arrayValue":{"values":[{"stringValue":"x"},{"doubleValue":1.5}]}}`:    1,
		`{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"x"}}]}}`:   0,
		`{"kvlistValue":{"values":[{"key":"k","value":{"arrayValue":{}}}]}}`:     0,
		`{"kvlistValue":{"values":[{"key":"k"}]}}`:                               1,
		`{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"eA=="}}]}}`: 1,
	} {
		warned := 0
		l := &loggers{
			env: env(), collectors: map[collector]string{}, add: func(*effect.Cluster) {},
			refused: map[string]bool{}, warn: func(string, ...any) { warned++ },
		}
		b := Backend{Type: BackendOpenTelemetry, OpenTelemetry: &OpenTelemetry{Endpoint: "h", Body: []byte(body)}}
		for range 2 {
			if got, err := l.logger(b, "standard", effect.Traffic{}.Placeholders(env())); got == nil || err != nil || warned != want {
				t.Errorf("%s: got %v, %v, warned %d times, want %d", body, got, err, warned, want)
			}
		}
	}
}

// TestChains logs every chain of an inbound, and in the form of its protocol.
func TestChains(t *testing.T) {
	for protocol, want := range map[string]string{effect.HTTP: "%REQ(:METHOD)%", effect.TCP: "took %DURATION%ms", effect.Kafka: "took %DURATION%ms"} {
		in := effect.NewInbound(env(), &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol}})
		conf := &Conf{Backends: []Backend{{Type: BackendFile, File: &File{Path: "/1"}}, {Type: BackendFile, File: &File{Path: "/2"}}}}
		r := &policy.Rules{From: []policy.InboundRules{{Inbound: in.Resource, Rules: []policy.SubsetRule{{Conf: conf}}}}}
		if err := Apply(&effect.Proxy{Env: env(), Inbounds: []*effect.Inbound{in}}, r); err != nil {
			t.Fatal(err)
		}
		for i, c := range in.Listener.Chains {
			logs := c.TCPProxy().GetAccessLog()
			if h := c.HCM(); h != nil {
				logs = h.AccessLog
			}
			if len(logs) != 2 || !strings.Contains(string(logs[1].GetTypedConfig().Value), want) || !strings.Contains(string(logs[1].GetTypedConfig().Value), "/2") {
				t.Errorf("%s: chain %d logs %v", protocol, i, logs)
			}
		}
	}
}

// TestDestination: a service of another zone is called as its people call it, not by its stored name.
func TestDestination(t *testing.T) {
	s := &resource.Resource{Meta: resource.Meta{
		Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "back-x2v4"}, Labels: map[string]string{resource.LabelDisplayName: "back"},
	}}
	out := effect.NewOutbound(env(), "241.0.0.1", 80, s, resource.ServicePort{Port: 80, AppProtocol: effect.TCP})
	conf := &Conf{Backends: []Backend{{Type: BackendFile, File: &File{Path: "/1", Format: &Format{Type: FormatPlain, Plain: new("to %KUMA_DESTINATION_SERVICE%")}}}}}
	r := &policy.Rules{ToResources: []policy.ResourceRule{{Target: s.Key, Conf: []any{conf}}}}
	if err := Apply(&effect.Proxy{Env: env(), Outbounds: []*effect.Outbound{out}}, r); err != nil {
		t.Fatal(err)
	}
	if logs := out.Listener.Chains[0].TCPProxy().GetAccessLog(); len(logs) != 1 || !strings.Contains(string(logs[0].GetTypedConfig().Value), "to back\n") {
		t.Errorf("logs are %v", logs)
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"kvlistValue":{"values":[{"key":"%KUMA_MESH%","value":{"bytesValue":"YQ=="}}]}}`))
	f.Add([]byte(`"x"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := (&OpenTelemetry{Body: body}).body("standard", effect.Traffic{}.Placeholders(env()))
		if v.GetValue() == nil {
			t.Error("no value")
		}
	})
}

// TestPlaceholders compares with the library, which does the same slower.
func TestPlaceholders(t *testing.T) {
	names := effect.Traffic{Source: "src", Destination: "%KUMA_MESH%", Direction: effect.Incoming}.Placeholders(env())
	var pairs []string
	for name, value := range names {
		pairs = append(pairs, name, value)
	}
	library := strings.NewReplacer(pairs...)
	word := rapid.SampledFrom([]string{
		"%", "%KUMA_", "KUMA_MESH", "MESH%", "%KUMA_MESH%", "%KUMA_SOURCE_ADDRESS", "_WITHOUT_PORT%", "%KUMA_SOURCE_SERVICE%", "x", "%KUMA_DESTINATION_SERVICE%",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(word).Draw(t, "words"), "")
		if got, want := names.Replace(text), library.Replace(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	})
}
