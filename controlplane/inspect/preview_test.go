package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/resource"
)

const previewWorld = `
type: Mesh
name: m
meshServices: {mode: Exclusive}
mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}
---
type: Dataplane
mesh: m
name: web-1
networking:
  address: 10.0.0.1
  inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http, team: a}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
---
type: Dataplane
mesh: m
name: web-2
networking:
  address: 10.0.0.2
  inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http, team: b}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
---
type: Dataplane
mesh: m
name: store-1
networking:
  address: 10.0.0.3
  inbound: [{port: 9000, tags: {kuma.io/service: store, kuma.io/protocol: tcp, team: a}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
---
type: MeshService
mesh: m
name: web
spec: {selector: {dataplaneTags: {kuma.io/service: web}}, ports: [{port: 80, targetPort: 8080, appProtocol: http}]}
---
type: MeshTimeout
mesh: m
name: base
spec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 5s, http: {requestTimeout: 15s}}}]}
`

func (g *rig) post(path, body string) (int, string) { return g.send(http.MethodPost, path, body) }

func (g *rig) send(method, path, body string) (int, string) {
	req, err := http.NewRequest(method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (g *rig) preview(query, body string) previewBody {
	g.t.Helper()
	status, text := g.post("/_preview"+query, body)
	var out previewBody
	if err := json.Unmarshal([]byte(text), &out); status != http.StatusOK || err != nil {
		g.t.Fatalf("preview of %s: %d %s %v", body, status, text, err)
	}
	return out
}

func timeoutOf(name, top, conf string) string {
	return fmt.Sprintf(`{"type": "MeshTimeout", "mesh": "m", "name": %q, "spec": {"targetRef": %s, "to": [{"targetRef": {"kind": "Mesh"}, "default": %s}]}}`, name, top, conf)
}

func names(list []previewProxy) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.Name
	}
	return out
}

