package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/resource"
)

func (p *proxies) ZoneAdminEndpoint(kind resource.Kind, name string) (xds.AdminEndpoint, error) {
	if e, err := p.Server.ZoneAdminEndpoint(kind, name); p.endpoint == nil || errors.Is(err, xds.ErrUnknownProxy) {
		return e, err
	}
	return *p.endpoint, nil
}

func (p *proxies) Status(mesh, name string) (*xds.Status, error) {
	s := p.statuses[name]
	if s == nil {
		return p.Server.Status(mesh, name)
	}
	out := *s
	out.Refusals, out.Warnings, out.Suspects = slices.Clone(s.Refusals), slices.Clone(s.Warnings), nil
	for i := range out.Refusals {
		out.Refusals[i].Policies = nil
	}
	for i := range out.Warnings {
		out.Warnings[i].Policies = nil
	}
	return &out, nil
}

func (p *proxies) Blame(mesh, name string, kind resource.Kind) (*xds.Status, error) {
	p.blamed++
	if s := p.statuses[name]; s != nil {
		return s, nil
	}
	return p.Server.Blame(mesh, name, kind)
}

func blamed(kind resource.Kind, name string) []*resource.Resource {
	return []*resource.Resource{{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "c14", Name: name}}}}
}

// refusing is a connected proxy with a listener that is refused, and a warning, because of a policy.
func refusing(kind resource.Kind, name string) *xds.Status {
	return &xds.Status{
		Connected: true,
		Refusals: []xds.Refusal{
			{Type: xds.TypeListener, Resources: []string{"a", "b"}, Reason: "a: no", Since: time.Unix(1e9, 0).UTC(), Policies: blamed(kind, name)},
			{Type: xds.TypeCluster, Resources: []string{"c"}, Reason: "c: no", Since: time.Unix(1e9, 0).UTC()},
		},
		Warnings: []xds.Warning{{Text: string(kind) + " has no effect", Policies: blamed(kind, name)}, {Text: "MeshOther has none either"}},
	}
}

// warned is one without refusals.
func warned(kind resource.Kind, text string, because ...*resource.Resource) *xds.Status {
	return &xds.Status{Connected: true, Warnings: []xds.Warning{{Text: string(kind) + text, Policies: because}}}
}

func TestStatus(t *testing.T) {
	input, err := os.ReadFile(captured + "/14-shadow/input.yaml")
	if err != nil {
		t.Fatal(err)
	}
	input = append(input, zoneProxies...)
	g := start(t, input)
	const empty = `{"connected":false,"refusals":[],"suspects":[],"warnings":[]}`
	for path, want := range map[string]string{
		"/meshes/c14/dataplanes/web-1/_status": empty,
		"/zoneingresses/zi/_status":            empty,
		"/zoneegresses/ze/_status":             empty,
		"/meshes/c14/meshtimeouts/real/_status": `{"resource":{"mesh":"c14","name":"real","type":"MeshTimeout"},
			"total":2,"connected":0,"unexamined":0,"items":[],"warnings":[],"advice":[]}`,
	} {
		status, _, body := g.get(path)
		if status != http.StatusOK || !gocmp.Equal(plain(t, want), plain(t, body)) {
			t.Errorf("%s: got %d %s", path, status, body)
		}
	}
	for _, path := range []string{
		"/meshes/c14/dataplanes/nobody/_status", "/meshes/nowhere/dataplanes/web-1/_status", "/zoneingresses/ze/_status", "/zoneegresses/zi/_status",
		"/meshes/c14/meshtimeouts/nothing/_status", "/meshes/nowhere/meshtimeouts/real/_status", "/meshes/c14/meshproxypatches/real/_status",
	} {
		if status, _, body := g.get(path); status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", path, status, body)
		}
	}
	denied := start(t, input, func(c *api.Config) {
		c.LocalhostIsAdmin = false
		c.Access = new(api.DefaultAccess())
		c.Access.ViewConfigDump = api.List{}
	})
	for _, path := range []string{"/meshes/c14/dataplanes/web-1/_status", "/zoneegresses/ze/_status", "/meshes/c14/meshtimeouts/real/_status"} {
		if status, _, body := denied.get(path); status != http.StatusForbidden {
			t.Errorf("%s without access: got %d %s", path, status, body)
		}
	}

	g.proxies.statuses = map[string]*xds.Status{"web-1": refusing("MeshTimeout", "real")}
	_, _, body := g.get("/meshes/c14/dataplanes/web-1/_status")
	const real = `[{"mesh":"c14","name":"real","type":"MeshTimeout"}]`
	const listener = `{"type":"type.googleapis.com/envoy.config.listener.v3.Listener","resources":["a","b"],"reason":"a: no","since":"2001-09-09T01:46:40Z","policies":` + real + `}`
	want := `{"connected":true,"suspects":[],"refusals":[` + listener + `,
		{"type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","resources":["c"],"reason":"c: no","since":"2001-09-09T01:46:40Z","policies":[]}],
		"warnings":[{"message":"MeshTimeout has no effect","policies":` + real + `},{"message":"MeshOther has none either","policies":[]}]}`
	if diff := gocmp.Diff(plain(t, want), plain(t, body)); diff != "" {
		t.Errorf("status of a proxy (-want +got):\n%s", diff)
	}

	// The policy tells what is because of it: that of one proxy, and of the other nothing.
	g.proxies.statuses["backend-1"] = refusing("MeshTimeout", "another")
	g.proxies.statuses["backend-1"].Warnings = nil
	_, _, body = g.get("/meshes/c14/meshtimeouts/real/_status")
	want = `{"resource":{"mesh":"c14","name":"real","type":"MeshTimeout"},"total":2,"connected":2,"unexamined":0,"advice":[],
		"items":[{"dataplane":{"mesh":"c14","name":"web-1","type":"Dataplane"},"refusals":[` + listener + `]}],
		"warnings":[{"message":"MeshTimeout has no effect","dataplanes":1,"first":"web-1"}]}`
	if diff := gocmp.Diff(plain(t, want), plain(t, body)); diff != "" {
		t.Errorf("status of a policy (-want +got):\n%s", diff)
	}
	g.proxies.statuses["web-1"] = &xds.Status{Connected: true, Failure: "it cannot be made", Suspects: blamed("MeshTimeout", "real")}
	if _, _, body = g.get("/meshes/c14/meshtimeouts/real/_status"); !strings.Contains(body, `"failure": "it cannot be made"`) {
		t.Errorf("status of a policy without which there would be a configuration is %s", body)
	}
	if _, _, body = g.get("/meshes/c14/dataplanes/web-1/_status"); !strings.Contains(body, `"failure": "it cannot be made"`) || !strings.Contains(body, `"suspects": [`) {
		t.Errorf("status of a proxy without a configuration is %s", body)
	}
}

