package all_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// docs are the policies of a row: a document for each name, of which only the rest is given.
func docs(kind string, namesAndRests ...string) string {
	var out []string
	for i := 0; i < len(namesAndRests); i += 2 {
		out = append(out, fmt.Sprintf("{type: %s, mesh: default, name: %s, %s}", kind, namesAndRests[i], namesAndRests[i+1]))
	}
	return strings.Join(out, "\n---\n")
}

// from writes the spec of a policy from pairs of a targetRef and a conf.
func from(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, fmt.Sprintf("{targetRef: {%s}, default: {%s}}", pairs[i], pairs[i+1]))
	}
	return "spec: {from: [" + strings.Join(out, ", ") + "]}"
}

func permission(namesAndRests ...string) string {
	return docs("MeshTrafficPermission", namesAndRests...)
}

// sidecars is from for a kind whose `from` must not reach gateways.
func sidecars(pairs ...string) string {
	return strings.Replace(from(pairs...), "spec: {", "spec: {targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, ", 1)
}

const (
	anybody  = "kind: Mesh"
	allow    = "action: Allow"
	deny     = "action: Deny"
	shadowed = "action: AllowWithShadowDeny"

	abort = `http: [{abort: {httpStatus: 500, percentage: "10"}}]`
	delay = `http: [{delay: {value: 5s, percentage: "50"}}]`
	slow  = `http: [{responseBandwidth: {limit: 1Mbps, percentage: "1"}}]`
	// as they are written in rules
	aborted = `{"http":[{"abort":{"httpStatus":500,"percentage":"10"}}]}`
	delayed = `{"http":[{"delay":{"value":"5s","percentage":"50"}}]}`
	slowed  = `{"http":[{"responseBandwidth":{"limit":"1Mbps","percentage":"1"}}]}`
)

func service(name string) string { return "kind: MeshSubset, tags: {kuma.io/service: " + name + "}" }
func tagged(tags string) string  { return "kind: MeshSubset, tags: {" + tags + "}" }

