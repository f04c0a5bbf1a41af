package meshhttproute_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Captured from Kuma 2.9.13 (controlplane.md §3.2, effects-routing.md §3.1).
const catchAllName = "9Zuf5Tg79OuZcQITwBbQykxAk2u4fRKrwYn3//AL4Yo="

func TestHash(t *testing.T) {
	for _, tt := range []struct{ matches, want string }{
		{`[{"path":{"type":"PathPrefix","value":"/"}}]`, catchAllName},
		{`[{"path":{"value":"/a","type":"PathPrefix"}}]`, "FVl5kxrbTN6O2cgtyofxrlLJWaSHL0+EIAVq2LRD4kA="},
		{`[{"path":{"type":"PathPrefix","value":"/slow"}}]`, "rwkOHImZTiZJ8SncvvfHvvZR88xKhcBsoewI6k4Oh9c="},
		{`[{"headers":[{"name":"v","value":"2"}]}]`, "8MH0iqHOnUdtatfY+n7X+5IBpmqKj3hnwvXD7frL/Ck="},
		{`[{"method":"GET","path":{"type":"Exact","value":"/x"}}]`, "SHa6MPs7//TRWmlAU/XQY9YiF7IN5q3/YoDZSfTyeJA="},
		{`[{"path":{"type":"PathPrefix","value":"/v1"}}]`, "bzv64o+joRk33jfDADgGv5ar4QyONO0NEVKnoBfJW/E="},
	} {
		var matches []meshhttproute.Match
		if err := json.Unmarshal([]byte(tt.matches), &matches); err != nil {
			t.Fatal(err)
		}
		if got := meshhttproute.Hash(matches); got != tt.want {
			t.Errorf("Hash(%s) = %s, want %s", tt.matches, got, tt.want)
		}
	}
}

// The routes of the virtual hosts that Kuma 2.9.13 made of one policy's rules: name, type and value of the path.
func TestRoutesOfCaptures(t *testing.T) {
	data, err := os.ReadFile("testdata/routes.json")
	if err != nil {
		t.Fatal(err)
	}
	var captures []struct {
		Case  string               `json:"case"`
		Rules []meshhttproute.Rule `json:"rules"`
		Want  [][2]string          `json:"want"`
	}
	if err := json.Unmarshal(data, &captures); err != nil {
		t.Fatal(err)
	}
	if len(captures) < 14 {
		t.Fatalf("only %d captures", len(captures))
	}
	for _, c := range captures {
		t.Run(c.Case, func(t *testing.T) {
			var got [][2]string
			for _, r := range meshhttproute.Routes(c.Rules) {
				got = append(got, [2]string{r.Name, r.Match.Path.Type + " " + r.Match.Path.Value})
			}
			if diff := cmp.Diff(c.Want, got); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
		})
	}
}

func newMatch(path string, method string, headers, params int) meshhttproute.Match {
	m := meshhttproute.Match{Method: method}
	if path != "" {
		m.Path = &meshhttproute.PathMatch{Type: meshhttproute.PathPrefix, Value: path}
	}
	for range headers {
		m.Headers = append(m.Headers, meshhttproute.HeaderMatch{Name: "h"})
	}
	for range params {
		m.QueryParams = append(m.QueryParams, meshhttproute.QueryMatch{Name: "q"})
	}
	return m
}

// Every later match of the list is less specific than the ones before it (contract policies.md §4.7).
func TestRoutesOrder(t *testing.T) {
	exact := meshhttproute.Match{Path: &meshhttproute.PathMatch{Type: meshhttproute.Exact, Value: "/"}}
	regex := meshhttproute.Match{Path: &meshhttproute.PathMatch{Type: meshhttproute.RegularExpression, Value: "/.*"}}
	longer := meshhttproute.Match{Path: &meshhttproute.PathMatch{Type: meshhttproute.RegularExpression, Value: "/a.*"}}
	want := []meshhttproute.Match{
		exact, newMatch("/aa", "", 0, 0), newMatch("/a", "GET", 0, 0), newMatch("/a", "", 2, 0), newMatch("/a", "", 1, 1), newMatch("/a", "", 1, 0),
		newMatch("/a", "", 0, 1), newMatch("/a", "", 0, 0), longer, regex, newMatch("", "GET", 0, 0), newMatch("", "", 1, 0), newMatch("", "", 0, 1),
	}
	for shift := range want {
		shuffled := slices.Concat(want[shift:], want[:shift])
		var rules []meshhttproute.Rule
		for _, m := range shuffled {
			rules = append(rules, meshhttproute.Rule{Matches: []meshhttproute.Match{m}})
		}
		routes := meshhttproute.Routes(rules)
		if len(routes) != len(want)+1 {
			t.Fatalf("%d routes, want one more than %d", len(routes), len(want))
		}
		if last := routes[len(want)]; last.Rule != nil || last.Name != catchAllName {
			t.Errorf("last route = %+v, want the catch-all", last)
		}
		for i, r := range routes[:len(want)] {
			expected := want[i]
			if expected.Path == nil {
				expected.Path = meshhttproute.CatchAll().Path
			}
			if diff := cmp.Diff(expected, r.Match); diff != "" {
				t.Errorf("rotation by %d, route %d (-want +got):\n%s", shift, i, diff)
			}
		}
	}
}

