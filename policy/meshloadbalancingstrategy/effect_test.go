package meshloadbalancingstrategy

import (
	"encoding/json"
	"strconv"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

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

// forMesh are rules with one conf for everything.
func forMesh(conf any) *policy.Rules {
	return &policy.Rules{ToResources: []policy.ResourceRule{{
		Target: resource.Key{Kind: resource.KindMesh, Name: "m"}, Conf: []any{conf},
	}}, To: []policy.SubsetRule{{Conf: conf}}}
}

// proxy has one outbound of HTTP, whose second route redirects, with its cluster.
func proxy(kind resource.Kind, egress bool) *effect.Proxy {
	env := effect.Env{Mesh: "m"}
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: "b"}}}
	port := resource.ServicePort{Port: 90, AppProtocol: effect.HTTP}
	out := effect.NewOutbound(env, "241.0.0.1", 90, service, port)
	b := effect.NewBackend(env, service, &resource.MeshService{}, nil, port, effect.HTTP)
	out.Egress, b.Egress = egress, egress
	host := out.Listener.Chains[0].HCM().GetRouteConfig().VirtualHosts[0]
	host.Routes = append(host.Routes, &routev3.Route{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/go"}},
		Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{}},
	})
	return &effect.Proxy{Env: env, Outbounds: []*effect.Outbound{out}, Backends: []*effect.Backend{b}}
}

func applied(t testing.TB, p *effect.Proxy, conf any) (*effect.Cluster, []*routev3.RouteAction_HashPolicy) {
	t.Helper()
	if err := Apply(p, forMesh(conf)); err != nil {
		t.Fatal(err)
	}
	routes := p.Outbounds[0].Listener.Chains[0].HCM().GetRouteConfig().VirtualHosts[0].Routes
	return p.Backends[0].Cluster, routes[0].GetRoute().HashPolicy
}

func TestHash(t *testing.T) {
	for _, tt := range []struct {
		name, conf string
		want       []*routev3.RouteAction_HashPolicy
	}{
		{"no policies", `{"type":"RingHash","ringHash":{}}`, nil},
		{"of another algorithm", `{"type":"Random","ringHash":{"hashPolicies":[{"type":"Header","header":{"name":"a"}}]}}`, nil},
		{"a member that is not there", `{"type":"Maglev","maglev":{"hashPolicies":[{"type":"Header"}]}}`, nil},
		{"what Envoy refuses", `{"type":"Maglev","maglev":{"hashPolicies":[{"type":"Header","header":{"name":"a\nb"}}]}}`, nil},
		{"address of the client", `{"type":"RingHash","ringHash":{"hashPolicies":[{"type":"SourceIP"}]}}`, []*routev3.RouteAction_HashPolicy{{
			PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true}},
		}}},
		{"all others", `{"type":"Maglev","maglev":{"hashPolicies":[{"type":"Header","terminal":true,"header":{"name":"h"}},
			{"type":"Cookie","cookie":{"name":"c","ttl":"5s","path":"/p"}},{"type":"QueryParameter","queryParameter":{"name":"q"}},
			{"type":"FilterState","filterState":{"key":"f"}},{"type":"Connection","connection":{"sourceIP":false}}]}}`, []*routev3.RouteAction_HashPolicy{
			{Terminal: true, PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: "h"}}},
			{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: "c", Ttl: durationpb.New(5e9), Path: "/p"}}},
			{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: "q"}}},
			{PolicySpecifier: &routev3.RouteAction_HashPolicy_FilterState_{FilterState: &routev3.RouteAction_HashPolicy_FilterState{Key: "f"}}},
			{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{}}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, got := applied(t, proxy(resource.KindMeshService, false), parse(t, `{"loadBalancer":`+tt.conf+`}`))
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for i := range got {
				if got[i].String() != tt.want[i].String() {
					t.Errorf("got %v, want %v", got[i], tt.want[i])
				}
			}
		})
	}
}

