package older

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

const mesh = `{type: Mesh, name: m, logging: {defaultBackend: f, backends: [{name: f, type: file, conf: {path: /f}}, {name: t, type: tcp, format: '%KUMA_SOURCE_SERVICE% %KUMA_TRAFFIC_DIRECTION%', conf: {address: 'logs:99'}}]},
tracing: {defaultBackend: z, backends: [{name: z, type: zipkin, sampling: 1.5, conf: {url: 'https://z.example.com/api', traceId128bit: true, apiVersion: httpProto, sharedSpanContext: false}}, {name: d, type: datadog, conf: {address: 10.0.0.9, port: 8126, splitService: true}}]}}
`

// read decodes valid resources, each a second younger than the one before.
func read(t *testing.T, text string) []*resource.Resource {
	t.Helper()
	registry := resource.NewRegistry(resource.Core()...)
	var out []*resource.Resource
	for i, doc := range resource.SplitYAML([]byte(text)) {
		r, err := registry.DecodeYAML(doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if faults := resource.Validate(r); len(faults) > 0 {
			t.Fatalf("%s: %v", doc, faults)
		}
		r.CreationTime = time.Unix(int64(i), 0)
		out = append(out, r)
	}
	return out
}

// setOf makes the Set of a mesh with policies.
func setOf(t *testing.T, policies ...string) *Set {
	t.Helper()
	byKind := map[resource.Kind][]*resource.Resource{}
	for _, p := range read(t, strings.Join(policies, "\n---\n")) {
		byKind[p.Kind] = append(byKind[p.Kind], p)
	}
	return NewSet(resource.SpecOf[*resource.Mesh](read(t, mesh)[0]), byKind, "zone-a", nil)
}

// dataplane has an inbound for each set of tags, on ports from 80.
func dataplane(t *testing.T, inbounds ...string) *resource.Resource {
	t.Helper()
	text := "{type: Dataplane, mesh: m, name: d, networking: {address: 10.0.0.1, inbound: ["
	for i, tags := range inbounds {
		text += "{port: " + string(rune('1'+i)) + ", tags: " + tags + "}, "
	}
	return read(t, text+"]}}")[0]
}

// apply lets the effect of a set work on a proxy with its inbounds.
func apply(t *testing.T, s *Set, mode string, dp *resource.Resource) *effect.Proxy {
	t.Helper()
	rules := s.Rules(dp)
	if rules == nil {
		rules = &policy.Rules{Kind: Name}
	}
	meshOf := read(t, mesh)[0]
	p := &effect.Proxy{Env: effect.NewEnv(meshOf, dp, "zone-a")}
	p.MTLSMode, p.WorkDir = mode, "/w"
	for _, in := range resource.SpecOf[*resource.Dataplane](dp).Networking.Inbound {
		p.Inbounds = append(p.Inbounds, effect.NewInbound(p.Env, in))
	}
	p.Outbounds = []*effect.Outbound{
		effect.NewLegacyOutbound(p.Env, "240.0.0.1", 80, map[string]string{resource.TagService: "web"}, effect.HTTP),
		effect.NewLegacyOutbound(p.Env, "240.0.0.2", 80, map[string]string{resource.TagService: "db"}, effect.TCP),
		effect.NewOutbound(p.Env, "241.0.0.1", 80, &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "web"}}}, resource.ServicePort{Port: 80, AppProtocol: "http"}),
	}
	p.Passthrough = []*effect.Passthrough{effect.NewPassthrough(2, false, 15001, true)}
	if err := Apply(p, rules); err != nil {
		t.Fatal(err)
	}
	return p
}

// textOf is a listener as JSON, which must be one that Envoy takes.
func textOf(t *testing.T, l *effect.Listener) string {
	t.Helper()
	m, err := l.Build()
	if err != nil {
		t.Fatal(err)
	}
	effecttest.Check(t, m)
	return jsonOf(t, m)
}

func jsonOf(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.MarshalOptions{Resolver: effect.Types{}}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if b, err = json.Marshal(v); err != nil { // protojson puts blanks at random
		t.Fatal(err)
	}
	return string(b)
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %s in %s", w, text)
		}
	}
}

func permission(name, destination, source string) string {
	return "{type: TrafficPermission, mesh: m, name: " + name + ", sources: [{match: " + source + "}], destinations: [{match: " + destination + "}]}"
}