func TestPreview(t *testing.T) {
	g := start(t, []byte(previewWorld))
	const everywhere, teamA = `{"kind": "Mesh"}`, `{"kind": "MeshSubset", "tags": {"team": "a"}}`
	t.Run("what is overridden", func(t *testing.T) {
		got := g.preview("", timeoutOf("new", teamA, `{"connectionTimeout": "1s"}`))
		if want := []string{"store-1", "web-1"}; !slices.Equal(names(got.Proxies), want) {
			t.Errorf("changed are %v, want %v", names(got.Proxies), want)
		}
		want := []previewResource{{
			Type: "MeshTimeout", Mesh: "m", Name: "new", Action: "create", Matched: 2, ShadowedBy: []previewOverride{},
			Shadows:  []previewOverride{{Mesh: "m", Name: "base", Fields: []string{"to Mesh m: connectionTimeout"}, Proxies: 2}},
			Warnings: got.Resources[0].Warnings,
		}}
		if diff := gocmp.Diff(want, got.Resources); diff != "" {
			t.Errorf("resources (-want +got):\n%s", diff)
		}
		if text := fmt.Sprint(got.Proxies[1].Diff); !strings.Contains(text, "m_web__zone-a_msvc_80/connectTimeout") || !strings.Contains(text, "5s") || !strings.Contains(text, "1s") {
			t.Errorf("the patch does not tell old and new: %s", text)
		}
		rules := got.Proxies[1].Rules
		if len(rules) != 1 || rules[0].Type != "MeshTimeout" || rules[0].Before == nil || rules[0].After == nil {
			t.Errorf("rules are %+v", rules)
		}
	})
	t.Run("whole", func(t *testing.T) {
		got := g.preview("", timeoutOf("aaa", everywhere, `{"connectionTimeout": "1s", "http": {"requestTimeout": "1s"}}`))
		if s := got.Resources[0].Shadows; len(s) != 1 || !s[0].Whole || s[0].Proxies != 3 || len(s[0].Fields) != 2 {
			t.Errorf("shadows are %+v", s)
		}
		if s := g.preview("", timeoutOf("aaa", everywhere, `{"connectionTimeout": "5s"}`)).Resources[0].Shadows; len(s) != 0 {
			t.Errorf("the same value shadows %+v", s)
		}
		got = g.preview("", timeoutOf("zzz", everywhere, `{"connectionTimeout": "1s"}`))
		if s := got.Resources[0].ShadowedBy; len(s) != 1 || !s[0].Whole || s[0].Name != "base" || len(got.Resources[0].Shadows) != 0 {
			t.Errorf("shadowed by %+v", s)
		}
		if len(got.Proxies) != 0 && len(got.Proxies[0].Diff) != 0 {
			t.Errorf("a shadowed policy changes %+v", got.Proxies[0].Diff)
		}
	})
	t.Run("clients", func(t *testing.T) {
		got := g.preview("", `[{"type": "MeshTrafficPermission", "mesh": "m", "name": "one", "spec": {"from": [{"targetRef": {"kind": "Mesh"}, "default": {"action": "Allow"}}]}},
			{"type": "MeshTrafficPermission", "mesh": "m", "name": "two", "spec": {"targetRef": {"kind": "MeshSubset", "tags": {"team": "b"}}, "from": [{"targetRef": {"kind": "Mesh"}, "default": {"action": "Deny"}}]}}]`)
		if len(got.Resources) != 2 || len(got.Resources[0].ShadowedBy) != 1 || got.Resources[1].Shadows[0].Fields[0] != "from at inbound 8080: action" {
			t.Errorf("resources are %+v", got.Resources)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		_, _, stored := g.get("/meshes/m/meshtimeouts/base")
		got := g.preview("", stored)
		if len(got.Proxies) != 0 || got.Resources[0].Action != "none" {
			t.Errorf("what is stored already changes %v as %s", names(got.Proxies), got.Resources[0].Action)
		}
	})
	t.Run("a mesh and what is in it", func(t *testing.T) {
		got := g.preview("", `[{"type": "Mesh", "name": "next"}, {"type": "Dataplane", "mesh": "next", "name": "d", "networking": {"address": "10.1.1.1", "inbound": [{"port": 1, "tags": {"kuma.io/service": "s"}}]}}]`)
		if !slices.Equal(names(got.Proxies), []string{"d"}) || len(got.Proxies[0].Diff) == 0 {
			t.Errorf("proxies are %+v", got.Proxies)
		}
	})
	t.Run("removal", func(t *testing.T) {
		got := g.preview("?delete=true", `{"type": "MeshTimeout", "mesh": "m", "name": "base"}`)
		if len(got.Proxies) != 3 || got.Resources[0].Action != "delete" || got.Proxies[0].Rules[0].After != nil {
			t.Errorf("got %+v", got)
		}
	})
	if status, _, _ := g.get("/meshes/m/meshtimeouts/new"); status != http.StatusNotFound {
		t.Error("a preview stores what it is asked about")
	}
}

// TestPreviewRefuses compares the answers with those of a PUT.
func TestPreviewRefuses(t *testing.T) {
	g := start(t, []byte(previewWorld))
	for path, body := range map[string]string{
		"/meshes/m/meshtimeouts/a":       timeoutOf("a", `{"kind": "Mesh"}`, `{}`),
		"/meshes/m/meshtimeouts/b":       timeoutOf("b", `{"kind": "Nothing"}`, `{"connectionTimeout": "1s"}`),
		"/meshes/m/meshtimeouts/c":       `{"type": "MeshTimeout", "mesh": "m", "name": "c", "spec": {"to": 5}}`,
		"/meshes/absent/meshtimeouts/d":  strings.Replace(timeoutOf("d", `{"kind": "Mesh"}`, `{"connectionTimeout": "1s"}`), `"m"`, `"absent"`, 1),
		"/meshes/m/meshtimeouts/Wrong_N": timeoutOf("Wrong_N", `{"kind": "Mesh"}`, `{"connectionTimeout": "1s"}`),
	} {
		wantStatus, want := g.send(http.MethodPut, path, body)
		status, got := g.post("/_preview", body)
		if status != wantStatus || got != want || status < 400 {
			t.Errorf("preview of %s: %d %s\nPUT says %d %s", body, status, got, wantStatus, want)
		}
		ok := timeoutOf("ok", `{"kind": "Mesh"}`, `{"connectionTimeout": "1s"}`)
		if status, got := g.post("/_preview", "["+ok+","+body+"]"); status != wantStatus || !strings.Contains(got, "resource 2: ") {
			t.Errorf("in a list: %d %s", status, got)
		}
	}
	for body, want := range map[string]int{`[]`: 400, `5`: 400, `{`: 400, `{"type": "Nothing"}`: 400, `{"type": "MeshTimeout", "name": "a"}`: 400, `{"type": "DataplaneInsight", "mesh": "m", "name": "a"}`: 405} {
		if status, got := g.post("/_preview", body); status != want {
			t.Errorf("preview of %s: %d %s, want %d", body, status, got, want)
		}
	}
	if status, got := g.post("/_preview?delete=true", `{"type": "Mesh", "name": "m"}`); status != http.StatusBadRequest || !strings.Contains(got, "dataplanes attached") {
		t.Errorf("removal of a mesh with proxies: %d %s", status, got)
	}
	if status, _ := g.post("/_preview?delete=true", `{"type": "MeshTimeout", "mesh": "m", "name": "absent"}`); status != http.StatusNotFound {
		t.Errorf("removal of nothing: %d", status)
	}
	closed := start(t, []byte(previewWorld), func(c *api.Config) {
		access := api.DefaultAccess()
		access.ViewConfigDump, c.LocalhostIsAdmin = api.List{}, false
		c.Access = &access
	})
	if status, _ := closed.post("/_preview", timeoutOf("a", `{"kind": "Mesh"}`, `{"connectionTimeout": "1s"}`)); status != http.StatusForbidden {
		t.Errorf("without the right to see configurations: %d", status)
	}
}

// TestPreviewOfRules: rules are told as `_rules` would show them, also where nothing else changes.
func TestPreviewOfRules(t *testing.T) {
	const toWeb = `{"type": "MeshTCPRoute", "mesh": "m", "name": "r", "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": {"kind": "MeshService", "name": "web"},
		"rules": [{"default": {"backendRefs": [{"kind": "MeshService", "name": "web", "port": 80}]}}]}]}}`
	const web = `{"type": "MeshService", "mesh": "m", "name": "web", "labels": {"tier": "gold", "kuma.io/origin": "zone", "kuma.io/zone": "zone-a"},
		"spec": {"selector": {"dataplaneTags": {"kuma.io/service": "web"}}, "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "http"}]}}`
	const lone = `
---
type: Dataplane
mesh: m
name: lone-1
networking:
  address: 10.0.0.4
  inbound: [{port: 9000, tags: {kuma.io/service: lone}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001, reachableBackends: {refs: [{kind: MeshService, name: other}]}}
`
	g := start(t, []byte(previewWorld+lone))
	of := func(p previewBody, proxy string, kind resource.Kind) (previewProxy, previewRules) {
		t.Helper()
		for _, one := range p.Proxies {
			for _, r := range one.Rules {
				if one.Name == proxy && r.Type == kind {
					return one, r
				}
			}
		}
		t.Fatalf("no rules of %s of %s in %+v", kind, proxy, p)
		return previewProxy{}, previewRules{}
	}
	t.Run("what a patch cannot do", func(t *testing.T) {
		_, r := of(g.preview("", `{"type": "MeshProxyPatch", "mesh": "m", "name": "p", "spec": {"targetRef": {"kind": "Mesh"},
			"default": {"appendModifications": [{"cluster": {"operation": "Patch", "jsonPatches": [{"op": "replace", "path": "/nothing", "value": 1}]}}]}}}`), "web-1", "MeshProxyPatch")
		if r.After == nil || len(r.After.Warnings) != 1 || !strings.Contains(r.After.Warnings[0], "is left out") {
			t.Errorf("after are %+v", r.After)
		}
	})
	t.Run("labels of what they are about", func(t *testing.T) {
		_, r := of(g.preview("", "["+toWeb+","+web+"]"), "web-1", "MeshTCPRoute")
		if l := r.After.ToResourceRules[0].Meta.Labels; l["tier"] != "gold" {
			t.Errorf("labels are %v", l)
		}
		if status, text := g.send(http.MethodPut, "/meshes/m/meshtcproutes/r", toWeb); status >= 300 {
			t.Fatalf("%d %s", status, text)
		}
		_, r = of(g.preview("", web), "web-1", "MeshTCPRoute")
		if a, b := r.Before.ToResourceRules[0].Meta.Labels["tier"], r.After.ToResourceRules[0].Meta.Labels["tier"]; a != "" || b != "gold" {
			t.Errorf("the label was %q and will be %q", a, b)
		}
	})
	t.Run("by tags in another mode", func(t *testing.T) {
		_, r := of(g.preview("", `{"type": "Mesh", "name": "m", "meshServices": {"mode": "Everywhere"}, "mtls": {"enabledBackend": "ca", "backends": [{"name": "ca", "type": "builtin"}]}}`), "web-1", "MeshTCPRoute")
		if len(r.Before.ToRules) != 0 || len(r.After.ToRules) == 0 {
			t.Errorf("rules by tags before and after: %v, %v", r.Before.ToRules, r.After.ToRules)
		}
	})
	t.Run("about what a proxy does not reach", func(t *testing.T) {
		p, r := of(g.preview("?delete=true", `{"type": "MeshService", "mesh": "m", "name": "web"}`), "lone-1", "MeshTCPRoute")
		if len(p.Diff) > 0 || len(r.Before.ToResourceRules) != 1 || r.After != nil && len(r.After.ToResourceRules) != 0 {
			t.Errorf("rules are %+v and %+v, the configuration changes by %v", r.Before, r.After, p.Diff)
		}
	})
}
