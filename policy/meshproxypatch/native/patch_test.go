package native_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch/native"
	"github.com/kuma-dp/kuma-dp/resource"
)

// parts are the resources of a proxy with one HTTP and one TCP inbound.
func parts(t testing.TB) []effect.Part {
	t.Helper()
	env := effect.Env{Mesh: "m", Address: "10.0.0.1", Zone: "z"}
	var out []effect.Part
	for port, protocol := range map[uint32]string{80: effect.HTTP, 90: effect.Kafka} {
		in := effect.NewInbound(env, &resource.Inbound{Port: port, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: protocol}})
		l, err := in.Listener.Build()
		if err != nil {
			t.Fatal(err)
		}
		c, err := in.Cluster.Build()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, effect.Part{Origin: effect.OriginInbound, Message: l}, effect.Part{Origin: effect.OriginInbound, Message: c})
	}
	return out
}

// rules are those of policies p0, p1, and so on, each with a list of modifications in YAML.
func rules(t testing.TB, policies ...string) *policy.Rules {
	t.Helper()
	reg := resource.NewRegistry(meshproxypatch.Kind(native.Check).Descriptor)
	out := &policy.Rules{Single: &policy.SingleRule{}}
	for i, p := range policies {
		r, err := reg.DecodeYAML(fmt.Appendf(nil, "{type: MeshProxyPatch, mesh: m, name: p%d, spec: {default: {appendModifications: [%s]}}}", i, p))
		if err != nil {
			t.Fatal(err)
		}
		out.Single.Origin = append(out.Single.Origin, r)
	}
	return out
}

// patch returns what is left.
func patch(parts []effect.Part, r *policy.Rules) ([]effect.Part, []string) {
	out, warnings := native.NewPatcher(r).Patch(parts)
	return slices.DeleteFunc(out, func(p effect.Part) bool { return p.Message == nil }), warnings
}

// find returns a listener or cluster as JSON; empty when there is none.
func find(t testing.TB, parts []effect.Part, name string) string {
	t.Helper()
	for _, p := range parts {
		if p.Message.(interface{ GetName() string }).GetName() != name {
			continue
		}
		b, err := protojson.MarshalOptions{Resolver: effect.Types{}}.Marshal(p.Message)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), " ", "")
	}
	return ""
}

const (
	httpListener  = "inbound:10.0.0.1:80"
	kafkaListener = "inbound:10.0.0.1:90"
	httpCluster   = "localhost:80"
)

func patchCluster(how string) string {
	return "{cluster: {operation: Patch, match: {name: 'localhost:80'}, " + how + "}}"
}

// TestPatch is about what the captured cases do not show.
func TestPatch(t *testing.T) {
	for _, tt := range []struct {
		name     string
		policies []string
		in       string
		has, not string
	}{
		{"duration replaces", []string{patchCluster("value: 'connectTimeout: 1.5s'"), patchCluster("value: 'connectTimeout: 2s'")}, httpCluster, `"connectTimeout":"2s"`, ""},
		{"zero duration", []string{patchCluster("value: 'connectTimeout: 0s'") + "," + patchCluster("value: 'connectTimeout: 1s'")}, httpCluster, `"connectTimeout":"1s"`, ""},
		{
			"typed config of another type replaces",
			[]string{
				patchCluster("value: \"transportSocket: {name: a, typedConfig: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: x}}\"") + "," +
					patchCluster("value: \"transportSocket: {typedConfig: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}\""),
			},
			httpCluster, `"transportSocket":{"name":"a","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`, "sni",
		},
		{"negative index", []string{patchCluster("jsonPatches: [{op: remove, path: /loadAssignment/endpoints/-1}]")}, httpCluster, `"loadAssignment"`, "endpoints"},
		{"missing path removed", []string{patchCluster("jsonPatches: [{op: remove, path: /a/b}, {op: replace, path: /connectTimeout, value: 3s}]")}, httpCluster, `"connectTimeout":"3s"`, ""},
		{"missing parents added", []string{patchCluster("jsonPatches: [{op: add, path: /circuitBreakers/thresholds/0/maxRequests, value: 4}]")}, httpCluster, `"circuitBreakers":{"thresholds":[{"maxRequests":4}]}`, ""},
		{
			"typed config inside, without its type",
			[]string{"{networkFilter: {operation: Patch, match: {name: envoy.filters.network.kafka_broker}, jsonPatches: [{op: replace, path: /statPrefix, value: k}]}}"},
			kafkaListener, `"statPrefix":"k"`, "",
		},
		{
			"type known by its description",
			[]string{
				"{httpFilter: {operation: AddFirst, value: \"{name: kill, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.kill_request.v3.KillRequest, direction: RESPONSE}}\"}}," +
					"{httpFilter: {operation: Patch, match: {name: kill}, value: \"typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.kill_request.v3.KillRequest, killRequestHeader: x-kill}\"}}," +
					"{httpFilter: {operation: Patch, match: {name: kill}, jsonPatches: [{op: add, path: /probability/numerator, value: 5}]}}",
			},
			httpListener, `"probability":{"numerator":5},"killRequestHeader":"x-kill","direction":"RESPONSE"}`, "",
		},
		{
			"wrong in between, right in the end",
			[]string{"{cluster: {operation: Patch, match: {name: 'localhost:80'}, jsonPatches: [{op: remove, path: /name}]}}, {cluster: {operation: Patch, jsonPatches: [{op: add, path: /name, value: other}]}}"},
			"other", `"name":"other"`, "",
		},
		{"before what is missing", []string{"{networkFilter: {operation: AddBefore, match: {name: x}, value: 'name: f'}}"}, httpListener, "", `"name":"f"`},
		{"no such tag", []string{"{listener: {operation: Remove, match: {tags: {team: '*'}}}}"}, httpListener, httpListener, ""},
		{"other value", []string{"{listener: {operation: Remove, match: {tags: {kuma.io/service: tcp}}}}"}, httpListener, httpListener, ""},
		{"its tags", []string{"{listener: {operation: Remove, match: {tags: {kuma.io/service: http, kuma.io/zone: '*'}}}}"}, httpListener, "", httpListener},
		{
			"other routes",
			[]string{"{virtualHost: {operation: Remove, match: {routeConfigurationName: x}}}, {virtualHost: {operation: Remove, match: {name: x}}}"},
			httpListener, `"virtualHosts"`, "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := parts(t)
			out, warnings := patch(in, rules(t, tt.policies...))
			if len(warnings) > 0 {
				t.Errorf("warnings are %q", warnings)
			}
			got := find(t, out, tt.in)
			if !strings.Contains(got, tt.has) || tt.not != "" && strings.Contains(got, tt.not) {
				t.Errorf("%s is %s, want %s and not %s", tt.in, got, tt.has, tt.not)
			}
		})
	}
}