// TestRulesByClient: rules that were derived by hand from contract policies.md §4.3 and §4.5, for the inbound of a proxy
// with the tags kuma.io/service=backend, team=core. Each line is "matchers: conf < policies in ascending precedence"; the
// service is written svc. Exact is what is enforced where that is something else.
func TestRulesByClient(t *testing.T) {
	for _, tt := range []struct {
		name, policies string
		want, exact    []string
	}{
		// Cliques 0:1 and 0:2; the string 0:2 is the greater one.
		{"everybody first, two services denied", permission("p", from(anybody, allow, service("a"), deny, service("b"), deny)), []string{
			"svc=b: Deny < p", "svc=a: Deny < p", "svc!=b: Allow < p", "svc!=a: Allow < p",
		}, nil},
		// Cliques 0:2 and 1:2; the item for everybody is the last of both and decides.
		{"everybody last", permission("p", from(service("a"), deny, service("b"), deny, anybody, allow)), []string{
			"svc=b: Allow < p", "svc=a: Allow < p", "svc!=b: Allow < p", "svc!=a: Allow < p",
		}, nil},
		{"one service alone", permission("p", from(service("a"), allow)), []string{"svc=a: Allow < p"}, nil},
		{"two tags", permission("p", from(anybody, deny, tagged("team: a, env: prod"), allow)), []string{
			"env=prod team=a: Allow < p", "env!=prod team=a: Deny < p", "env=prod team!=a: Deny < p", "env!=prod team!=a: Deny < p",
		}, nil},
		{"three tags alone", permission("p", from(tagged("team: a, env: prod, app: x"), allow)), []string{
			"app=x env=prod team=a: Allow < p",
		}, nil},
		// The first key changes fastest; then those with more positive matchers come first.
		{"three tags and everybody", permission("p", from(anybody, deny, tagged("team: a, env: prod, app: x"), allow)), []string{
			"app=x env=prod team=a: Allow < p",
			"app!=x env=prod team=a: Deny < p", "app=x env!=prod team=a: Deny < p", "app=x env=prod team!=a: Deny < p",
			"app!=x env!=prod team=a: Deny < p", "app!=x env=prod team!=a: Deny < p", "app=x env!=prod team!=a: Deny < p",
			"app!=x env!=prod team!=a: Deny < p",
		}, nil},
		// Subsets of different keys intersect; nothing is said about those who are in none.
		{"two overlapping subsets", permission("p", from(tagged("team: a"), allow, tagged("env: prod"), deny)), []string{
			"env=prod team=a: Deny < p", "env!=prod team=a: Allow < p", "env=prod team!=a: Deny < p",
		}, nil},
		// Ascending precedence is by descending name: deny-b 0, deny-a 1, allow-all 2. Cliques 0:2 and 1:2.
		{"the smaller name wins, for everybody", permission(
			"allow-all", from(anybody, allow), "deny-a", from(service("a"), deny), "deny-b", from(service("b"), deny),
		), []string{
			"svc=a: Allow < deny-a allow-all", "svc=b: Allow < deny-b allow-all", "svc!=a: Allow < allow-all", "svc!=b: Allow < allow-all",
		}, nil},
		// zz-all 0, deny-b 1, deny-a 2. Cliques 0:1 and 0:2.
		{"the smaller names win, for services", permission(
			"zz-all", from(anybody, allow), "deny-a", from(service("a"), deny), "deny-b", from(service("b"), deny),
		), []string{
			"svc=a: Deny < zz-all deny-a", "svc=b: Deny < zz-all deny-b", "svc!=a: Allow < zz-all", "svc!=b: Allow < zz-all",
		}, nil},
		// Origin goes before name: aaa 0, zzz 1.
		{"a policy of the zone wins over a global one", permission(
			"aaa", "labels: {kuma.io/origin: global}, "+from(anybody, deny), "zzz", "labels: {kuma.io/origin: zone}, "+from(service("a"), allow),
		), []string{"svc=a: Allow < aaa zzz", "svc!=a: Deny < aaa"}, nil},
		// No origin stands between both: zzz (global) 0, aaa (none) 1, mmm (zone) 2. All intersect.
		{"three origins", permission(
			"zzz", "labels: {kuma.io/origin: global}, "+from(anybody, allow), "aaa", from(tagged("team: a"), deny),
			"mmm", "labels: {kuma.io/origin: zone}, "+from(tagged("env: prod"), shadowed),
		), []string{
			"env=prod team=a: AllowWithShadowDeny < zzz aaa mmm", "env!=prod team=a: Deny < zzz aaa",
			"env=prod team!=a: AllowWithShadowDeny < zzz mmm", "env!=prod team!=a: Allow < zzz",
		}, nil},
		// The kind of the top-level targetRef goes before all: aaa 0, zzz 1.
		{"a subset of proxies wins over the mesh", permission(
			"aaa", from(anybody, deny), "zzz", strings.Replace(from(service("a"), allow), "spec: {", "spec: {targetRef: {kind: MeshSubset, tags: {team: core}}, ", 1),
			"other", strings.Replace(from(anybody, allow), "spec: {", "spec: {targetRef: {kind: MeshSubset, tags: {team: x}}, ", 1),
		), []string{"svc=a: Allow < aaa zzz", "svc!=a: Deny < aaa"}, nil},
		// Cliques 0:1 and 0:2. Whoever has team=a and env=x meets "env=x team!=b", which knows nothing of the denial.
		{"one key with two values, and another", permission("p", from(anybody, allow, tagged("team: a"), deny, tagged("team: b, env: x"), allow)), []string{
			"env=x team=b: Allow < p",
			"env!=x team=b: Allow < p", "env=x team!=b: Allow < p", "team=a: Deny < p",
			"env!=x team!=b: Allow < p", "team!=a: Allow < p",
		}, []string{ // one component: of a key each value from the last to the first, then none
			"env=x team=b: Allow < p", "env=x team=a: Deny < p",
			"env!=x team=b: Allow < p", "env!=x team=a: Deny < p", "env=x team!=a team!=b: Allow < p",
			"env!=x team!=a team!=b: Allow < p",
		}},
		{"older kinds", permission("p", from(
			anybody, deny, "kind: MeshServiceSubset, name: a, tags: {version: v1}", allow, "kind: MeshService, name: a", shadowed,
		)), []string{
			"svc=a version=v1: AllowWithShadowDeny < p", "svc!=a version=v1: Deny < p", "svc=a version!=v1: AllowWithShadowDeny < p",
			"svc!=a version!=v1: Deny < p",
		}, nil},
		// b 0, a 1: equal subsets intersect.
		{"two policies about one service", permission("a", from(service("x"), allow), "b", from(service("x"), deny)), []string{
			"svc=x: Allow < b a",
		}, nil},
		// The order of groups is that of strings: 0:9 … 0:2, 0:11, 0:10, 0:1.
		{"more than ten items", permission("p", from(
			anybody, deny, service("s1"), allow, service("s2"), allow, service("s3"), allow, service("s4"), allow, service("s5"), allow,
			service("s6"), allow, service("s7"), allow, service("s8"), allow, service("s9"), allow, service("s10"), allow, service("s11"), allow,
		)), []string{
			"svc=s9: Allow < p", "svc=s8: Allow < p", "svc=s7: Allow < p", "svc=s6: Allow < p", "svc=s5: Allow < p", "svc=s4: Allow < p",
			"svc=s3: Allow < p", "svc=s2: Allow < p", "svc=s11: Allow < p", "svc=s10: Allow < p", "svc=s1: Allow < p",
			"svc!=s9: Deny < p", "svc!=s8: Deny < p", "svc!=s7: Deny < p", "svc!=s6: Deny < p", "svc!=s5: Deny < p", "svc!=s4: Deny < p",
			"svc!=s3: Deny < p", "svc!=s2: Deny < p", "svc!=s11: Deny < p", "svc!=s10: Deny < p", "svc!=s1: Deny < p",
		}, nil},
		// Lists replace.
		{"faults for everybody and one service", docs("MeshFaultInjection", "p", sidecars(anybody, abort, service("a"), delay)), []string{
			"svc=a: " + delayed + " < p", "svc!=a: " + aborted + " < p",
		}, nil},
		// Cliques 0:2 and 1:2. Nothing is said about who is in no subset.
		{"faults for two teams and an environment", docs("MeshFaultInjection", "p", sidecars(tagged("team: a"), abort, tagged("team: b"), delay, tagged("env: prod"), slow)), []string{
			"env=prod team=b: " + slowed + " < p", "env=prod team=a: " + slowed + " < p",
			"env!=prod team=b: " + delayed + " < p", "env=prod team!=b: " + slowed + " < p",
			"env!=prod team=a: " + aborted + " < p", "env=prod team!=a: " + slowed + " < p",
		}, nil},
		// As for permissions above, but what is shown of faults is all that there is. Cliques 0:1 and 0:2.
		{"faults with one key of two values", docs("MeshFaultInjection", "p", sidecars(anybody, abort, tagged("team: a"), delay, tagged("team: b, env: x"), slow)), []string{
			"env=x team=b: " + slowed + " < p",
			"env!=x team=b: " + aborted + " < p", "env=x team!=b: " + aborted + " < p", "team=a: " + delayed + " < p",
			"env!=x team!=b: " + aborted + " < p", "team!=a: " + aborted + " < p",
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := rulesOf(t, tt.policies)
			if len(rules.From) != 1 {
				t.Fatalf("%d inbounds have rules", len(rules.From))
			}
			if diff := cmp.Diff(tt.want, lines(t, rules.From[0].Rules)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.exact, lines(t, rules.From[0].Exact)); diff != "" {
				t.Errorf("rules to enforce (-want +got):\n%s", diff)
			}
		})
	}
}

