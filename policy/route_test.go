package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// routeConf stands for the confs of routes, whose rules are joined and whose hostnames make groups.
type routeConf struct {
	Hostnames []string          `json:"hostnames,omitempty"`
	Rules     []json.RawMessage `json:"rules,omitempty"`
}

type routeSpec struct {
	policy.ToSpec[routeConf]
}

func (*routeSpec) Validate(*resource.Meta) []resource.Violation { return nil }

func routeRules(t *testing.T, confs ...routeConf) []any {
	t.Helper()
	kind := policy.Kind{Descriptor: &resource.Descriptor{Kind: "Test"}, NewConf: func() any { return &routeConf{} }}
	var policies []*resource.Resource
	for i, c := range confs {
		name := string(rune('z' - i)) // the last conf has the smallest name and so the highest precedence
		policies = append(policies, newPolicy(name, &routeSpec{policy.ToSpec[routeConf]{
			To: []policy.Entry[routeConf]{{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Default: c}},
		}}, nil))
	}
	rules, err := policy.BuildTo(kind, policy.Matched(kind, newProxy(nil), policies, "", false), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules.ToResources[0].Conf
}

func raws(rules ...string) []json.RawMessage {
	out := make([]json.RawMessage, len(rules))
	for i, r := range rules {
		out[i] = json.RawMessage(r)
	}
	return out
}

// The confs of conformance case 08: policy aaa, the second here, has the precedence.
func TestRulesOfRoutesMerge(t *testing.T) {
	got := routeRules(t,
		routeConf{Rules: raws(
			`{"matches":[{"path":{"type":"PathPrefix","value":"/v1"}}],"default":{"filters":["b"],"backendRefs":["dropped"]}}`,
			`{"matches":[{"headers":[{"name":"v"}]}],"default":{"backendRefs":[81]}}`,
		)},
		routeConf{Rules: raws(
			`{"matches":[{"path":{"value":"/v1","type":"PathPrefix"}}],"default":{"backendRefs":[80,81]}}`,
			`{"matches":[{"method":"GET"}],"default":{"filters":["a"]}}`,
		)},
	)
	want := `[{"rules":[` +
		`{"default":{"backendRefs":[80,81],"filters":["b"]},"matches":[{"path":{"type":"PathPrefix","value":"/v1"}}]},` +
		`{"default":{"filters":["a"]},"matches":[{"method":"GET"}]},` +
		`{"default":{"backendRefs":[81]},"matches":[{"headers":[{"name":"v"}]}]}]}]`
	if text(t, got) != want {
		t.Errorf("got  %s\nwant %s", text(t, got), want)
	}
}

func TestHostnamesMakeGroups(t *testing.T) {
	got := routeRules(t,
		routeConf{Hostnames: []string{"a", "b"}, Rules: raws(`{"matches":[1]}`)},
		routeConf{Rules: raws(`{"matches":[2]}`)},
		routeConf{Hostnames: []string{"b"}, Rules: raws(`{"matches":[3]}`)},
	)
	want := `[{"hostnames":["a"],"rules":[{"matches":[1]}]},{"hostnames":["b"],"rules":[{"matches":[3]},{"matches":[1]}]},{"rules":[{"matches":[2]}]}]`
	if text(t, got) != want {
		t.Errorf("got  %s\nwant %s", text(t, got), want)
	}
}
