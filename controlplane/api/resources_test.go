package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	dataplane = `{"type":"Dataplane","mesh":"default","name":"backend-1","networking":{"address":"10.77.0.2","inbound":[{"port":8080,"servicePort":8081,"serviceAddress":"127.0.0.1","tags":{"kuma.io/protocol":"http","kuma.io/service":"backend","kuma.io/zone":"zone-1","version":"v1"}}],"transparentProxying":{"redirectPortInbound":25006,"redirectPortOutbound":25001},"admin":{"port":9922}}}`
	timeout   = `{"type":"MeshTimeout","mesh":"default","name":"x","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s"}}]}}`
	labels    = `{"kuma.io/env":"universal","kuma.io/mesh":"default","kuma.io/origin":"zone","kuma.io/zone":"zone-1"}`
)

// notFound and the like are bodies captured from 2.9.13 (contract controlplane.md, appendix A).
const (
	notFound     = `{"type":"/std-errors","status":404,"title":"Could not retrieve a resource","detail":"Not found","details":"Not found"}`
	meshNotFound = `{"type":"/std-errors","status":404,"title":"Failed to retrieve Mesh","detail":"Not found","details":"Not found"}`
	sizeFormat   = `{"type":"/std-errors","status":400,"title":"Could not retrieve resources","detail":"Invalid page size","invalid_parameters":[{"field":"size","reason":"invalid format"}],"details":"Invalid page size","causes":[{"field":"size","message":"invalid format"}]}`
	sizeTooLarge = `{"type":"/std-errors","status":400,"title":"Could not retrieve resources","detail":"Invalid page size","invalid_parameters":[{"field":"size","reason":"invalid page size of 2000. Maximum page size is 1000"}],"details":"Invalid page size","causes":[{"field":"size","message":"invalid page size of 2000. Maximum page size is 1000"}]}`
	badOffset    = `{"type":"/std-errors","status":400,"title":"Could not retrieve resources","detail":"Invalid offset","invalid_parameters":[{"field":"offset","reason":"Invalid format"}],"details":"Invalid offset","causes":[{"field":"offset","message":"Invalid format"}]}`
)

func withLabels(body string) string {
	return strings.Replace(body, `"name"`, `"labels":`+labels+`,"name"`, 1)
}

func TestCapturedBodies(t *testing.T) {
	g := start(t)
	g.put("/meshes/default/dataplanes/backend-1", dataplane)
	g.put("/meshes/default/dataplanes/frontend-1", strings.Replace(dataplane, "backend-1", "frontend-1", 1))
	stored := withLabels(dataplane)
	for _, test := range []struct {
		path, want string
		status     int
	}{
		{"/", `{"clusterId":"c","gui":"/gui","hostname":"h","instanceId":"i","product":"Kuma","version":"2.9.13"}`, 200},
		{"/who-am-i", `{"name":"mesh-system:admin","groups":["mesh-system:admin","mesh-system:authenticated"]}`, 200},
		{"/meshes/default", `{"type":"Mesh","name":"default"}`, 200},
		{"/meshes/default?format=kubernetes", `{"kind":"Mesh","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"default"},"spec":{}}`, 200},
		{"/meshes", `{"total":1,"items":[{"type":"Mesh","name":"default"}],"next":null}`, 200},
		{"/meshes/default/dataplanes/backend-1", stored, 200},
		{"/meshes/default/dataplanes?size=1", `{"total":2,"items":[` + stored + `],"next":"` + g.url + `/meshes/default/dataplanes?offset=1&size=1"}`, 200},
		{"/dataplanes?name=backend", `{"total":1,"items":[` + stored + `],"next":null}`, 200},
		{"/meshes/default/dataplanes/nope", notFound, 404},
		{"/meshes/nope/dataplanes", meshNotFound, 404},
		{"/meshes/nope/dataplanes/x", meshNotFound, 404},
		{"/meshes?size=abc", sizeFormat, 400},
		{"/meshes?size=2000", sizeTooLarge, 400},
		{"/meshes?offset=zz", badOffset, 400},
		{"/meshes?offset=5", `{"total":1,"items":[],"next":null}`, 200},
	} {
		g.want("GET", test.path, "", test.status, test.want)
	}
	a := g.do("GET", "/meshes/default/dataplanes/backend-1?format=k8s", "")
	same(t, "k8s", a.body, `{"kind":"Dataplane","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"backend-1","namespace":"kuma-system"},"mesh":"default","spec":{`+
		dataplane[strings.Index(dataplane, `"networking"`):]+`}`)
	if !strings.HasPrefix(g.do("GET", "/meshes", "").body, "{\n \"total\": 1,\n \"items\": [\n  {") {
		t.Error("answers are not indented by one space")
	}
	if ns := g.do("GET", "/meshes/default/dataplanes/backend-1?format=k8s&namespace=other", "").body; !strings.Contains(ns, `"namespace": "other"`) {
		t.Errorf("namespace: got %s", ns)
	}
	if a := g.do("GET", "/meshes/default?format=xml", ""); a.status != 400 {
		t.Errorf("format: got %d %s", a.status, a.body)
	}
}

