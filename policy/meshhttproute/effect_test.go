package meshhttproute_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/resource"
)

var self = &effect.Target{
	Cluster: "own", Protocol: effect.HTTP,
	Service: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "s"}, Port: resource.ServicePort{Port: 80, AppProtocol: effect.HTTP},
}

// known answers refs by name: a real one of requests, one of connections, one outside, and a kuma.io/service.
func known(ref policy.BackendRef, _ *resource.Resource) (*effect.Target, bool) {
	if !ref.Real() {
		if ref.Name == "tagged" {
			return &effect.Target{Cluster: "tagged", Protocol: effect.HTTP, Tags: map[string]string{resource.TagService: "tagged"}}, true
		}
		return nil, true
	}
	switch ref.Name {
	case "web", "grpc":
		return &effect.Target{Cluster: "c-" + ref.Name, Protocol: effect.HTTP}, true
	case "outside":
		return &effect.Target{Cluster: "c-outside", Protocol: effect.HTTP, External: true}, true
	case "data":
		return &effect.Target{Cluster: "c-data", Protocol: effect.TCP}, true
	case "nolabels":
		return nil, false
	}
	return nil, true
}

func routing(t *testing.T, rules string) *effect.Routing {
	t.Helper()
	p := decode(t, "r", "to: [{targetRef: {kind: MeshService, name: s}, rules: "+rules+"}]")
	spec := p.Spec.(*meshhttproute.Spec)
	r := &policy.Rules{ToResources: []policy.ResourceRule{{
		Target: self.Service, Conf: []any{&spec.To[0].Conf}, Origin: []policy.RuleOrigin{{Policy: p}},
	}}}
	return meshhttproute.RouteOutbound(self, r, nil, known)
}

