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
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
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

// anyPolicy returns a policy with its path.
func anyPolicy(rt *rapid.T) (path, body string) {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, label) }
	name := pick("name", "a", "b", "base", "z")
	top := pick("top", `{"kind": "Mesh"}`, `{"kind": "MeshSubset", "tags": {"team": "a"}}`, `{"kind": "MeshSubset", "tags": {"kuma.io/service": "web"}}`)
	to := pick("to", `{"kind": "Mesh"}`, `{"kind": "MeshService", "name": "web"}`, `{"kind": "MeshService", "name": "web", "sectionName": "80"}`)
	span := pick("span", "1s", "5s", "9s")
	kind, spec := "", ""
	switch pick("kind", "timeout", "permission", "passthrough", "breaker", "log", "retry", "tls") {
	case "timeout":
		kind, spec = "MeshTimeout", fmt.Sprintf(`"to": [{"targetRef": %s, "default": {%q: %q}}]`, to, pick("field", "connectionTimeout", "idleTimeout"), span)
	case "permission":
		from := pick("from", `{"kind": "Mesh"}`, `{"kind": "MeshSubset", "tags": {"team": "a"}}`, `{"kind": "MeshSubset", "tags": {"team": "b"}}`)
		kind, spec = "MeshTrafficPermission", fmt.Sprintf(`"from": [{"targetRef": %s, "default": {"action": %q}}]`, from, pick("action", "Allow", "Deny", "AllowWithShadowDeny"))
	case "passthrough":
		kind, spec = "MeshPassthrough", fmt.Sprintf(`"default": {"passthroughMode": %q, "appendMatch": [{"type": "Domain", "value": "a.example", "port": 80, "protocol": %q}]}`,
			pick("mode", "All", "None", "Matched"), pick("protocol", "http", "grpc", "http2"))
	case "breaker":
		kind, spec = "MeshCircuitBreaker", fmt.Sprintf(`"to": [{"targetRef": %s, "default": {"connectionLimits": {"maxConnections": %d}}}]`, to, rapid.IntRange(1, 3).Draw(rt, "max"))
	case "log":
		kind, spec = "MeshAccessLog", fmt.Sprintf(`"to": [{"targetRef": %s, "default": {"backends": [{"type": "File", "file": {"path": "/tmp/%s"}}]}}]`, to, span)
	case "retry":
		kind, spec = "MeshRetry", fmt.Sprintf(`"to": [{"targetRef": %s, "default": {"http": {"numRetries": %d}}}]`, to, rapid.IntRange(1, 3).Draw(rt, "retries"))
	default:
		kind, spec = "MeshTLS", fmt.Sprintf(`"from": [{"targetRef": {"kind": "Mesh"}, "default": {"mode": %q}}]`, pick("mode", "Strict", "Permissive"))
		top = `{"kind": "Mesh"}`
	}
	paths := map[string]string{"MeshTLS": "meshtlses"}
	plural := paths[kind]
	if plural == "" {
		plural = strings.ToLower(kind) + "s"
		if kind == "MeshRetry" {
			plural = "meshretries"
		}
	}
	return "/meshes/m/" + plural + "/" + name, fmt.Sprintf(`{"type": %q, "mesh": "m", "name": %q, "spec": {"targetRef": %s, %s}}`, kind, name, top, spec)
}

// shown is what the inspection endpoints say of a proxy.
type shown struct {
	xds   any
	rules map[string]any
}

func (g *rig) shown(t interface{ Fatalf(string, ...any) }, proxy string) shown {
	var body struct {
		XDS   any `json:"xds"`
		Rules []struct {
			Type string `json:"type"`
		} `json:"rules"`
	}
	out := shown{rules: map[string]any{}}
	for _, what := range []string{"_config", "_rules"} {
		status, _, text := g.get("/meshes/m/dataplanes/" + proxy + "/" + what)
		if err := json.Unmarshal([]byte(text), &body); status != http.StatusOK || err != nil {
			t.Fatalf("%s of %s: %d %s %v", what, proxy, status, text, err)
		}
		if what == "_config" {
			out.xds = body.XDS
			continue
		}
		var generic struct{ Rules []map[string]any }
		if err := json.Unmarshal([]byte(text), &generic); err != nil {
			t.Fatalf("%v", err)
		}
		for _, r := range generic.Rules {
			out.rules[r["type"].(string)] = r
		}
	}
	return out
}

// TestPreviewIsWhatHappens previews random policies, then applies them and compares what became of the proxies.
func TestPreviewIsWhatHappens(t *testing.T) {
	g := start(t, []byte(previewWorld))
	proxies := []string{"store-1", "web-1", "web-2"}
	stored := map[string]string{}
	rapid.Check(t, func(rt *rapid.T) {
		for path := range stored {
			if status, text := g.send(http.MethodDelete, path, ""); status >= 300 {
				rt.Fatalf("DELETE %s: %d %s", path, status, text)
			}
		}
		clear(stored)
		g.settle()
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			path, body := anyPolicy(rt)
			method, query := http.MethodPut, ""
			if stored[path] != "" && rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
				method, query, body = http.MethodDelete, "?delete=true", stored[path]
			}
			before := map[string]shown{}
			for _, p := range proxies {
				before[p] = g.shown(rt, p)
			}
			status, text := g.post("/_preview"+query, body)
			var preview previewBody
			if err := json.Unmarshal([]byte(text), &preview); status != http.StatusOK || err != nil {
				rt.Fatalf("preview of %s: %d %s", body, status, text)
			}
			sent := body
			if method == http.MethodDelete {
				sent = ""
			}
			if status, text := g.send(method, path, sent); status >= 300 {
				rt.Fatalf("%s %s: %d %s", method, path, status, text)
			}
			g.settle()
			if stored[path] = body; method == http.MethodDelete {
				delete(stored, path)
			}
			said := map[string]previewProxy{}
			for _, p := range preview.Proxies {
				said[p.Name] = p
			}
			for _, p := range proxies {
				now := g.shown(rt, p)
				want, err := apply(before[p].xds, said[p].Diff)
				if err != nil {
					rt.Fatalf("the patch for %s does not apply: %v", p, err)
				}
				if diff := gocmp.Diff(want, now.xds); diff != "" {
					rt.Fatalf("configuration of %s after %s %s (-preview +applied):\n%s", p, method, body, diff)
				}
				rules := map[string]any{}
				for kind, r := range before[p].rules {
					rules[kind] = r
				}
				for _, c := range said[p].Rules {
					delete(rules, string(c.Type))
					if _, ok := now.rules[string(c.Type)]; c.After != nil && ok {
						b, err := json.Marshal(c.After)
						if err != nil {
							rt.Fatal(err)
						}
						var v any
						if err := json.Unmarshal(b, &v); err != nil {
							rt.Fatal(err)
						}
						rules[string(c.Type)] = v
					}
				}
				if diff := gocmp.Diff(rules, now.rules); diff != "" {
					rt.Fatalf("rules of %s after %s %s (-preview +applied):\n%s", p, method, body, diff)
				}
			}
		}
	})
}