func TestOverview(t *testing.T) {
	g := start(t)
	g.put("/meshes/default/dataplanes/backend-1", dataplane)
	spec := "{" + dataplane[strings.Index(dataplane, `"networking"`):]
	head := `{"type":"DataplaneOverview","mesh":"default","name":"backend-1","labels":` + labels + `,"dataplane":` + spec
	g.want("GET", "/meshes/default/dataplanes/backend-1/_overview", "", 200, head+`}`)
	insight := storetest.Insight("default", "backend-1", "s")
	resource.SpecOf[*resource.DataplaneInsight](insight).Subscriptions[0].ConnectTime = "2026-01-01T00:00:00Z"
	if _, err := g.store.Commit(t.Context(), storetest.Create(insight)); err != nil {
		t.Fatal(err)
	}
	full := head + `,"dataplaneInsight":{"subscriptions":[{"id":"s","connectTime":"2026-01-01T00:00:00Z"}]}}`
	for _, path := range []string{"/meshes/default/dataplanes/backend-1/_overview", "/meshes/default/dataplanes+insights/backend-1"} {
		g.want("GET", path, "", 200, full)
	}
	for _, path := range []string{"/meshes/default/dataplanes/_overview", "/meshes/default/dataplanes+insights", "/dataplanes/_overview"} {
		g.want("GET", path, "", 200, `{"total":1,"items":[`+full+`],"next":null}`)
	}
	g.want("GET", "/meshes/default/dataplanes/nope/_overview", "", 404, notFound)
	g.want("GET", "/zones/_overview", "", 200, `{"total":0,"items":[],"next":null}`)

	var counts struct {
		Dataplanes struct{ Standard struct{ Online, Total int } }
		Services   struct{ Internal struct{ Online, Total int } }
		Resources  map[string]struct{ Total int }
		Meshes     struct{ Total int }
	}
	if err := json.Unmarshal([]byte(g.do("GET", "/global-insight", "").body), &counts); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(counts), "{{{1 1}} {{1 1}} map[Dataplane:{1} Secret:{1}] {1}}"; got != want {
		t.Errorf("global insight: got %s, want %s", got, want)
	}
}

