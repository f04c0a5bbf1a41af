package meshtrafficpermission

import (
	"fmt"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// matches evaluates a principal as Envoy does, for a client with these URI names.
func matches(p *rbacv3.Principal, uris map[string]bool) bool {
	switch id := p.Identifier.(type) {
	case *rbacv3.Principal_Any:
		return true
	case *rbacv3.Principal_Authenticated_:
		return uris[id.Authenticated.PrincipalName.GetExact()]
	case *rbacv3.Principal_NotId:
		return !matches(id.NotId, uris)
	case *rbacv3.Principal_AndIds:
		for _, i := range id.AndIds.Ids {
			if !matches(i, uris) {
				return false
			}
		}
		return true
	}
	panic(fmt.Sprintf("unexpected principal %T", p.Identifier))
}

// TestEveryClientGetsWhatItsItemsSay compares Envoy's decision with the plain meaning of the policy: the last item that
// selects a client decides.
func TestEveryClientGetsWhatItsItemsSay(t *testing.T) {
	registry := resource.NewRegistry(append(resource.Core(), Kind().Descriptor)...)
	dp := decode(t, registry, "{type: Dataplane, mesh: m, name: d, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: s}}]}}")
	keys := []string{"kuma.io/service", "k", "j"}
	tags := rapid.MapOfN(rapid.SampledFrom(keys), rapid.SampledFrom([]string{"1", "2"}), 0, 2)
	env := effect.Env{Mesh: "m", MTLSMode: resource.MTLSStrict, Address: "10.0.0.1"}
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) item {
			return item{tags.Draw(t, "tags"), rapid.SampledFrom([]string{Allow, Deny}).Draw(t, "action")}
		}), 1, 5).Draw(t, "items")
		p := decode(t, registry, permission(items))
		rules, err := policy.Build(Kind(), dp, policy.Matched(Kind(), dp, []*resource.Resource{p}, "", false), nil)
		if err != nil {
			t.Fatal(err)
		}
		inbound := resource.SpecOf[*resource.Dataplane](dp).Networking.Inbound[0]
		proxy := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, inbound)}}
		if err := Apply(proxy, rules); err != nil {
			t.Fatal(err)
		}
		allow := proxy.Inbounds[0].Listener.Chains[0].Filters[0].Config.(*networkrbacv3.RBAC).Rules
		for _, client := range clients(keys) {
			want := Deny
			for _, i := range items {
				if i.selects(client) {
					want = i.action
				}
			}
			got := Deny
			for _, pr := range allow.Policies[string(Name)].GetPrincipals() {
				if matches(pr, names(client)) {
					got = Allow
				}
			}
			if got != want {
				t.Fatalf("client %v gets %s, want %s from %v", client, got, want, items)
			}
		}
	})
}

type item struct {
	tags   map[string]string
	action string
}

func (i item) selects(client map[string]string) bool {
	for k, v := range i.tags {
		if client[k] != v {
			return false
		}
	}
	return true
}

// clients have each tag with one of two values or not at all.
func clients(keys []string) []map[string]string {
	out := []map[string]string{{}}
	for _, k := range keys {
		for _, c := range out[:len(out):len(out)] {
			for _, v := range []string{"1", "2"} {
				with := map[string]string{k: v}
				for x, y := range c {
					with[x] = y
				}
				out = append(out, with)
			}
		}
	}
	return out
}

// names are the URI names in the certificate of a client.
func names(client map[string]string) map[string]bool {
	out := map[string]bool{}
	for k, v := range client {
		out["kuma://"+k+"/"+v] = true
		if k == resource.TagService {
			out["spiffe://m/"+v] = true
		}
	}
	return out
}

func permission(items []item) string {
	var b strings.Builder
	b.WriteString("{type: MeshTrafficPermission, mesh: m, name: p, spec: {from: [")
	for _, i := range items {
		ref := "kind: Mesh"
		if len(i.tags) > 0 {
			var pairs []string
			for k, v := range i.tags {
				pairs = append(pairs, fmt.Sprintf("%q: %q", k, v))
			}
			ref = "kind: MeshSubset, tags: {" + strings.Join(pairs, ", ") + "}"
		}
		fmt.Fprintf(&b, "{targetRef: {%s}, default: {action: %s}}, ", ref, i.action)
	}
	b.WriteString("]}}")
	return b.String()
}

func decode(t interface{ Fatal(args ...any) }, registry *resource.Registry, yaml string) *resource.Resource {
	r, err := registry.DecodeYAML([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
