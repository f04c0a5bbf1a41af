package meshproxypatch_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
	"github.com/kuma-dp/kuma-dp/resource"
)

const at = "spec.default.appendModifications[0]"

func modify(m string) string { return "default: {appendModifications: [" + m + "]}" }

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshproxypatch.Kind(nil), []policytest.Case{
		{Name: "add", Spec: modify("{cluster: {operation: Add, value: 'name: a'}}, {networkFilter: {operation: AddFirst, value: 'name: a'}}, {httpFilter: {operation: AddLast, value: 'name: a', match: {origin: inbound}}}, {virtualHost: {operation: Add, value: 'name: a', match: {origin: inbound, routeConfigurationName: r}}}")},
		{Name: "patch", Spec: "targetRef: {kind: MeshGateway, name: g}, " + modify("{listener: {operation: Patch, match: {tags: {a: b}}, value: 'name: a'}}, {httpFilter: {operation: Patch, jsonPatches: [{op: add, path: /a, value: null}, {op: move, path: /a, from: /b}]}}, {cluster: {operation: Remove}}")},
		{Name: "nothing", Spec: "", Want: []string{"spec.default.appendModifications: must not be empty"}},
		{Name: "tags of a gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, " + modify("{cluster: {operation: Remove}}"), Want: []string{"spec.targetRef.tags: must not be set with kind MeshGateway"}},
		{Name: "route", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}, " + modify("{cluster: {operation: Remove}}"), Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "two at a time", Spec: modify("{cluster: {operation: Remove}, virtualHost: {operation: Patch}}"), Want: []string{at + ": exactly one modification can be defined at a time. Currently, 2 modifications are defined"}},
		{Name: "enumerations", Spec: modify("{cluster: {operation: AddFirst}}, {httpFilter: {operation: Add}}, {listener: {operation: Patch, jsonPatches: [{op: test}]}}"), Want: []string{
			at + ".cluster.operation: in body should be one of [Add Remove Patch]",
			"spec.default.appendModifications[1].httpFilter.operation: in body should be one of [Remove Patch AddFirst AddBefore AddAfter AddLast]",
			"spec.default.appendModifications[2].listener.jsonPatches[0].op: in body should be one of [add remove replace move copy]",
		}},
		{Name: "no operation", Spec: modify("{cluster: {}}, {networkFilter: {}}"), Want: []string{
			at + `.cluster.operation: invalid operation. Available operations: "Add", "Patch", "Remove"`,
			`spec.default.appendModifications[1].networkFilter.operation: invalid operation. Available operations: "AddFirst", "AddLast", "AddBefore", "AddAfter", "Patch", "Remove"`,
		}},
		{Name: "add to a match", Spec: modify("{listener: {operation: Add, match: {origin: inbound}}}"), Want: []string{at + ".listener.match: must not be defined", at + ".listener.value: must be defined"}},
		{Name: "add to a virtual host", Spec: modify("{virtualHost: {operation: Add, match: {name: a}, value: 'name: b'}}"), Want: []string{at + ".virtualHost.match.name: must not be defined"}},
		{Name: "patch with both", Spec: modify("{virtualHost: {operation: Patch, value: 'name: b', jsonPatches: [{op: remove, path: /a}]}}"), Want: []string{at + ".virtualHost: virtualHost must have exactly one defined: value, jsonPatches"}},
		{Name: "patch with neither", Spec: modify("{networkFilter: {operation: Patch, jsonPatches: []}}"), Want: []string{at + ".networkFilter: networkFilter must have exactly one defined: value, jsonPatches"}},
		{Name: "after what", Spec: modify("{networkFilter: {operation: AddAfter, match: {listenerName: a}, value: 'name: a'}}"), Want: []string{at + ".networkFilter.match.name: must be defined. You need to pick a filter after which this one will be added"}},
		{Name: "before what", Spec: modify("{networkFilter: {operation: AddBefore}}"), Want: []string{at + ".networkFilter.match.name: must be defined. You need to pick a filter before which this one will be added", at + ".networkFilter.value: must be defined"}},
		{Name: "a list", Spec: modify("{cluster: {operation: Patch, value: '[a]'}}"), Want: []string{at + ".cluster.value: native Envoy resource is not valid: json: cannot unmarshal array into Go value of type map[string]json.RawMessage"}},
	})
}

// TestNative sees what the check from outside is asked and how its answer is told.
func TestNative(t *testing.T) {
	type question struct {
		Target, Object string
		Whole          bool
	}
	var asked []question
	kind := meshproxypatch.Kind(func(target string, object []byte, whole bool) error {
		asked = append(asked, question{target, string(object), whole})
		return errors.New("I do not like it")
	})
	r, err := resource.NewRegistry(kind.Descriptor).DecodeYAML([]byte("{type: MeshProxyPatch, mesh: m, name: p, spec: {" +
		modify("{cluster: {operation: Add, value: 'name: a'}}, {httpFilter: {operation: Patch, value: ''}}, {listener: {operation: Remove, value: x}}") + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	// A store validates clones.
	for _, f := range resource.Validate(r.Clone()) {
		got = append(got, f.Field+": "+f.Reason)
	}
	const reason = "native Envoy resource is not valid: I do not like it"
	want := []string{at + ".cluster.value: " + reason, "spec.default.appendModifications[1].httpFilter.value: " + reason}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	wantAsked := []question{{"cluster", `{"name":"a"}`, true}, {"httpFilter", "{}", false}}
	if diff := cmp.Diff(wantAsked, asked); diff != "" {
		t.Errorf("questions (-want +got):\n%s", diff)
	}
}