func TestDataplaneFilters(t *testing.T) {
	g := start(t)
	for name, networking := range map[string]string{
		"web-1":   `"inbound":[{"port":80,"tags":{"kuma.io/service":"web","version":"v1"}},{"port":81,"tags":{"kuma.io/service":"web-admin"}}]`,
		"web-2":   `"inbound":[{"port":80,"tags":{"kuma.io/service":"web","version":"v2"}}]`,
		"gw-own":  `"gateway":{"tags":{"kuma.io/service":"gw"}}`,
		"gw-kuma": `"gateway":{"type":"BUILTIN","tags":{"kuma.io/service":"gw"}}`,
	} {
		g.put("/meshes/default/dataplanes/"+name, `{"type":"Dataplane","mesh":"default","name":"`+name+`","networking":{"address":"192.0.2.1",`+networking+`}}`)
	}
	for query, want := range map[string]string{
		"":                              "gw-kuma gw-own web-1 web-2",
		"name=web":                      "web-1 web-2",
		"tag=kuma.io/service:web":       "web-1 web-2",
		"tag=kuma.io/service:web-admin": "web-1",
		"tag=version:v&tag=kuma.io/service:admin": "web-1",
		"tag=version:v2&tag=nope:x":               "",
		"gateway=true":                            "gw-kuma gw-own",
		"gateway=false&name=2":                    "web-2",
		"gateway=builtin":                         "gw-kuma",
		"gateway=delegated":                       "gw-own",
	} {
		var l struct {
			Total int
			Items []struct{ Name string }
		}
		a := g.do("GET", "/meshes/default/dataplanes?"+query, "")
		if err := json.Unmarshal([]byte(a.body), &l); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range l.Items {
			names = append(names, i.Name)
		}
		if got := strings.Join(names, " "); got != want || l.Total != len(names) {
			t.Errorf("%q: got %q of %d, want %q", query, got, l.Total, want)
		}
	}
	for _, query := range []string{"gateway=x", "tag=x", "tag=:x"} {
		if a := g.do("GET", "/meshes/default/dataplanes?"+query, ""); a.status != 400 {
			t.Errorf("%q: got %d, want 400", query, a.status)
		}
	}
	// Pages joined together are the whole list.
	seen, next := "", "/meshes/default/dataplanes?size=3&name=w"
	for next != "" {
		var l struct {
			Items []struct{ Name string }
			Next  string
		}
		if err := json.Unmarshal([]byte(g.do("GET", strings.TrimPrefix(next, g.url), "").body), &l); err != nil {
			t.Fatal(err)
		}
		for _, i := range l.Items {
			seen += i.Name + " "
		}
		next = l.Next
	}
	if seen != "gw-kuma gw-own web-1 web-2 " {
		t.Errorf("pages: got %q", seen)
	}
}

func TestPut(t *testing.T) {
	g := start(t)
	const path = "/meshes/default/meshtimeouts/x"
	if a := g.do("PUT", path, timeout); a.status != 201 || a.body != "" {
		t.Errorf("create: got %d %q", a.status, a.body)
	}
	g.want("GET", path, "", 200, withLabels(timeout))
	// An update keeps exactly the labels of the body.
	if a := g.do("PUT", path, timeout); a.status != 200 || a.body != "" {
		t.Errorf("update: got %d %q", a.status, a.body)
	}
	g.want("GET", path, "", 200, timeout)
	// But for Dataplanes.
	g.put("/meshes/default/dataplanes/backend-1", dataplane)
	g.put("/meshes/default/dataplanes/backend-1", strings.Replace(dataplane, "10.77.0.2", "10.77.0.3", 1))
	g.want("GET", "/meshes/default/dataplanes/backend-1", "", 200, withLabels(strings.Replace(dataplane, "10.77.0.2", "10.77.0.3", 1)))

	deprecated := strings.Replace(timeout, `"spec":{`, `"spec":{"targetRef":{"kind":"MeshService","name":"a"},`, 1)
	g.want("PUT", path, deprecated, 200,
		`{"warnings":["MeshService value for 'targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' tag instead"]}`)

	if a := g.do("DELETE", path, ""); a.status != 200 || a.body != "" {
		t.Errorf("delete: got %d %q", a.status, a.body)
	}
	g.want("DELETE", path, "", 404, strings.Replace(notFound, "retrieve", "delete", 1))
	g.want("PUT", "/meshes/nope/meshtimeouts/x", timeout, 404, meshNotFound)
}