// TestWhichPermission: that whose destination says most about the inbound, else the newest.
func TestWhichPermission(t *testing.T) {
	const (
		all     = "{kuma.io/service: '*'}"
		service = "{kuma.io/service: a}"
		version = "{kuma.io/service: '*', version: v1}"
		both    = "{kuma.io/service: a, version: v1}"
		zone    = "{kuma.io/service: a, kuma.io/zone: zone-a}"
		some    = "{kuma.io/service: a, version: '*'}"
	)
	for _, tt := range []struct {
		name         string
		destinations []string
		tags         string
		want         string
	}{
		{"one for all", []string{all}, "{kuma.io/service: x}", "p0"},
		{"none", []string{service, version}, "{kuma.io/service: x}", ""},
		{"a service before all", []string{service, all}, "{kuma.io/service: a}", "p0"},
		{"two tags before one", []string{both, service, version, all}, "{kuma.io/service: a, version: v1}", "p0"},
		{"exact before any", []string{service, all, version}, "{kuma.io/service: a, version: v2}", "p0"},
		{"any value is more than none", []string{some, service}, "{kuma.io/service: a, version: v2}", "p0"},
		{"any value wants one", []string{some, all}, "{kuma.io/service: a}", "p1"},
		{"the zone counts", []string{zone, service}, "{kuma.io/service: a}", "p0"},
		{"the newest", []string{service, service}, "{kuma.io/service: a}", "p1"},
		{"as many values, and more tags", []string{version, service}, "{kuma.io/service: a, version: v1}", "p0"},
		{"the newest of different ones", []string{both, zone}, "{kuma.io/service: a, version: v1}", "p1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var policies []string
			for i, d := range tt.destinations {
				policies = append(policies, permission("p"+string(rune('0'+i)), d, all))
			}
			got := ""
			if r := setOf(t, policies...).Rules(dataplane(t, tt.tags)); r != nil {
				got = r.From[0].Rules[0].Conf.(*inboundConf).Permission.Name
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestIgnored: what is ignored is selected by nobody.
func TestIgnored(t *testing.T) {
	dp := read(t, "{type: Dataplane, mesh: m, name: d, networking: {address: 10.0.0.1, inbound: [{port: 1, state: Ignored, tags: {kuma.io/service: a}}]}}")[0]
	all := "{kuma.io/service: '*'}"
	s := setOf(t, permission("p", all, all), "{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: '*'}}]}")
	if r := s.Rules(dp); r != nil {
		t.Errorf("rules are %v", r)
	}
	if Matches(read(t, permission("p", all, all))[0], dp, "zone-a") {
		t.Error("the permission is for the proxy")
	}
}

// TestUnknownBackends: a Mesh that an earlier version stored may hold backends without what they need.
func TestUnknownBackends(t *testing.T) {
	s := setOf(t, "{type: TrafficLog, mesh: m, name: l, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: '*'}}]}",
		"{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: '*'}}]}")
	dp := dataplane(t, "{kuma.io/service: a, kuma.io/protocol: http}")
	for _, logging := range []*resource.LoggingBackend{{}, {Type: resource.LoggingFile}, {Type: resource.LoggingTCP, Conf: &resource.LoggingConf{}}, {Type: "x", Conf: &resource.LoggingConf{Path: "/x"}}} {
		for _, tracing := range []*resource.TracingBackend{{}, {Type: resource.TracingZipkin, Conf: &resource.TracingConf{}}, {Type: resource.TracingDatadog, Conf: &resource.TracingConf{}}, {Type: "x", Conf: &resource.TracingConf{URL: "http://x"}}} {
			own := *s
			own.mesh = &resource.Mesh{Logging: &resource.MeshLogging{Backends: []*resource.LoggingBackend{logging}}, Tracing: &resource.MeshTracing{Backends: []*resource.TracingBackend{tracing}}}
			p := apply(t, &own, "", dp)
			if len(p.Warnings()) != 2 {
				t.Errorf("%v, %v: warnings are %v", logging, tracing, p.Warnings())
			}
			textOf(t, p.Inbounds[0].Listener)
			textOf(t, p.Outbounds[0].Listener)
		}
	}
}

func TestNewSet(t *testing.T) {
	m, other := &resource.Mesh{}, &resource.Mesh{}
	p := read(t, permission("p", "{kuma.io/service: a}", "{kuma.io/service: a}"))
	policies := map[resource.Kind][]*resource.Resource{resource.KindTrafficPermission: p, "MeshTimeout": p}
	if s := NewSet(m, map[resource.Kind][]*resource.Resource{"MeshTimeout": p}, "z", nil); s != nil {
		t.Errorf("set without policies: %v", s)
	}
	s := NewSet(m, policies, "z", nil)
	if again := NewSet(m, policies, "z", s); again != s {
		t.Error("the same is another one")
	}
	for name, next := range map[string]*Set{
		"mesh": NewSet(other, policies, "z", s), "zone": NewSet(m, policies, "y", s), "policies": NewSet(m, map[resource.Kind][]*resource.Resource{resource.KindTrafficPermission: {p[0], p[0]}}, "z", s),
		"kind": NewSet(m, map[resource.Kind][]*resource.Resource{resource.KindTrafficPermission: p, resource.KindTrafficLog: p}, "z", s),
	} {
		if next == s || next == nil {
			t.Errorf("another %s makes no other set", name)
		}
	}
	if NewSet(m, nil, "z", s) != nil {
		t.Error("no policies are left, but a set is")
	}
}

// TestKey: what flows into shared listeners from the proxy or the Mesh is in the key.
func TestKey(t *testing.T) {
	s := setOf(t, "{type: TrafficLog, mesh: m, name: l, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: '*'}}]}",
		"{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: '*'}}]}")
	r := s.Rules(dataplane(t, "{kuma.io/service: a}"))
	base := effect.Env{Mesh: "m", Address: "10.0.0.1", Dataplane: "d", WorkDir: "/w", Tags: map[string][]string{resource.TagService: {"a"}}}
	address, dir, service := base, base, base
	address.Address, dir.WorkDir, service.Tags = "10.0.0.2", "/x", map[string][]string{resource.TagService: {"b"}}
	for name, env := range map[string]effect.Env{"address": address, "work directory": dir, "service": service} {
		if Key(env, r) == Key(base, r) {
			t.Errorf("another %s has the same key", name)
		}
	}
	traced := *r
	traced.Single = &policy.SingleRule{Conf: &resource.TracingBackend{Name: "other"}}
	if Key(base, &traced) == Key(base, r) {
		t.Error("another backend has the same key")
	}
	if key := Key(base, &policy.Rules{From: r.From}); key != "" {
		t.Errorf("inbounds alone have the key %q", key)
	}
}