// TestSizes: what Envoy refuses is shown as Kuma shows it, and a proxy gets something that works.
func TestSizes(t *testing.T) {
	type ring struct{ min, max uint64 }
	for _, tt := range []struct {
		conf        string
		shown, told ring
	}{
		{`{}`, ring{}, ring{}},
		{`{"minRingSize":7}`, ring{7, 0}, ring{7, 0}},
		{`{"minRingSize":10,"maxRingSize":20}`, ring{10, 20}, ring{10, 20}},
		{`{"maxRingSize":2000}`, ring{0, 2000}, ring{0, 2000}},
		{`{"maxRingSize":100}`, ring{0, 100}, ring{100, 100}},
		{`{"minRingSize":500,"maxRingSize":100}`, ring{500, 100}, ring{100, 100}},
	} {
		for _, shown := range []bool{true, false} {
			p, want := proxy(resource.KindMeshService, false), tt.told
			if p.Shown = shown; shown {
				want = tt.shown
			}
			conf := parse(t, `{"loadBalancer":{"type":"RingHash","ringHash":`+tt.conf+`}}`)
			c, _ := applied(t, p, conf)
			r := c.GetRingHashLbConfig()
			if got := (ring{r.GetMinimumRingSize().GetValue(), r.GetMaximumRingSize().GetValue()}); got != want {
				t.Errorf("%s, shown %v: ring is %v, want %v", tt.conf, shown, got, want)
			}
			if got := Key(p.Env, forMesh(conf)); got != strconv.FormatBool(shown && tt.shown != tt.told) {
				t.Errorf("%s, shown %v: key is %s", tt.conf, shown, got)
			}
		}
	}
	for size, told := range map[string]uint64{"101": 101, "100": 0} {
		for _, shown := range []bool{true, false} {
			p, want := proxy(resource.KindMeshService, false), told
			if p.Shown = shown; shown {
				want, _ = strconv.ParseUint(size, 10, 64)
			}
			conf := parse(t, `{"loadBalancer":{"type":"Maglev","maglev":{"tableSize":`+size+`}}}`)
			c, _ := applied(t, p, conf)
			if got := c.GetMaglevLbConfig().GetTableSize().GetValue(); got != want || c.LbPolicy != clusterv3.Cluster_MAGLEV {
				t.Errorf("table of %s, shown %v, is %d with %s, want %d", size, shown, got, c.LbPolicy, want)
			}
			if got := Key(p.Env, forMesh(conf)); got != strconv.FormatBool(shown && told == 0) {
				t.Errorf("%s, shown %v: key is %s", size, shown, got)
			}
		}
	}
}

// TestWhoseChoiceItIs: among endpoints outside of the mesh the egress chooses, and it knows no zones.
func TestWhoseChoiceItIs(t *testing.T) {
	conf := parse(t, `{"loadBalancer":{"type":"RingHash","ringHash":{"hashPolicies":[{"type":"Header","header":{"name":"a"}}]}},
		"localityAwareness":{"localZone":{"affinityTags":[{"key":"a"}]}}}`)
	for _, tt := range []struct {
		name     string
		kind     resource.Kind
		egress   bool
		ring     bool
		weighted bool
	}{
		{"in the mesh", resource.KindMeshService, false, true, true},
		{"outside", resource.KindMeshExternalService, false, false, false},
		{"at the egress", resource.KindMeshExternalService, true, true, false},
	} {
		p := proxy(tt.kind, tt.egress)
		c, hash := applied(t, p, conf)
		if (c.LbPolicy == clusterv3.Cluster_RING_HASH) != tt.ring || (len(hash) == 1) != tt.ring || (c.GetCommonLbConfig().GetLocalityWeightedLbConfig() != nil) != tt.weighted {
			t.Errorf("%s: cluster %v, hash %v", tt.name, c, hash)
		}
		if key, _ := Endpoints(p.Env, p.Backends[0], forMesh(conf)); tt.name == "outside" && key != "" {
			t.Errorf("%s: endpoints are arranged", tt.name)
		}
	}
}

// FuzzApply: whatever is accepted gives clusters, routes and endpoints that Envoy takes.
func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"loadBalancer":{"type":"RingHash","ringHash":{"maxRingSize":9,"hashFunction":"MurmurHash2","hashPolicies":[{"type":"Cookie","cookie":{"name":"c","path":"/x"}}]}}}}]}`))
	f.Add([]byte(`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"loadBalancer":{"type":"LeastRequest","leastRequest":{"choiceCount":2,"activeRequestBias":"1e300"}},"localityAwareness":{"localZone":{"affinityTags":[{"key":"rack","weight":4294967295},{"key":"row","weight":4294967295}]},"crossZone":{"failover":[{"from":{"zones":["here"]},"to":{"type":"AnyExcept","zones":["x"]}},{"to":{"type":"Any"}}],"failoverThreshold":{"percentage":"1e-9"}}}}}]}`))
	f.Add([]byte(`{"to":[{"targetRef":{"kind":"Mesh"},"default":{"localityAwareness":{"localZone":{"affinityTags":[{"key":"rack"},{"key":"1"},{"key":"2"},{"key":"3"},{"key":"4"},{"key":"5"},{"key":"6"},{"key":"7"},{"key":"8"},{"key":"9"},{"key":"row"}]}}}}]}`))
	policytest.FuzzConf(f, Kind(), "testdata/corpus.json", func(t *testing.T, conf any) {
		p := proxy(resource.KindMeshService, false)
		applied(t, p, conf)
		c, err := p.Backends[0].Cluster.Build()
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Outbounds[0].Listener.Build()
		if err != nil {
			t.Fatal(err)
		}
		effecttest.Check(t, c)
		effecttest.Check(t, l)
		for _, env := range clients() {
			key, arrange := Endpoints(env, &effect.Backend{LegacyService: "b"}, forMesh(conf))
			if key == "" {
				continue
			}
			cla := endpoints()
			arrange(cla)
			effecttest.Check(t, cla)
			sum := uint64(0)
			for _, g := range cla.Endpoints {
				sum += uint64(g.GetLoadBalancingWeight().GetValue())
			}
			if sum > 1<<32-1 {
				t.Errorf("localities weigh %d", sum)
			}
		}
	})
}
