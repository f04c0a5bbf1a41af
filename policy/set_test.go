package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// someRoute is a route with a rule for service a and one for the mesh.
type someRoute struct {
	policy.ToSpec[conf]
}

func (*someRoute) Validate(*resource.Meta) []resource.Violation { return nil }

func (*someRoute) RouteRules() []policy.RouteRule {
	return []policy.RouteRule{
		{To: policy.TargetRef{Kind: policy.MeshService, Name: "a"}, Hash: "h1"},
		{To: policy.TargetRef{Kind: policy.Mesh}, Hash: "h2"},
	}
}

func newRoute(name string, ref *policy.TargetRef, labels map[string]string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: "MeshHTTPRoute", Mesh: "m", Name: name}, Labels: labels},
		Spec: &someRoute{policy.ToSpec[conf]{TargetRef: ref}},
	}
}

func TestRouteScoped(t *testing.T) {
	ref := policy.TargetRef{Kind: policy.MeshHTTPRoute, Name: "r"}
	scoped := newPolicy("p", &testSpec{policy.ToFromSpec[conf]{
		TargetRef: &ref, To: []policy.Entry[conf]{{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Default: conf{A: new(1)}}},
	}}, nil)
	general := newPolicy("z", &testSpec{policy.ToFromSpec[conf]{
		To: []policy.Entry[conf]{{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Default: conf{B: new(2)}}},
	}}, nil)
	subset := func(v string) *policy.TargetRef {
		return &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"team": v}}
	}
	for _, tt := range []struct {
		name     string
		routes   []*resource.Resource
		inbounds int // -1 when the policy does not match
		warnings []string
	}{
		{"all inbounds", []*resource.Resource{newRoute("r", nil, nil)}, 2, nil},
		{"the inbounds of the route", []*resource.Resource{newRoute("r", subset("1"), nil)}, 1, nil},
		{"a route of others", []*resource.Resource{newRoute("r", subset("9"), nil)}, -1, nil},
		{"display name", []*resource.Resource{newRoute("r-hash", nil, map[string]string{"kuma.io/display-name": "r"})}, 2, nil},
		{"missing", []*resource.Resource{newRoute("other", nil, nil)}, -1, []string{"couldn't resolve MeshHTTPRoute targetRef with name 'r'"}},
		{
			"renamed",
			[]*resource.Resource{newRoute("r", nil, map[string]string{"kuma.io/display-name": "x"})},
			-1,
			[]string{"couldn't resolve MeshHTTPRoute targetRef with name 'r'"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := policy.NewSet(testKind(), []*resource.Resource{scoped, general}, tt.routes, nil)
			matched, warnings := set.Matched(client(), policy.View{})
			got := -1
			for _, m := range matched {
				if m.Policy == scoped {
					got = len(m.Inbounds)
				}
			}
			if got != tt.inbounds {
				t.Errorf("%d inbounds, want %d", got, tt.inbounds)
			}
			if diff := cmp.Diff(tt.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("rules", func(t *testing.T) {
		set := policy.NewSet(testKind(), []*resource.Resource{scoped, general}, []*resource.Resource{newRoute("r", nil, nil)}, nil)
		matched, _ := set.Matched(client(), policy.View{})
		rules, err := policy.Build(testKind(), client(), matched, someServices())
		if err != nil {
			t.Fatal(err)
		}
		if len(rules.ToResources) != 1 || text(t, rules.ToResources[0].Conf) != `[{"b":2}]` {
			t.Errorf("rules for real services: %s", text(t, rules.ToResources))
		}
		for _, q := range []struct{ service, hash, want string }{
			{"a", "", `{"b":2}`}, {"a", "h1", `{"a":1,"b":2}`}, {"a", "h2", `{"a":1,"b":2}`}, {"b", "h1", `{"b":2}`}, {"b", "h2", `{"a":1,"b":2}`},
		} {
			tags := map[string]string{"kuma.io/service": q.service, policy.RuleMatchesHash: q.hash}
			if got := text(t, rules.ForTags(tags)); got != q.want {
				t.Errorf("service %s, rule %q: %s, want %s", q.service, q.hash, got, q.want)
			}
		}
	})
	t.Run("a route that comes later", func(t *testing.T) {
		before := policy.NewSet(testKind(), []*resource.Resource{scoped, general}, nil, nil)
		set := policy.NewSet(testKind(), []*resource.Resource{scoped, general}, []*resource.Resource{newRoute("r", nil, nil)}, before)
		if matched, warnings := set.Matched(client(), policy.View{}); len(matched) != 2 || warnings != nil {
			t.Errorf("%d policies, warnings %v", len(matched), warnings)
		}
	})
}

func newGateway(name string, tags map[string]string, match ...map[string]string) *resource.Resource {
	spec := &resource.MeshGateway{Tags: tags, Conf: &resource.GatewayConf{Listeners: []resource.GatewayListener{
		{Port: 80, Hostname: "a.example.com", Tags: map[string]string{"port": "http", "host": "a"}},
		{Port: 80, Hostname: "b.example.com", Tags: map[string]string{"port": "http", "host": "b"}},
		{Port: 443, Tags: map[string]string{"port": "https"}},
	}}}
	for _, m := range match {
		spec.Selectors = append(spec.Selectors, resource.Selector{Match: m})
	}
	return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshGateway, Mesh: "m", Name: name}}, Spec: spec}
}

