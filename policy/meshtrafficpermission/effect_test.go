package meshtrafficpermission

import (
	"testing"

	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func inbound(mode, protocol string) (*effect.Proxy, *resource.Inbound) {
	env := effect.Env{Mesh: "m", MTLSMode: mode, Address: "10.0.0.1"}
	in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: "a"}}
	return &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, in)}}, in
}

func TestRules(t *testing.T) {
	rule := func(action string, m ...policy.Matcher) policy.SubsetRule {
		return policy.SubsetRule{Matchers: m, Conf: &Conf{Action: action}}
	}
	a := policy.Matcher{Key: resource.TagService, Value: "a"}
	notEast := policy.Matcher{Key: "zone", Value: "east", Not: true}
	anyone := `"permissions":[{"any":true}],"principals":`
	serviceA := `{"authenticated":{"principalName":{"exact":"spiffe://m/a"}}}`
	for _, tt := range []struct {
		name  string
		rules []policy.SubsetRule
		want  string
	}{
		{"none denies everybody", nil, `{"rules":{}}`},
		{"deny says nothing", []policy.SubsetRule{rule(Deny)}, `{"rules":{}}`},
		{"an unknown action says nothing", []policy.SubsetRule{rule("Perhaps")}, `{"rules":{}}`},
		{"everybody", []policy.SubsetRule{rule(Allow)}, `{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[{"any":true}]}}}}`},
		{"one tag", []policy.SubsetRule{rule(Allow, a)}, `{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[` + serviceA + `]}}}}`},
		{
			"two tags",
			[]policy.SubsetRule{rule(Allow, a, notEast)},
			`{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[{"andIds":{"ids":[` + serviceA +
				`,{"notId":{"authenticated":{"principalName":{"exact":"kuma://zone/east"}}}}]}}]}}}}`,
		},
		{
			"an earlier deny is excepted",
			[]policy.SubsetRule{rule(Deny, a), rule(Allow, notEast)},
			`{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[{"andIds":{"ids":[` +
				`{"notId":{"authenticated":{"principalName":{"exact":"kuma://zone/east"}}}},{"notId":` + serviceA + `}]}}]}}}}`,
		},
		{
			"a deny of others is not",
			[]policy.SubsetRule{rule(Deny, policy.Matcher{Key: resource.TagService, Value: "b"}), rule(Allow, a)},
			`{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[` + serviceA + `]}}}}`,
		},
		{
			"shadow comes last and is denied in the shadow",
			[]policy.SubsetRule{rule(AllowWithShadowDeny), rule(Allow, a)},
			`{"rules":{"policies":{"MeshTrafficPermission":{` + anyone + `[` + serviceA + `,{"any":true}]}}},` +
				`"shadowRules":{"action":"DENY","policies":{"MeshTrafficPermission":{` + anyone + `[{"any":true}]}}}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, in := inbound(resource.MTLSStrict, effect.HTTP)
			r := &policy.Rules{From: []policy.InboundRules{{Inbound: in, Rules: tt.rules}}}
			if err := Apply(p, r); err != nil {
				t.Fatal(err)
			}
			want := &httprbacv3.RBAC{}
			if err := protojson.Unmarshal([]byte(tt.want), want); err != nil {
				t.Fatal(err)
			}
			f := p.Inbounds[0].Listener.Chains[0].HCM().Filters[0]
			if f.Name != effect.FilterHTTPRBAC || !proto.Equal(f.Config, want) {
				t.Errorf("got %s %v, want %v", f.Name, f.Config, want)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	p, _ := inbound("", effect.HTTP)
	if err := Apply(p, &policy.Rules{}); err != nil {
		t.Fatal(err)
	}
	if n := len(p.Inbounds[0].Listener.Chains[0].HCM().Filters); n != 1 {
		t.Errorf("without mTLS there are %d HTTP filters, want the router alone", n)
	}
	p, _ = inbound(resource.MTLSPermissive, effect.TCP)
	if err := Apply(p, &policy.Rules{}); err != nil {
		t.Fatal(err)
	}
	for i, c := range p.Inbounds[0].Listener.Chains {
		rbac, secured := c.Filters[0].Config.(*networkrbacv3.RBAC)
		if secured != (c.TLS != nil) {
			t.Errorf("chain %d with TLS %v has permission %v", i, c.TLS != nil, secured)
		}
		if secured && rbac.StatPrefix != "inbound_10_0_0_1_80." {
			t.Errorf("stat prefix is %s", rbac.StatPrefix)
		}
	}
}