func decode(t *testing.T, name, spec string) *resource.Resource {
	t.Helper()
	r, err := resource.NewRegistry(meshhttproute.Kind().Descriptor).DecodeYAML(
		[]byte("{type: MeshHTTPRoute, mesh: m, name: " + name + ", spec: {" + spec + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBackends is the table of contract effects-routing.md §3.2: where the requests for /a go, "" when the next route takes
// them.
func TestBackends(t *testing.T) {
	for _, tt := range []struct{ refs, want string }{
		{"[]", `{"cluster":"own","timeout":"0s"}`},
		{"[{kind: MeshService, name: web, port: 80, weight: 5}]", `{"cluster":"c-web","timeout":"0s"}`},
		{"[{kind: MeshService, name: web, port: 80}, {kind: MeshService, name: grpc, port: 80, weight: 3}]", `{"weightedClusters":{"clusters":[{"name":"c-web","weight":1},{"name":"c-grpc","weight":3}]},"timeout":"0s"}`},
		{"[{kind: MeshService, name: web, port: 80}, {kind: MeshService, name: web, port: 80}]", `{"weightedClusters":{"clusters":[{"name":"c-web","weight":1},{"name":"c-web","weight":1}]},"timeout":"0s"}`},
		{"[{kind: MeshService, name: web, port: 80, weight: 0}]", ""},
		{"[{kind: MeshService, name: nobody, port: 80}]", ""},
		{"[{kind: MeshService, name: data, port: 80}]", ""},
		{"[{kind: MeshService, name: data, port: 80}, {kind: MeshService, name: web, port: 80}]", `{"cluster":"c-web","timeout":"0s"}`},
		{"[{kind: MeshService, name: nolabels, port: 80}]", `{"cluster":"own","timeout":"0s"}`},
		{"[{kind: MeshService, name: nolabels, port: 80}, {kind: MeshService, name: nobody, port: 80}]", ""},
		{"[{kind: MeshService, name: tagged}]", `{"cluster":"tagged","timeout":"0s"}`},
		{"[{kind: MeshService, name: outside, port: 80}, {kind: MeshService, name: web, port: 80}]", `{"weightedClusters":{"clusters":[{"name":"c-outside","weight":1},{"name":"c-web","weight":1}]},"autoHostRewrite":true,"timeout":"0s"}`},
	} {
		r := routing(t, "[{matches: [{path: {type: Exact, value: /a}}], default: {backendRefs: "+tt.refs+"}}]")
		got := ""
		if len(r.Requests) == 2 {
			b, err := protojson.Marshal(r.Requests[0].GetRoute())
			if err != nil {
				t.Fatal(err)
			}
			got = strings.ReplaceAll(string(b), ", ", ",")
		}
		if squeeze(got) != tt.want {
			t.Errorf("%s: requests go to %s, want %s", tt.refs, got, tt.want)
		}
	}
}

func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }

// The sum of the weights that Envoy sees fits into 32 bits, and everybody keeps a share.
func TestHugeWeights(t *testing.T) {
	most := proto.Uint32(math.MaxUint32)
	r := routing(t, "[{matches: [{path: {type: Exact, value: /a}}], default: {backendRefs: [{kind: MeshService, name: web, port: 80, weight: 4294967295}, {kind: MeshService, name: grpc, port: 80, weight: 4294967295}, {kind: MeshService, name: outside, port: 80, weight: 1}]}}]")
	sum := uint64(0)
	for _, c := range r.Requests[0].GetRoute().GetWeightedClusters().Clusters {
		if c.Weight.Value == 0 {
			t.Errorf("%s gets nothing", c.Name)
		}
		sum += uint64(c.Weight.Value)
	}
	if sum > uint64(*most) {
		t.Errorf("weights sum up to %d", sum)
	}
}

// TestLeftOut: what Envoy would refuse, or 2.9 has no configuration for, is left out and said; the rest stays.
func TestLeftOut(t *testing.T) {
	const rule = "[{matches: [{path: {type: Exact, value: /a}}], default: {filters: [%s]}}]"
	for _, tt := range []struct{ name, rules, warning, want string }{
		{
			"an expression that is none", "[{matches: [{path: {type: RegularExpression, value: '/(' }}], default: {}}]", "Envoy does not take it", "",
		},
		{
			"an expression of a header", "[{matches: [{headers: [{type: RegularExpression, name: h, value: '['}]}], default: {}}]", "Envoy does not take it", "",
		},
		{
			"a rewrite after a redirect", strings.Replace(rule, "%s", "{type: RequestRedirect, requestRedirect: {hostname: h}}, {type: URLRewrite, urlRewrite: {hostname: x}}", 1),
			"URLRewrite after RequestRedirect", `{"redirect":{"hostRedirect":"h","responseCode":"FOUND"}}`,
		},
		{
			"a mirror to nobody", strings.Replace(rule, "%s", "{type: RequestMirror, requestMirror: {backendRef: {kind: MeshService, name: nobody, port: 1}}}", 1),
			"RequestMirror to MeshService nobody", `{"route":{"cluster":"own","timeout":"0s"}}`,
		},
		{
			"a mirror of connections", strings.Replace(rule, "%s", "{type: RequestMirror, requestMirror: {backendRef: {kind: MeshService, name: data, port: 1}}}", 1),
			"RequestMirror to MeshService data", `{"route":{"cluster":"own","timeout":"0s"}}`,
		},
		{
			"the host header", strings.Replace(rule, "%s", "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: host, value: x}, {name: a, value: b}]}}", 1),
			"header host cannot be changed",
			`{"route":{"cluster":"own","timeout":"0s"},"requestHeadersToAdd":[{"header":{"key":"a","value":"b"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := routing(t, tt.rules)
			if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], tt.warning) {
				t.Errorf("warnings are %q, want %q", r.Warnings, tt.warning)
			}
			got := ""
			if len(r.Requests) == 2 {
				e := proto.CloneOf(r.Requests[0])
				e.Name, e.Match = "", nil
				b, err := protojson.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				got = squeeze(string(b))
			}
			if got != tt.want {
				t.Errorf("route is %s, want %s", got, tt.want)
			}
		})
	}
}

// A mirror means a kuma.io/service first, as in 2.9, and what the ref says where there is none.
func TestMirror(t *testing.T) {
	for ref, want := range map[string]string{
		"{kind: MeshService, name: tagged}":           "tagged",
		"{kind: MeshService, name: tagged, port: 80}": "tagged",
		"{kind: MeshService, name: web, port: 80}":    "c-web",
	} {
		r := routing(t, "[{matches: [{path: {type: Exact, value: /a}}], default: {filters: [{type: RequestMirror, requestMirror: {backendRef: "+ref+"}}]}}]")
		m := r.Requests[0].GetRoute().RequestMirrorPolicies
		if len(m) != 1 || m[0].Cluster != want {
			t.Errorf("%s mirrors to %v, want %s", ref, m, want)
		}
		var clusters []string
		for _, target := range r.Targets {
			clusters = append(clusters, target.Cluster)
		}
		if diff := cmp.Diff([]string{want, "own", "own"}, clusters); diff != "" {
			t.Errorf("%s: clusters (-want +got):\n%s", ref, diff)
		}
	}
}

// Values of headers are literal, but for whole commands of Envoy; backslashes in paths are no groups.
func TestLiterals(t *testing.T) {
	for value, want := range map[string]string{
		"plain": "plain", "100%": "100%%", "a%%b": "a%%b", "50% of 100%%": "50%% of 100%%", "%START_TIME%": "%START_TIME%",
	} {
		r := routing(t, "[{matches: [{path: {type: Exact, value: /a}}], default: {filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: h, value: '"+value+"'}]}}]}}]")
		if got := r.Requests[0].RequestHeadersToAdd[0].Header.Value; got != want {
			t.Errorf("value %q becomes %q, want %q", value, got, want)
		}
	}
	r := routing(t, `[{matches: [{path: {type: Exact, value: /a}}], default: {filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/x\1'}}}]}}]`)
	if got := r.Requests[0].GetRoute().RegexRewrite.Substitution; got != `/x\\1` {
		t.Errorf("substitution is %s", got)
	}
}

// An outbound of which every route is unusable has no listener.
func TestClosed(t *testing.T) {
	r := routing(t, "[{matches: [{path: {type: PathPrefix, value: /}}], default: {backendRefs: [{kind: MeshService, name: nobody, port: 80}]}}]")
	if !r.Closed || len(r.Requests) != 0 || len(r.Targets) != 0 {
		t.Errorf("routing is %+v, want closed", r)
	}
	if meshhttproute.RouteOutbound(self, nil, nil, known) != nil || meshhttproute.RouteOutbound(self, &policy.Rules{}, nil, known) != nil {
		t.Error("without rules there is a routing")
	}
}