func newBuiltin() *resource.Resource {
	dp := newProxy()
	resource.SpecOf[*resource.Dataplane](dp).Networking.Gateway = &resource.Gateway{
		Type: resource.GatewayBuiltin, Tags: map[string]string{"kuma.io/service": "edge", "zone": "1"},
	}
	return dp
}

func TestBuiltinGateway(t *testing.T) {
	edge := map[string]string{"kuma.io/service": "edge"}
	own := newGateway("own", map[string]string{"vendor": "x"}, edge)
	for _, tt := range []struct {
		name     string
		ref      policy.TargetRef
		gateways []*resource.Resource
		// want are the hosts of the selected listeners, with their port.
		want []string
	}{
		{"mesh", policy.TargetRef{Kind: "Mesh"}, []*resource.Resource{own}, []string{"80 a.example.com", "80 b.example.com", "443 "}},
		{"gateways", policy.TargetRef{Kind: "Mesh", ProxyTypes: []string{"Gateway"}}, []*resource.Resource{own}, []string{"80 a.example.com", "80 b.example.com", "443 "}},
		{"sidecars", policy.TargetRef{Kind: "Mesh", ProxyTypes: []string{"Sidecar"}}, []*resource.Resource{own}, nil},
		{"no MeshGateway", policy.TargetRef{Kind: "Mesh"}, nil, nil},
		{"MeshGateway of others", policy.TargetRef{Kind: "Mesh"}, []*resource.Resource{newGateway("g", nil, map[string]string{"kuma.io/service": "web"})}, nil},
		{"by name", policy.TargetRef{Kind: "MeshGateway", Name: "own"}, []*resource.Resource{own}, []string{"80 a.example.com", "80 b.example.com", "443 "}},
		{"by another name", policy.TargetRef{Kind: "MeshGateway", Name: "other"}, []*resource.Resource{own}, nil},
		{
			"listener tags",
			policy.TargetRef{Kind: "MeshGateway", Name: "own", Tags: map[string]string{"port": "http"}},
			[]*resource.Resource{own},
			[]string{"80 a.example.com", "80 b.example.com"},
		},
		{"tags of all three", policy.TargetRef{Kind: "MeshSubset", Tags: map[string]string{"port": "https", "vendor": "x", "zone": "*"}}, []*resource.Resource{own}, []string{"443 "}},
		{"service", policy.TargetRef{Kind: "MeshService", Name: "edge"}, []*resource.Resource{own}, []string{"80 a.example.com", "80 b.example.com", "443 "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := policy.NewSet(testKind(), []*resource.Resource{named("p", &tt.ref, nil)}, nil, nil)
			var got []string
			matched, _ := set.Matched(newBuiltin(), policy.View{Gateways: tt.gateways})
			for _, m := range matched {
				for _, l := range m.Listeners {
					got = append(got, text(t, l.Port)+" "+l.Hostname)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("listeners (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGatewayOf(t *testing.T) {
	exact, wild, both := map[string]string{"kuma.io/service": "edge"}, map[string]string{"kuma.io/service": "*"}, map[string]string{"kuma.io/service": "edge", "zone": "*"}
	for _, tt := range []struct {
		name     string
		gateways []*resource.Resource
		want     string
	}{
		{"the more exact", []*resource.Resource{newGateway("a", nil, wild), newGateway("b", nil, exact)}, "b"},
		{"the more tags", []*resource.Resource{newGateway("a", nil, exact), newGateway("b", nil, both)}, "b"},
		{"the first by name", []*resource.Resource{newGateway("b", nil, exact), newGateway("a", nil, exact)}, "a"},
		{"one selector of many", []*resource.Resource{newGateway("a", nil, map[string]string{"x": "y"}, exact)}, "a"},
		{"no selector", []*resource.Resource{newGateway("a", nil)}, ""},
	} {
		got := ""
		if g := policy.GatewayOf(newBuiltin(), tt.gateways); g != nil {
			got = g.Name
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	sidecar := newProxy(exact)
	if g := policy.GatewayOf(sidecar, []*resource.Resource{newGateway("a", nil, exact)}); g != nil {
		t.Errorf("a sidecar serves %s", g.Name)
	}
}

// Clients are told apart by port, destinations by listener; of two policies of kind MeshGateway the one with more tags wins.
func TestListenerRules(t *testing.T) {
	edge := newGateway("own", nil, map[string]string{"kuma.io/service": "edge"})
	mesh := policy.TargetRef{Kind: policy.Mesh}
	about := func(name string, tags map[string]string, a int) *resource.Resource {
		ref := policy.TargetRef{Kind: policy.MeshGateway, Name: "own", Tags: tags}
		item := []policy.Entry[conf]{{TargetRef: mesh, Default: conf{A: &a}}}
		return newPolicy(name, &testSpec{policy.ToFromSpec[conf]{TargetRef: &ref, To: item, From: item}}, nil)
	}
	set := policy.NewSet(testKind(), []*resource.Resource{about("all", nil, 1), about("some", map[string]string{"host": "a"}, 2)}, nil, nil)
	matched, _ := set.Matched(newBuiltin(), policy.View{Gateways: []*resource.Resource{edge}})
	rules, err := policy.BuildFrom(testKind(), newBuiltin(), matched)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range rules.Listeners {
		got = append(got, text(t, l.Listener.Port)+" "+l.Listener.Hostname+" from "+text(t, l.From[0].Conf)+" to "+text(t, l.To[0].Conf))
	}
	want := []string{
		`80 a.example.com from {"a":2} to {"a":2}`, `80 b.example.com from {"a":2} to {"a":1}`, `443  from {"a":1} to {"a":1}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
}

func TestNoShadow(t *testing.T) {
	shadow := []*resource.Resource{named("p", nil, map[string]string{"kuma.io/effect": "shadow"})}
	for _, never := range []bool{false, true} {
		kind := testKind()
		kind.NoShadow = never
		matched, _ := policy.NewSet(kind, shadow, nil, nil).Matched(client(), policy.View{Shadow: true})
		if (len(matched) == 0) != never {
			t.Errorf("NoShadow %v: %d policies match", never, len(matched))
		}
	}
}

// Confs for several hostnames make a rule by tags for each of them.
func TestHostnamesMakeRulesByTags(t *testing.T) {
	kind := policy.Kind{Descriptor: &resource.Descriptor{Kind: "Test"}, NewConf: func() any { return &routeConf{} }}
	p := newPolicy("p", &routeSpec{policy.ToSpec[routeConf]{To: []policy.Entry[routeConf]{
		{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Default: routeConf{Hostnames: []string{"a", "b"}}},
	}}}, nil)
	rules, err := policy.BuildTo(kind, policy.Matched(kind, client(), []*resource.Resource{p}, "", false), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, rules.To); len(rules.To) != 2 || text(t, rules.To[0].Conf) != `{"hostnames":["a"]}` || text(t, rules.To[1].Conf) != `{"hostnames":["b"]}` {
		t.Errorf("rules %s", got)
	}
}
