package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/insight"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// everyKind stores one resource of each kind, named "one", in the mesh "default".
func everyKind(t *testing.T, s store.Store, kinds *resource.Registry) {
	t.Helper()
	bodies := map[resource.Kind]string{
		resource.KindMesh:           `"skipCreatingInitialPolicies":["*"]`,
		resource.KindDataplane:      `"networking":{"address":"192.0.2.1","inbound":[{"port":80,"tags":{"kuma.io/service":"web"}}]}`,
		resource.KindSecret:         `"data":"eA=="`,
		resource.KindGlobalSecret:   `"data":"eA=="`,
		resource.KindMeshService:    `"spec":{"ports":[{"port":80,"targetPort":"http"}]},"status":{"vips":[{"ip":"241.0.0.1"}]}`,
		resource.KindServiceInsight: `"services":{"one":{"status":"online","dataplanes":{"total":1}}}`,
		resource.KindMeshInsight:    `"dataplanes":{"total":1}`,
		"DataplaneInsight":          `"subscriptions":[{"id":"1","connectTime":"2026-01-01T00:00:00Z","status":{"total":{"responsesSent":"1"}}}]`,
		"MeshTimeout":               `"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s"}}]}`,
	}
	for _, d := range kinds.All() {
		rest, head := bodies[d.Kind], fmt.Sprintf(`{"type":%q,"name":"one"`, d.Kind)
		if d.Scope == resource.ScopeMesh {
			head += `,"mesh":"default"`
		}
		if rest != "" {
			rest = "," + rest
		}
		r, err := kinds.Decode([]byte(head + rest + "}"))
		if err != nil {
			t.Fatalf("%s: %v", d.Kind, err)
		}
		r.Labels = map[string]string{"a": "b"}
		if d.Kind == resource.KindServiceInsight {
			r.Name = insight.ServicesName("default")
		}
		if _, err := s.Commit(t.Context(), store.Op{Action: store.Create, Resource: r}); err != nil {
			t.Fatal(err)
		}
	}
}

type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Parameters  []struct{ Name, In string }
		RequestBody *struct{ Content map[string]any }
		Responses   map[string]struct{ Content map[string]any }
	}
}

// TestOpenAPI asks every endpoint of the document, and checks every answer against what the document says of it.
func TestOpenAPI(t *testing.T) {
	g := start(t, func(c *api.Config) {
		c.EffectiveConfig = func() any { return map[string]any{"mode": "zone"} }
		c.Extra = func(r api.Router) {
			r.Handle("GET /meshes/{mesh}/dataplanes/{name}/_extra", func(w http.ResponseWriter, _ *http.Request) error {
				return api.WriteJSON(w, 200, []int{1})
			}, api.Doc{Summary: "x", Response: []int{}})
		}
	})
	everyKind(t, g.store, registry())
	text := g.do("GET", "/_openapi", "").body
	var doc document
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	schemas := jsonschema.NewCompiler()
	if err := schemas.AddResource("doc:///openapi", whole); err != nil {
		t.Fatal(err)
	}
	check := func(path, method, status, media string, body []byte) {
		t.Helper()
		place := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
		s, err := schemas.Compile("doc:///openapi#/paths/" + place.Replace(path) + "/" + method + "/responses/" + status + "/content/" + place.Replace(media) + "/schema")
		if err != nil {
			t.Errorf("%s %s %s: %v", method, path, status, err)
			return
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err == nil {
			err = s.Validate(value)
		}
		if err != nil {
			t.Errorf("%s %s %s: %v: %s", method, path, status, err, body)
		}
	}
	ids := map[string]bool{}
	asked := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if ids[op.OperationID] {
				t.Errorf("%s names two operations", op.OperationID)
			}
			ids[op.OperationID] = true
			if method == "delete" {
				continue // below, when everything has been seen
			}
			asked++
			request := ""
			if method != "get" {
				request = `{"type":1}`
			}
			target := strings.NewReplacer("{mesh}", "default", "{name}", "one", "{type}", "x").Replace(path)
			a := g.do(strings.ToUpper(method), target, request)
			status := fmt.Sprint(a.status)
			if a.status >= 400 {
				status = "default"
				if method == "get" && !strings.HasSuffix(path, "/{type}") {
					t.Errorf("%s %s: got %d %s", method, target, a.status, a.body)
				}
			}
			media := a.header.Get("Content-Type")
			if _, ok := op.Responses[status].Content[media]; !ok {
				t.Errorf("%s %s: the document does not have %s of %s", method, path, media, status)
				continue
			}
			check(path, method, status, media, []byte(a.body))
		}
	}
	if asked < 100 {
		t.Errorf("only %d endpoints are in the document", asked)
	}
	for path, methods := range doc.Paths {
		if _, ok := methods["delete"]; !ok {
			continue
		}
		a := g.do("DELETE", strings.NewReplacer("{mesh}", "default", "{name}", "none").Replace(path), "")
		check(path, "delete", "default", "application/json", []byte(a.body))
	}
	if doc.Paths["/meshes/{mesh}/dataplanes"]["get"].Responses["200"].Content == nil || len(doc.Paths["/meshes/{mesh}/dataplanes"]["get"].Parameters) != 6 {
		t.Error("the list of Dataplanes is not described")
	}
	// A schema that takes everything would have passed, so that it has to refuse something too.
	s, err := schemas.Compile("doc:///openapi#/components/schemas/MeshTimeout")
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`{"type":"MeshTimeout","mesh":"m","name":"n","spec":{"targetRef":{"kind":"Nope"}}}`, `{"type":"MeshTimeout","mesh":"m","name":"n","spec":{"to":[{"targetRef":{"kind":"mesh"}}]}}`,
		`{"type":"MeshRetry","mesh":"m","name":"n"}`, `{"type":"MeshTimeout","name":"n"}`, `{"type":"MeshTimeout","mesh":"m","name":"n","spec":{"to":{}}}`,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, refused := errors.AsType[*jsonschema.ValidationError](s.Validate(value)); !refused {
			t.Errorf("the schema takes %s", body)
		}
	}
}