// doubling are copies each of which makes the document twice as large.
func doubling(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("{op: copy, from: /loadAssignment, path: /loadAssignment/x%d}", i))
	}
	return out
}

// TestLeftOut: what cannot be done is left out as a whole, with its reason, and the rest counts.
func TestLeftOut(t *testing.T) {
	const good = "{cluster: {operation: Patch, match: {name: 'localhost:80'}, value: 'connectTimeout: 9s'}}"
	for _, tt := range []struct{ name, bad, want string }{
		{"missing path", patchCluster("jsonPatches: [{op: replace, path: /lbSubsetConfig/x, value: 3s}]"), "cluster localhost:80: patch the JSON: "},
		{"all or nothing", patchCluster("jsonPatches: [{op: replace, path: /connectTimeout, value: 77s}, {op: copy, from: /x, path: /y}]"), "patch the JSON: "},
		{"unknown field", patchCluster("jsonPatches: [{op: add, path: /connectTimeouts, value: 77s}]"), `unknown field "connectTimeouts"`},
		{"wrong type of a field", patchCluster("jsonPatches: [{op: add, path: /connectTimeout, value: 77}]"), "read the patched JSON: "},
		{"the whole", patchCluster("jsonPatches: [{op: add, path: '', value: null}]"), "the JSON"},
		{"no value", patchCluster("jsonPatches: [{op: add, path: /name}]"), "Envoy would refuse cluster : it has no name"},
		{"far index", patchCluster("jsonPatches: [{op: add, path: /a/100000000, value: 1}]"), "jsonPatches[0]: index 100000000 in path /a/100000000 is larger than 1024"},
		{"copies of copies", patchCluster("jsonPatches: [" + strings.Join(doubling(40), ", ") + "]"), "patch the JSON: "},
		{"rule of Envoy", patchCluster("value: 'connectTimeout: -1s'"), "Envoy would refuse cluster localhost:80: invalid Cluster.ConnectTimeout"},
		{"rule of Envoy inside", "{httpFilter: {operation: Patch, match: {name: envoy.filters.http.router}, jsonPatches: [{op: add, path: /strictCheckHeaders, value: [nonsense]}]}}", "Envoy would refuse listener inbound:10.0.0.1:80: invalid Router.StrictCheckHeaders"},
		{"other type", "{networkFilter: {operation: Patch, match: {name: envoy.filters.network.tcp_proxy}, value: \"{name: x, typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}\"}}", "listener inbound:10.0.0.1:90: filter envoy.filters.network.tcp_proxy: the value is of type type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
		{"no typed config", "{networkFilter: {operation: Patch, value: 'name: x'}}", "the value has no typedConfig"},
		{"nothing to add", "{listener: {operation: Add}}", "there is no value to add"},
		{"not JSON of Envoy", "{cluster: {operation: Add, value: 'foo: bar'}}", `read value: unknown field "foo"`},
		{"nothing", "{}", "it says nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := parts(t)
			got, warnings := patch(in, rules(t, good, tt.bad+","+"{cluster: {operation: Add, value: 'name: mine'}}"))
			want, none := patch(in, rules(t, good+","+"{cluster: {operation: Add, value: 'name: mine'}}"))
			if len(none) > 0 {
				t.Fatal(none)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("the rest differs (-want +got):\n%s", diff)
			}
			prefix := "MeshProxyPatch p1: appendModifications[0] is left out: "
			if len(warnings) != 1 || !strings.HasPrefix(warnings[0], prefix) || !strings.Contains(warnings[0], tt.want) {
				t.Errorf("warnings are %q, want %q with %q", warnings, prefix, tt.want)
			}
		})
	}
}

