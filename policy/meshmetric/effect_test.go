package meshmetric

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
)

// apply returns what a conf adds, by name.
func apply(t *testing.T, env effect.Env, conf string) (map[string]*listenerv3.Listener, map[string]*clusterv3.Cluster) {
	t.Helper()
	c := &Conf{}
	if err := json.Unmarshal([]byte(conf), c); err != nil {
		t.Fatal(err)
	}
	p := &effect.Proxy{Env: env}
	if err := Apply(p, &policy.Rules{Single: &policy.SingleRule{Conf: c}}); err != nil {
		t.Fatal(err)
	}
	parts, err := p.BuildAdded()
	if err != nil {
		t.Fatal(err)
	}
	listeners, clusters := map[string]*listenerv3.Listener{}, map[string]*clusterv3.Cluster{}
	for _, part := range parts {
		switch m := part.Message.(type) {
		case *listenerv3.Listener:
			listeners[m.Name] = m
			effecttest.Check(t, m)
		case *clusterv3.Cluster:
			clusters[m.Name] = m
			effecttest.Check(t, m)
		}
	}
	return listeners, clusters
}

// TestProvidedTLS compares with the listener of a proxy that has a certificate for metrics, as captured.
func TestProvidedTLS(t *testing.T) {
	env := effect.Env{Mesh: "m", Address: "10.233.7.2", IPv6: true, MetricsCert: "CERTDIR/mc.pem", MetricsKey: "CERTDIR/mk.pem"}
	listeners, _ := apply(t, env, `{"backends":[{"type":"Prometheus","prometheus":{"port":5670,"path":"/metrics","tls":{"mode":"ProvidedTLS"}}}]}`)
	const manager = `"filters":[{"name":"envoy.filters.network.http_connection_manager","typedConfig":{` +
		`"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",` +
		`"httpFilters":[{"name":"envoy.filters.http.router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],` +
		`"internalAddressConfig":{"cidrRanges":[{"addressPrefix":"127.0.0.1","prefixLen":32},{"addressPrefix":"::1","prefixLen":128}]},` +
		`"routeConfig":{"validateClusters":false,"virtualHosts":[{"domains":["*"],"name":"_kuma:metrics:prometheus:default-backend",` +
		`"routes":[{"match":{"prefix":"/metrics"},"route":{"cluster":"_kuma:metrics:hijacker","prefixRewrite":"/meshmetric"}}]}]},` +
		`"statPrefix":"_kuma_metrics_prometheus_default-backend"}}]`
	const want = `{"address":{"socketAddress":{"address":"10.233.7.2","portValue":5670}},"enableReusePort":false,"filterChains":[` +
		`{"filterChainMatch":{"transportProtocol":"tls"},` + manager + `},` +
		`{` + manager + `,"transportSocket":{"name":"envoy.transport_sockets.tls","typedConfig":{` +
		`"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","commonTlsContext":{"tlsCertificates":[` +
		`{"certificateChain":{"filename":"CERTDIR/mc.pem"},"privateKey":{"filename":"CERTDIR/mk.pem"}}]}}}}],` +
		`"name":"_kuma:metrics:prometheus:default-backend","trafficDirection":"INBOUND"}`
	b, err := protojson.Marshal(listeners["_kuma:metrics:prometheus:default-backend"])
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := errors.Join(json.Unmarshal(b, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(w, g); diff != "" {
		t.Errorf("listener differs (-captured +ours):\n%s", diff)
	}
}

func TestDynamicConfiguration(t *testing.T) {
	env := effect.Env{Mesh: "m", Dataplane: "d", Address: "10.0.0.1", WorkDir: "/run", Tags: map[string][]string{
		"a.b": {"1", "2"}, "a/b": {"3"}, "kuma.io/service": {"x"},
	}}
	const labels = `"extraLabels":{"a_b":"3","a_bs":",3,","kuma_io_service":"x","kuma_io_services":",x,"}}}}`
	for _, tt := range []struct{ name, conf, want string }{
		{
			"a backend without a host counts for nothing", `{"backends":[{"type":"OpenTelemetry","openTelemetry":{"endpoint":":1"}},{"type":"OpenTelemetry","openTelemetry":{"endpoint":"h:1","refreshInterval":"90s"}}]}`,
			`{"observability":{"metrics":{"applications":null,"backends":[{"type":"OpenTelemetry","name":"h-1","openTelemetry":{"endpoint":"/run/kuma-otel-h-1.sock","refreshInterval":"1m30s"}}],` + labels,
		},
		{
			"empty lists stay", `{"sidecar":{"profiles":{"appendProfiles":[],"exclude":[{"type":"Exact","match":"<"}]},"includeUnused":false},"backends":[{"type":"Prometheus","prometheus":{"port":1,"path":"/"}}]}`,
			`{"observability":{"metrics":{"applications":null,"backends":[{"type":"Prometheus","name":null}],"sidecar":{"profiles":{"appendProfiles":[],"exclude":[{"type":"Exact","match":"\u003c"}]},"includeUnused":false},` + labels,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listeners, clusters := apply(t, env, tt.conf)
			h, err := listeners[dynamicConfig].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			b, err := protojson.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			quoted, err := json.Marshal(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.ReplaceAll(string(b), " ", ""), strings.ReplaceAll(string(quoted), " ", "")) {
				t.Errorf("got %s, want %s", b, quoted)
			}
			for name := range clusters {
				if strings.HasPrefix(name, openTelemetryPrefix) && name != openTelemetryPrefix+"h-1" {
					t.Errorf("cluster %s", name)
				}
			}
		})
	}
}

func TestNothing(t *testing.T) {
	for _, conf := range []string{`{}`, `{"backends":[]}`, `{"applications":[{"port":1}]}`} {
		if listeners, clusters := apply(t, effect.Env{}, conf); len(listeners)+len(clusters) > 0 {
			t.Errorf("%s adds %v, %v", conf, listeners, clusters)
		}
	}
}

// TestTwoServersOnOnePort: Envoy refuses the second listener; Kuma says nothing.
func TestTwoServersOnOnePort(t *testing.T) {
	for conf, want := range map[string]int{
		`{"port":5670,"path":"/m"}|{"clientId":"b","port":5670,"path":"/m"}`:                                                1,
		`{"port":5670,"path":"/m"}|{"clientId":"b","port":5671,"path":"/m"}`:                                                0,
		`{"port":5670,"path":"/m"}|{"port":5670,"path":"/n"}`:                                                               0, // one listener
		`{"clientId":"a","port":1,"path":"/m"}|{"clientId":"a","port":2,"path":"/m"}|{"clientId":"b","port":1,"path":"/m"}`: 0,
	} {
		c := &Conf{}
		for backend := range strings.SplitSeq(conf, "|") {
			b := Backend{Type: BackendPrometheus, Prometheus: &Prometheus{}}
			if err := json.Unmarshal([]byte(backend), b.Prometheus); err != nil {
				t.Fatal(err)
			}
			c.Backends = append(c.Backends, b)
		}
		p := &effect.Proxy{}
		if err := Apply(p, &policy.Rules{Single: &policy.SingleRule{Conf: c}}); err != nil {
			t.Fatal(err)
		}
		if got := len(p.Warnings()); got != want {
			t.Errorf("%s: warnings %q, want %d", conf, p.Warnings(), want)
		}
	}
}