func TestRoutesOfNothing(t *testing.T) {
	if got := meshhttproute.Routes(nil); len(got) != 1 || got[0].Name != catchAllName {
		t.Errorf("Routes(nil) = %+v, want the catch-all alone", got)
	}
	own := []meshhttproute.Rule{{Matches: []meshhttproute.Match{meshhttproute.CatchAll()}}}
	if got := meshhttproute.Routes(own); len(got) != 1 || got[0].Rule != &own[0] {
		t.Errorf("routes of a rule for everything = %+v, want this rule alone", got)
	}
}

func route(t *testing.T, name, spec string) *resource.Resource {
	t.Helper()
	r, err := resource.NewRegistry(meshhttproute.Kind().Descriptor).DecodeYAML(
		[]byte("{type: MeshHTTPRoute, mesh: m, name: " + name + ", spec: {" + spec + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	if faults := resource.Validate(r); len(faults) > 0 {
		t.Fatal(faults)
	}
	return r
}

// The rules of two policies join; backendRefs of a merged rule belong to the policy with the highest precedence that gave
// any.
func TestWriter(t *testing.T) {
	const rule = "to: [{targetRef: {kind: MeshService, name: s}, rules: ["
	low := route(t, "zz", rule+"{matches: [{path: {type: PathPrefix, value: /a}}], default: {backendRefs: [{kind: MeshService, name: x, port: 1}]}}, {matches: [{method: PUT}], default: {backendRefs: [{kind: MeshService, name: other, port: 1}]}}]}]")
	high := route(t, "aa", rule+"{matches: [{path: {type: PathPrefix, value: /a}}], default: {filters: []}}, {matches: [{method: PUT}], default: {backendRefs: []}}, {matches: [{method: GET}], default: {}}]}]")
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "s"}}, Spec: &resource.MeshService{}}
	dp := &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "d"}},
		Spec: &resource.Dataplane{Networking: &resource.Networking{Inbound: []*resource.Inbound{{Port: 1}}}},
	}
	kind := meshhttproute.Kind()
	matched := policy.Matched(kind, dp, []*resource.Resource{low, high}, "", false)
	rules, err := policy.BuildTo(kind, matched, resolver{service})
	if err != nil {
		t.Fatal(err)
	}
	if len(rules.ToResources) != 1 || len(rules.ToResources[0].Conf) != 1 {
		t.Fatalf("rules = %+v, want one conf for one service", rules.ToResources)
	}
	origin, conf := rules.ToResources[0].Origin, rules.ToResources[0].Conf[0].(*meshhttproute.Conf)
	want := []*resource.Resource{low, high, nil}
	if len(conf.Rules) != len(want) {
		t.Fatalf("%d rules, want %d", len(conf.Rules), len(want))
	}
	for i := range want {
		if got := meshhttproute.Writer(origin, "", &conf.Rules[i]); got != want[i] {
			t.Errorf("writer of rule %d is %v, want %v", i, got, want[i])
		}
	}
	if got := meshhttproute.Writer(origin, "other.example", &conf.Rules[0]); got != nil {
		t.Errorf("writer for another hostname is %v", got.Key)
	}
	if got := meshhttproute.Writer(origin, "", nil); got != nil {
		t.Errorf("writer of the catch-all is %v", got.Key)
	}
}

type resolver []*resource.Resource

func (r resolver) Services(string) []*resource.Resource { return r }