// TestForesee: what will not work is asked of what has been stored, and told with the rest.
func TestForesee(t *testing.T) {
	var asked *resource.Resource
	g := start(t, func(c *api.Config) {
		c.Foresee = func(r *resource.Resource) []string {
			asked = r
			return []string{"on web-1: no"}
		}
	})
	g.want("PUT", "/meshes/default/meshtimeouts/x", timeout, 201, `{"warnings":["on web-1: no"]}`)
	if asked == nil || asked.Name != "x" || asked.Labels[resource.LabelOrigin] == "" {
		t.Errorf("asked about %+v", asked)
	}
	if a := g.do("PUT", "/meshes/default/meshtimeouts/x", strings.Replace(timeout, "MeshTimeout", "MeshRetry", 1)); a.status != 400 || strings.Contains(a.body, "on web-1") {
		t.Errorf("one that is refused: got %d %s", a.status, a.body)
	}
}

// TestStatusSurvives: what the control plane computed must not vanish when somebody applies the file again.
func TestStatusSurvives(t *testing.T) {
	g := start(t)
	const path = "/meshes/default/meshservices/web"
	const body = `{"type":"MeshService","mesh":"default","name":"web","spec":{"ports":[{"port":80,"targetPort":80}],"selector":{"dataplaneTags":{"a":"b"}}}}`
	g.put(path, strings.Replace(body, `"spec"`, `"status":{"vips":[{"ip":"241.0.0.1"}]},"spec"`, 1))
	g.put(path, strings.Replace(body, `"a":"b"`, `"a":"c"`, 1))
	if a := g.do("GET", path, ""); !strings.Contains(a.body, "241.0.0.1") || !strings.Contains(a.body, `"a": "c"`) {
		t.Errorf("got %s", a.body)
	}
}

func TestPutFaults(t *testing.T) {
	g := start(t, func(c *api.Config) { c.MaxBody = 4096 })
	fault := func(field, reason string) string {
		return fmt.Sprintf(`{"type":"/std-errors","status":400,"title":"Could not process a resource","detail":"Resource is not valid","invalid_parameters":[{"field":%q,"reason":%q}],"details":"Resource is not valid","causes":[{"field":%q,"message":%q}]}`, field, reason, field, reason)
	}
	for _, test := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"name", "/meshes/default/meshtimeouts/y", timeout, 400, fault("name", "name from the URL has to be the same as in body")},
		{"mesh", "/meshes/default/meshtimeouts/x", strings.Replace(timeout, `"default"`, `"other"`, 1), 400, fault("mesh", "mesh from the URL has to be the same as in body")},
		{"type", "/meshes/default/meshtimeouts/x", strings.Replace(timeout, "MeshTimeout", "MeshRetry", 1), 400, fault("type", "type from the URL has to be the same as in body")},
		{"no type", "/meshes/default/meshtimeouts/x", `{}`, 400, fault("type", "type from the URL has to be the same as in body")},
		{"null", "/meshes/default/meshtimeouts/x", `null`, 400, fault("type", "type from the URL has to be the same as in body")},
		{"schema before name", "/meshes/default/meshtimeouts/y", strings.Replace(timeout, `"5s"`, `5`, 1), 400, ""},
		{"semantic", "/meshes/default/meshtimeouts/x", `{"type":"MeshTimeout","mesh":"default","name":"x","spec":{"targetRef":{"kind":"Mesh"}}}`, 400, fault("spec", "at least one of 'from', 'to' has to be defined")},
		{"foreign zone", "/meshes/default/meshtimeouts/x", strings.Replace(timeout, `"name"`, `"labels":{"kuma.io/zone":"zone-2"},"name"`, 1), 400, fault(`labels["kuma.io/zone"]`, "kuma.io/zone label should have zone-1 value")},
		{"foreign mesh", "/meshes/default/meshtimeouts/x", strings.Replace(timeout, `"name"`, `"labels":{"kuma.io/mesh":"m"},"name"`, 1), 400, fault(`labels["kuma.io/mesh"]`, "kuma.io/mesh label must not differ from mesh set on resource")},
		{"not JSON", "/meshes/default/meshtimeouts/x", `{"type"`, 400, ""},
		{"empty", "/meshes/default/meshtimeouts/x", ``, 400, ""},
		{"array", "/meshes/default/meshtimeouts/x", `[]`, 400, ""},
		{"two values", "/meshes/default/meshtimeouts/x", timeout + timeout, 400, ""},
		{"too large", "/meshes/default/meshtimeouts/x", `{"type":"` + strings.Repeat("x", 5000), 413, ""},
		{"deep", "/meshes/default/meshtimeouts/x", strings.Repeat("[", 4000), 400, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := g.do("PUT", test.path, test.body)
			if a.status != test.status {
				t.Fatalf("got %d %s, want %d", a.status, a.body, test.status)
			}
			if test.want != "" {
				same(t, "answer", a.body, test.want)
			}
			if test.name == "schema before name" && strings.Contains(a.body, "from the URL") {
				t.Errorf("both stages were reported: %s", a.body)
			}
			if test.name == "not JSON" && !strings.Contains(a.body, `"title": "Bad Request"`) {
				t.Errorf("got %s", a.body)
			}
		})
	}
	if n := len(g.store.List("MeshTimeout", "")); n != 0 {
		t.Errorf("%d resources were stored", n)
	}
}