func rulesOf(t *testing.T, policies string) *policy.Rules {
	t.Helper()
	registry := resource.NewRegistry(all.Descriptors()...)
	dp, err := registry.DecodeYAML([]byte(`{type: Dataplane, mesh: default, name: backend-1, labels: {kuma.io/origin: zone},
  networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: backend, team: core}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	var list []*resource.Resource
	for _, doc := range resource.SplitYAML([]byte(policies)) {
		r, err := registry.DecodeYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		if faults := resource.Validate(r); len(faults) > 0 {
			t.Fatalf("%s: %v", r.Name, faults)
		}
		list = append(list, r)
	}
	kinds := all.Kinds()
	kind := kinds[slices.IndexFunc(kinds, func(k policy.Kind) bool { return k.Descriptor.Kind == list[0].Kind })]
	rules, err := policy.Build(kind, dp, policy.Matched(kind, dp, list, "zone-1", false), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func lines(t *testing.T, rules []policy.SubsetRule) []string {
	t.Helper()
	var out []string
	for _, r := range rules {
		var matchers, names []string
		for _, m := range r.Matchers {
			op := "="
			if m.Not {
				op = "!="
			}
			matchers = append(matchers, strings.Replace(m.Key, resource.TagService, "svc", 1)+op+m.Value)
		}
		for _, p := range r.Origin {
			names = append(names, p.Name)
		}
		raw, err := json.Marshal(r.Conf)
		if err != nil {
			t.Fatal(err)
		}
		conf := string(raw)
		var permission struct{ Action string }
		if json.Unmarshal(raw, &permission) == nil && permission.Action != "" {
			conf = permission.Action
		}
		out = append(out, strings.Join(matchers, " ")+": "+conf+" < "+strings.Join(names, " "))
	}
	return out
}