// TestEarlierFault: a resource that Envoy refuses for another reason is not the fault of a patch.
func TestEarlierFault(t *testing.T) {
	in := []effect.Part{{Origin: effect.OriginOutbound, Message: &clusterv3.Cluster{Name: "bad", LbPolicy: 99}}}
	out, warnings := patch(in, rules(t, "{cluster: {operation: Patch, value: 'connectTimeout: 2s'}}"))
	if len(warnings) > 0 || !strings.Contains(find(t, out, "bad"), `"2s"`) {
		t.Errorf("got %v, warnings %q", out, warnings)
	}
}

func TestOriginals(t *testing.T) {
	in := parts(t)
	var before []proto.Message
	for _, p := range in {
		before = append(before, proto.Clone(p.Message))
	}
	_, warnings := patch(in, rules(t, "{listener: {operation: Patch, value: 'tcpBacklogSize: 3'}}, {httpFilter: {operation: Remove}}, {virtualHost: {operation: Patch, value: 'name: x'}}, {networkFilter: {operation: Remove}}, {cluster: {operation: Remove}}"))
	if len(warnings) > 0 {
		t.Error(warnings)
	}
	for i, p := range in {
		if diff := cmp.Diff(before[i], p.Message, protocmp.Transform()); diff != "" {
			t.Errorf("part %d changed:\n%s", i, diff)
		}
	}
	if out, warnings := patch(in, &policy.Rules{}); len(out) != len(in) || warnings != nil {
		t.Errorf("without a policy there are %d parts and warnings %q", len(out), warnings)
	}
}

// FuzzPatch: no JSON patch may panic, or leave something that Envoy refuses.
func FuzzPatch(f *testing.F) {
	ops := []string{"add", "remove", "replace", "move", "copy"}
	for _, s := range []struct {
		op         int
		path, from string
		value      string
	}{
		{0, "/connectTimeout", "", `"1s"`},
		{0, "/a/-1/b", "", "1"},
		{0, "", "", "null"},
		{0, "", "", "[]"},
		{1, "/filterChains/-1", "", ""},
		{2, "/filterChains/0/filters/0/typedConfig/statPrefix", "", `"a"`},
		{2, "", "", "{}"},
		{3, "", "/name", ""},
		{3, "/filterChains/-", "/filterChains/0", ""},
		{4, "/name", "", ""},
		{4, "/x~1y", "/address~0", ""},
	} {
		f.Add(uint(s.op), s.path, s.from, s.value, uint(0), "/name", "/name", `"n"`)
	}
	in := parts(f)
	f.Fuzz(func(t *testing.T, op1 uint, path1, from1, value1 string, op2 uint, path2, from2, value2 string) {
		change := meshproxypatch.Change{Operation: meshproxypatch.OpPatch, JSONPatches: []meshproxypatch.JSONPatch{
			{Op: ops[op1%5], Path: path1, From: from1}, {Op: ops[op2%5], Path: path2, From: from2},
		}}
		for i, v := range []string{value1, value2} {
			if json.Valid([]byte(v)) {
				change.JSONPatches[i].Value = json.RawMessage(v)
			}
		}
		r := &resource.Resource{Spec: &meshproxypatch.Spec{SingleSpec: policy.SingleSpec[meshproxypatch.Conf]{Conf: meshproxypatch.Conf{
			AppendModifications: []meshproxypatch.Modification{
				{Cluster: &meshproxypatch.Cluster{Change: change}},
				{Listener: &meshproxypatch.Listener{Change: change}},
				{NetworkFilter: &meshproxypatch.Filter{Change: change}},
				{HTTPFilter: &meshproxypatch.Filter{Change: change}},
				{VirtualHost: &meshproxypatch.VirtualHost{Change: change}},
			},
		}}}}
		out, _ := patch(in, &policy.Rules{Single: &policy.SingleRule{Origin: []*resource.Resource{r}}})
		for _, p := range out {
			var err error
			switch m := p.Message.(type) {
			case *clusterv3.Cluster:
				err = m.ValidateAll()
			case *listenerv3.Listener:
				err = m.ValidateAll()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
}