// TestValidationCases replays what 2.9.13 answered, for the kinds that are registered.
func TestValidationCases(t *testing.T) {
	text, err := os.ReadFile("../../test/conformance/testdata/cases/validation.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Type       resource.Kind
		Spec       json.RawMessage
		Status     int
		Invalid    json.RawMessage `json:"invalid_parameters"`
		Warnings   json.RawMessage
		StoredSpec json.RawMessage `json:"stored_spec"`
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	g := start(t)
	ran := 0
	for i, c := range cases {
		d := registry().ByKind(c.Type)
		if d == nil {
			continue
		}
		ran++
		name := fmt.Sprintf("case-%d", i)
		body, path := fmt.Sprintf(`{"type":%q,"mesh":"default","name":%q,"spec":%s}`, c.Type, name, c.Spec), "/meshes/default/"+d.Path+"/"+name
		if d.Scope == resource.ScopeGlobal {
			body, path = fmt.Sprintf(`{"type":%q,"name":%q,"spec":%s}`, c.Type, name, c.Spec), "/"+d.Path+"/"+name
		}
		t.Run(fmt.Sprintf("%d %s", i, c.Type), func(t *testing.T) {
			a := g.do("PUT", path, body)
			if a.status != c.Status {
				t.Fatalf("got %d %s, want %d", a.status, a.body, c.Status)
			}
			var got struct {
				Invalid  json.RawMessage `json:"invalid_parameters"`
				Warnings json.RawMessage
			}
			if a.body != "" {
				if err := json.Unmarshal([]byte(a.body), &got); err != nil {
					t.Fatal(err)
				}
			}
			same(t, "invalid_parameters", string(got.Invalid), string(c.Invalid))
			same(t, "warnings", string(got.Warnings), string(c.Warnings))
			if c.StoredSpec != nil {
				var stored struct{ Spec json.RawMessage }
				if err := json.Unmarshal([]byte(g.do("GET", path, "").body), &stored); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(plain(string(c.StoredSpec)), plain(string(stored.Spec))); diff != "" {
					t.Errorf("stored spec: -want +got:\n%s", diff)
				}
			}
		})
	}
	if ran < 5 {
		t.Errorf("only %d cases ran", ran)
	}
}

func TestMeshLifecycle(t *testing.T) {
	fail := false
	g := start(t, func(c *api.Config) {
		c.OnMeshCreate = func(_ context.Context, mesh *resource.Resource) ([]store.Op, error) {
			if fail {
				return nil, fmt.Errorf("no entropy")
			}
			return []store.Op{storetest.Create(storetest.Secret(mesh.Name, "made-with", "x"))}, nil
		}
	})
	g.put("/meshes/m", `{"type":"Mesh","name":"m"}`)
	if _, err := g.store.Get(storetest.Secret("m", "made-with", "").Key); err != nil {
		t.Error(err)
	}
	g.put("/meshes/m", `{"type":"Mesh","name":"m","meshServices":{"mode":"Exclusive"}}`) // no second creation
	fail = true
	if a := g.do("PUT", "/meshes/n", `{"type":"Mesh","name":"n"}`); a.status != 500 || strings.Contains(a.body, "entropy") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	g.want("GET", "/meshes/n", "", 404, notFound)

	dp := strings.Replace(dataplane, `"default"`, `"m"`, 1)
	g.put("/meshes/m/dataplanes/backend-1", dp)
	a := g.do("DELETE", "/meshes/m", "")
	if a.status != 400 || !strings.Contains(a.body, "there are still some dataplanes attached") {
		t.Errorf("delete of a mesh in use: got %d %s", a.status, a.body)
	}
	if a := g.do("DELETE", "/meshes/m/dataplanes/backend-1", ""); a.status != 200 {
		t.Error(a)
	}
	if a := g.do("DELETE", "/meshes/m", ""); a.status != 200 {
		t.Error(a)
	}
	if n := len(g.store.List(resource.KindSecret, "m")); n != 0 {
		t.Errorf("%d secrets were left", n)
	}
}

func TestBeforePut(t *testing.T) {
	g := start(t, func(c *api.Config) {
		c.BeforePut = func(_ context.Context, old, next *resource.Resource) ([]resource.Violation, error) {
			if old != nil {
				return []resource.Violation{{Field: "mtls", Reason: "cannot change"}}, nil
			}
			if m, ok := next.Spec.(*resource.Mesh); ok {
				m.SkipCreatingInitialPolicies = []string{"completed"}
			}
			return nil, nil
		}
	})
	g.put("/meshes/m", `{"type":"Mesh","name":"m"}`)
	g.want("GET", "/meshes/m", "", 200, `{"type":"Mesh","name":"m","skipCreatingInitialPolicies":["completed"]}`)
	if a := g.do("PUT", "/meshes/m", `{"type":"Mesh","name":"m"}`); a.status != 400 || !strings.Contains(a.body, "Could not update a resource") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestReadOnlyAndMethods(t *testing.T) {
	g := start(t)
	if a := g.do("PUT", "/meshes/default/dataplane-insights/x", "{}"); a.status != 405 || !strings.Contains(a.body, "Method not allowed") {
		t.Errorf("insight: got %d %s", a.status, a.body)
	}
	if a := g.do("POST", "/meshes/default/dataplanes", "{}"); a.status != 405 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || a.header.Get("Allow") != "GET" {
		t.Errorf("POST: got %d %s", a.status, a.body)
	}
	if a := g.do("GET", "/nope", ""); a.status != 404 || a.body != "404: Page Not Found" {
		t.Errorf("unknown path: got %d %s", a.status, a.body)
	}
	if a := g.do("GET", "/configs", ""); a.status != 404 {
		t.Errorf("hidden kind: got %d", a.status)
	}
	ro := start(t, func(c *api.Config) { c.ReadOnly = true })
	for _, m := range []string{"PUT", "DELETE"} {
		if a := ro.do(m, "/meshes/default", `{"type":"Mesh","name":"default"}`); a.status != 405 {
			t.Errorf("read-only %s: got %d", m, a.status)
		}
	}
}

func TestKinds(t *testing.T) {
	g := start(t)
	for path, want := range map[string]string{
		"/policies":   `"name": "MeshTimeout",`,
		"/_resources": `"hasFromTargetRef": true,`,
	} {
		if a := g.do("GET", path, ""); a.status != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	var l struct{ Resources []map[string]any }
	if err := json.Unmarshal([]byte(g.do("GET", "/_resources", "").body), &l); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Resources {
		if r["name"] == "Dataplane" {
			b, _ := json.Marshal(r)
			same(t, "Dataplane", string(b), `{"includeInFederation":false,"name":"Dataplane","path":"dataplanes","pluralDisplayName":"Dataplanes","readOnly":false,"scope":"Mesh","singularDisplayName":"Dataplane"}`)
		}
	}
	if a := g.do("HEAD", "/meshes", ""); a.status != http.StatusOK {
		t.Errorf("HEAD: got %d", a.status)
	}
}