// plain is a value without labels, which the control plane computes.
func plain(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	withoutLabels(v)
	return v
}

func withoutLabels(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "labels")
		for _, e := range v {
			withoutLabels(e)
		}
	case []any:
		for _, e := range v {
			withoutLabels(e)
		}
	}
}

// TestStatusOfPolicies that say nothing now, or were warned of.
func TestStatusOfPolicies(t *testing.T) {
	g := start(t, []byte(`
type: Mesh
name: c14
---
type: Dataplane
mesh: c14
name: web-1
networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: web}}]}
---
type: MeshTimeout
mesh: c14
name: shadow
labels: {kuma.io/effect: shadow}
spec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 4s}}]}
---
type: MeshTimeout
mesh: c14
name: lost
spec: {targetRef: {kind: MeshHTTPRoute, name: nowhere}, to: [{targetRef: {kind: Mesh}, default: {http: {requestTimeout: 4s}}}]}
---
type: MeshRetry
mesh: c14
name: advised
spec: {targetRef: {kind: MeshSubset, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, default: {http: {backOff: {maxInterval: 4s}}}}]}
`))
	for path, want := range map[string]string{
		"meshtimeouts/shadow": "",
		"meshtimeouts/lost":   "couldn't resolve MeshHTTPRoute targetRef with name 'nowhere'",
		"meshretries/advised": "spec.to[0].default.http.backOff.baseInterval: Envoy refuses",
	} {
		_, _, body := g.get("/meshes/c14/" + path + "/_status")
		var got policyStatusBody
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(got.Advice, "|"); got.Total != 0 || !strings.HasPrefix(text, want) || want == "" && text != "" {
			t.Errorf("%s: status is %s", path, body)
		}
	}
}

// TestStatusIsBounded: in a large mesh where every proxy has something wrong, only for some of them it is found out whose
// fault it is, and what is the same everywhere is found out once.
func TestStatusIsBounded(t *testing.T) {
	const proxies = 200
	var input strings.Builder
	input.WriteString("type: Mesh\nname: c14\n---\ntype: MeshTimeout\nmesh: c14\nname: real\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 4s}}]}\n")
	for i := range proxies {
		fmt.Fprintf(&input, "---\ntype: Dataplane\nmesh: c14\nname: dp-%03d\nnetworking: {address: 10.0.0.%d, inbound: [{port: 80, tags: {kuma.io/service: a}}]}\n", i, i+1)
	}
	g := start(t, []byte(input.String()))
	ask := func() (out policyStatusBody) {
		t.Helper()
		g.proxies.blamed = 0
		_, _, body := g.get("/meshes/c14/meshtimeouts/real/_status")
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	g.proxies.statuses = map[string]*xds.Status{}
	for i := range proxies {
		g.proxies.statuses[fmt.Sprintf("dp-%03d", i)] = refusing("MeshTimeout", "real")
	}
	if got := ask(); got.Connected != proxies || len(got.Items) != maxExamined || got.Unexamined != proxies-maxExamined || g.proxies.blamed != maxExamined ||
		len(got.Warnings) != 1 || got.Warnings[0].Dataplanes != proxies {
		t.Errorf("all refuse: %d were looked at, %d connected, %d blame it, %d are not known, warnings %v", g.proxies.blamed, got.Connected, len(got.Items), got.Unexamined, got.Warnings)
	}
	for i := range proxies {
		g.proxies.statuses[fmt.Sprintf("dp-%03d", i)] = warned("MeshTimeout", fmt.Sprint(" has no effect ", i%3), blamed("MeshTimeout", []string{"real", "another", "real"}[i%3])...)
	}
	if got := ask(); g.proxies.blamed != 3 || len(got.Warnings) != 2 || got.Warnings[0].Dataplanes != 67 || got.Warnings[1].First != "dp-002" || got.Unexamined != 0 {
		t.Errorf("all have one of three warnings: %d were looked at, warnings %v", g.proxies.blamed, got.Warnings)
	}
	for i := range proxies {
		g.proxies.statuses[fmt.Sprintf("dp-%03d", i)] = warned("MeshTimeouts", " are another kind")
	}
	if got := ask(); g.proxies.blamed != 0 || len(got.Warnings) != 0 {
		t.Errorf("all have a warning about another kind: %d were looked at, warnings %v", g.proxies.blamed, got.Warnings)
	}
	if err := proxyUnknown(xds.ErrUnknownProxy); err != nil {
		t.Errorf("a proxy that has just gone: %v", err)
	}
	if broken := errors.New("broken"); !errors.Is(proxyUnknown(broken), broken) {
		t.Error("an error is lost")
	}
}
