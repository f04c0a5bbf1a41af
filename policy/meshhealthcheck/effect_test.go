package meshhealthcheck

import (
	"encoding/json"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func parse(t testing.TB, text string) *Conf {
	t.Helper()
	c := &Conf{}
	if err := json.Unmarshal([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// applied is a cluster after a conf for its whole mesh.
func applied(t testing.TB, kind resource.Kind, protocol string, conf any, change func(*effect.Backend)) *effect.Cluster {
	t.Helper()
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: "b"}}}
	port := resource.ServicePort{Port: 90, AppProtocol: protocol}
	env := effect.Env{Mesh: "m", SourceTags: "&a=b&"}
	b := effect.NewBackend(env, service, &resource.MeshService{}, nil, port, protocol)
	if change != nil {
		change(b)
	}
	rules := &policy.Rules{ToResources: []policy.ResourceRule{{
		Target: resource.Key{Kind: resource.KindMesh, Name: "m"}, Conf: []any{conf},
	}}}
	if err := Apply(&effect.Proxy{Env: env, Backends: []*effect.Backend{b}}, rules); err != nil {
		t.Fatal(err)
	}
	return b.Cluster
}

func TestCheckOfProtocol(t *testing.T) {
	const all = `{"tcp":{},"http":{},"grpc":{}}`
	for _, tt := range []struct{ protocol, conf, want string }{
		{effect.HTTP, all, "http"},
		{effect.HTTP2, all, "http"},
		{effect.GRPC, all, "grpc"},
		{effect.TCP, all, "tcp"},
		{effect.Kafka, all, ""},
		{"", all, ""},
		{effect.HTTP, `{"tcp":{}}`, ""},
		{effect.GRPC, `{"tcp":{},"http":{}}`, ""},
		{effect.TCP, `{"http":{}}`, ""},
		{effect.HTTP, `{"tcp":{},"http":{"disabled":true}}`, "tcp"},
		{effect.GRPC, `{"tcp":{},"grpc":{"disabled":true}}`, "tcp"},
		{effect.HTTP, `{"tcp":{"disabled":true},"http":{"disabled":true}}`, ""},
		{effect.TCP, `{"tcp":{"disabled":true}}`, ""},
	} {
		checks := applied(t, resource.KindMeshService, tt.protocol, parse(t, tt.conf), nil).HealthChecks
		got := ""
		if len(checks) > 0 {
			switch checks[0].HealthChecker.(type) {
			case *corev3.HealthCheck_HttpHealthCheck_:
				got = "http"
			case *corev3.HealthCheck_GrpcHealthCheck_:
				got = "grpc"
			case *corev3.HealthCheck_TcpHealthCheck_:
				got = "tcp"
			}
		}
		if got != tt.want {
			t.Errorf("%s of a service of protocol %q: check is %q, want %q", tt.conf, tt.protocol, got, tt.want)
		}
	}
}

// TestWhoseCheckItIs: endpoints outside of the mesh are for the egress to check.
func TestWhoseCheckItIs(t *testing.T) {
	conf := parse(t, `{"http":{}}`)
	if n := len(applied(t, resource.KindMeshExternalService, effect.HTTP, conf, nil).HealthChecks); n != 0 {
		t.Errorf("a sidecar checks what is behind the egress %d times", n)
	}
	if n := len(applied(t, resource.KindMeshExternalService, effect.HTTP, conf, func(b *effect.Backend) { b.Egress = true }).HealthChecks); n != 1 {
		t.Errorf("the egress checks %d times", n)
	}
}

// TestRefusedCheckIsLeftOut: what Envoy would refuse must not take the cluster with it.
func TestRefusedCheckIsLeftOut(t *testing.T) {
	c := applied(t, resource.KindMeshService, effect.HTTP, parse(t, `{"http":{"path":"/a\nb"},"healthyPanicThreshold":30}`), nil)
	if len(c.HealthChecks) != 0 {
		t.Errorf("checks are %v", c.HealthChecks)
	}
	if c.CommonLbConfig.HealthyPanicThreshold.Value != 30 {
		t.Errorf("the rest of the policy is lost: %v", c.CommonLbConfig)
	}
	c = applied(t, resource.KindMeshService, effect.HTTP, parse(t, `{"http":{"path":""},"eventLogPath":""}`), nil)
	if h := c.HealthChecks; len(h) != 1 || h[0].GetHttpHealthCheck().Path != "/" || h[0].EventLogger != nil {
		t.Errorf("checks are %v", h)
	}
}

func TestPanic(t *testing.T) {
	weighted := func(b *effect.Backend) {
		b.Cluster.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
			LocalityConfigSpecifier: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
				LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
			},
		}
	}
	conf := parse(t, `{"tcp":{},"failTrafficOnPanic":true,"healthyPanicThreshold":"12.5"}`)
	for name, change := range map[string]func(*effect.Backend){"plain": nil, "weighted": weighted} {
		lb := applied(t, resource.KindMeshService, effect.HTTP, conf, change).CommonLbConfig
		if lb.HealthyPanicThreshold.Value != 12.5 || lb.GetZoneAwareLbConfig().GetFailTrafficOnPanic() != (change == nil) || (lb.GetLocalityWeightedLbConfig() != nil) != (change != nil) {
			t.Errorf("%s: %v", name, lb)
		}
	}
}

func TestTagsAreInTheKey(t *testing.T) {
	c := applied(t, resource.KindMeshService, effect.HTTP, parse(t, `{"http":{}}`), nil)
	if h := c.HealthChecks[0].GetHttpHealthCheck().RequestHeadersToAdd; len(h) != 1 || h[0].Header.Value != "&a=b&" {
		t.Errorf("headers are %v", h)
	}
	if Key(effect.Env{SourceTags: "&a=b&"}, nil) == Key(effect.Env{SourceTags: "&a=c&"}, nil) {
		t.Error("proxies with other tags share checks")
	}
}

// FuzzApply: whatever is accepted gives a cluster that Envoy takes.
func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"interval":"1s","eventLogPath":"/l","http":{"path":"/p","requestHeadersToAdd":{"set":[{"name":"a","value":"1,2"}]},"expectedStatuses":[200]}}}]}`))
	f.Add([]byte(`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"timeout":"1s","intervalJitterPercent":3,"reuseConnection":false,"tcp":{"send":"Zm9v","receive":["YQ==",""]},"grpc":{"authority":"x"}}}]}`))
	policytest.FuzzConf(f, Kind(), "testdata/corpus.json", func(t *testing.T, conf any) {
		for _, protocol := range []string{effect.HTTP, effect.HTTP2, effect.GRPC, effect.TCP} {
			c, err := applied(t, resource.KindMeshService, protocol, conf, nil).Build()
			if err == nil {
				err = effecttest.Refusal(c)
			}
			if err == nil {
				_, err = proto.Marshal(c)
			}
			if err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
	})
}