// TestOpenAPIHasEveryRoute: what answers is in the document, and what is in the document answers, also in its pattern.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	g := start(t)
	var doc document
	if err := json.Unmarshal([]byte(g.do("GET", "/_openapi", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, d := range registry().All() {
		if d.Hidden {
			continue
		}
		path := "/" + d.Path
		if d.Scope == resource.ScopeMesh {
			path = "/meshes/{mesh}" + path
		}
		if len(doc.Paths[path]) != 1 || len(doc.Paths[path+"/{name}"]) != 3 {
			t.Errorf("%s: the document has %d and %d operations", d.Kind, len(doc.Paths[path]), len(doc.Paths[path+"/{name}"]))
		}
	}
	for _, path := range []string{"/", "/config", "/policies", "/_resources", "/global-insight", "/global-insights", "/who-am-i", "/tokens/dataplane", "/tokens/zone", "/tokens/user"} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not in the document", path)
		}
	}
}

// TestEnumerations: what a schema says of a text is what the check of bodies says.
func TestEnumerations(t *testing.T) {
	g := start(t)
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(g.do("GET", "/_openapi", "").body))
	if err != nil {
		t.Fatal(err)
	}
	schemas := jsonschema.NewCompiler()
	if err := schemas.AddResource("doc:///openapi", whole); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kind, field string // with %s
		good, bad   string
	}{
		{"MeshTrafficPermission", `"mesh":"m","spec":{"from":[{"targetRef":{"kind":"Mesh"},"default":{"action":"%s"}}]}`, "AllowWithShadowDeny", "allow"},
		{"MeshTrafficPermission", `"mesh":"m","spec":{"targetRef":{"kind":"%s"}}`, "MeshSubset", "Nope"},
		{"MeshTimeout", `"mesh":"m","spec":{"targetRef":{"kind":"Mesh","proxyTypes":["%s"]}}`, "Gateway", "Egress"},
		{"MeshService", `"mesh":"m","spec":{"state":"%s"}`, "Available", "available"},
		{"MeshExternalService", `"mesh":"m","spec":{"match":{"protocol":"%s"}}`, "grpc", "udp"},
		{"Dataplane", `"mesh":"m","networking":{"gateway":{"type":"%s"}}`, "BUILTIN", "builtin"},
		{"Mesh", `"meshServices":{"mode":"%s"}`, "Exclusive", "All"},
	} {
		s, err := schemas.Compile("doc:///openapi#/components/schemas/" + tt.kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{tt.good, tt.bad} {
			body, err := jsonschema.UnmarshalJSON(strings.NewReader(fmt.Sprintf(`{"type":%q,"name":"n",`+tt.field+`}`, tt.kind, value)))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(body); (err == nil) != (value == tt.good) {
				t.Errorf("%s %s: %v", tt.kind, value, err)
			}
		}
	}
}
