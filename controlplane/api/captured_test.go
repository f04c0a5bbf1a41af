package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// TestCapturedFaults are answers of 2.9.13 (contract controlplane.md, appendix A).
func TestCapturedFaults(t *testing.T) {
	g := start(t)
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/meshes/default?format=xml", "", 400, `{"type":"/std-errors","status":400,"title":"invalid format","detail":"Resource is not valid","invalid_parameters":[{"field":"","reason":"\"format\" must be one of [\"k8s\", \"kubernetes\", \"universal\"]"}],"details":"Resource is not valid","causes":[{"field":"","message":"\"format\" must be one of [\"k8s\", \"kubernetes\", \"universal\"]"}]}`},
		{"GET", "/meshes/default/dataplanes?gateway=foo", "", 400, "{\"type\":\"/std-errors\",\"status\":400,\"title\":\"Could not retrieve resources\",\"detail\":\"Resource is not valid\",\"invalid_parameters\":[{\"field\":\"/meshes/{mesh}/dataplanes.gateway\",\"reason\":\"shoud use `true`, `false`, 'builtin' or 'delegated' instead of foo\"}],\"details\":\"Resource is not valid\",\"causes\":[{\"field\":\"/meshes/{mesh}/dataplanes.gateway\",\"message\":\"shoud use `true`, `false`, 'builtin' or 'delegated' instead of foo\"}]}"},
		{"PUT", "/meshes/default/meshtrafficpermissions/x", `{"type":"MeshTrafficPermission","mesh":"default","name":"x","spec":{}}`, 400, `{"type":"/std-errors","status":400,"title":"Could not process a resource","detail":"Resource is not valid","invalid_parameters":[{"field":"spec.from","reason":"needs at least one item"}],"details":"Resource is not valid","causes":[{"field":"spec.from","message":"needs at least one item"}]}`},
		{"PUT", "/meshes/default/meshtrafficpermissions/x", `{bad`, 400, `{"type":"/std-errors","status":400,"title":"Bad Request","detail":"invalid MeshTrafficPermission object: \"invalid character 'b' looking for beginning of object key string\"","details":"invalid MeshTrafficPermission object: \"invalid character 'b' looking for beginning of object key string\""}`},
		{"PUT", "/meshes/nope/meshtrafficpermissions/x", `{}`, 404, meshNotFound},
		{"GET", "/meshes/default/dataplanes/frontend-1/foo", "", 404, `{"type":"/std-errors","status":404,"title":"Could not execute admin operation","detail":"Not found","details":"Not found"}`},
		{"POST", "/tokens/dataplane", `{"validFor":"zz","type":"bb"}`, 400, `{"type":"/std-errors","status":400,"title":"Invalid request","detail":"Resource is not valid","invalid_parameters":[{"field":"mesh","reason":"cannot be empty"},{"field":"validFor","reason":"is invalid: time: invalid duration \"zz\""},{"field":"type","reason":"bb is not a valid proxy type"}],"details":"Resource is not valid","causes":[{"field":"mesh","message":"cannot be empty"},{"field":"validFor","message":"is invalid: time: invalid duration \"zz\""},{"field":"type","message":"bb is not a valid proxy type"}]}`},
	} {
		g.want(test.method, test.path, test.body, test.status, test.want)
	}
	for _, path := range []string{"/versions", "/meshes/default/_overview", "/_kri/kri_m__"} {
		if a := g.do("GET", path, ""); a.status != 404 || a.body != "404: Page Not Found" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: got %d %s %s", path, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
}

// TestInsights: the stored sums are shown as one resource for each service, and the names of older clients work.
func TestInsights(t *testing.T) {
	g := start(t)
	for _, body := range []string{
		`{"type":"Mesh","name":"other"}`,
		`{"type":"ServiceInsight","mesh":"default","name":"all-services-default","services":{
			"frontend":{"status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"frontend.mesh:80","zones":["zone-1"]},
			"backend":{"status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"backend.mesh:80","zones":["zone-1"]}}}`,
		`{"type":"ServiceInsight","mesh":"other","name":"all-services-other","services":{"x":{"status":"offline"}}}`,
		`{"type":"ZoneIngress","name":"in","networking":{"address":"192.0.2.1","port":10001}}`,
		`{"type":"ZoneEgress","name":"out","networking":{"address":"192.0.2.1","port":10002}}`,
		`{"type":"ZoneEgressInsight","name":"out","subscriptions":[{"id":"1","connectTime":"2026-01-01T00:00:00Z"}]}`,
		`{"type":"Zone","name":"zone-1"}`,
	} {
		r, err := registry().Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.store.Commit(t.Context(), store.Op{Action: store.Create, Resource: r}); err != nil {
			t.Fatal(err)
		}
	}
	one := func(name string) string {
		return `{"type":"ServiceInsight","mesh":"default","name":"` + name + `","status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"` + name + `.mesh:80","zones":["zone-1"]}`
	}
	g.want("GET", "/meshes/default/service-insights", "", 200, `{"total":2,"items":[`+one("backend")+`,`+one("frontend")+`],"next":null}`)
	g.want("GET", "/meshes/default/service-insights?size=1", "", 200, `{"total":2,"items":[`+one("backend")+`],"next":"`+g.url+`/meshes/default/service-insights?offset=1&size=1"}`)
	g.want("GET", "/meshes/default/service-insights?name=front", "", 200, `{"total":1,"items":[`+one("frontend")+`],"next":null}`)
	g.want("GET", "/meshes/default/service-insights/backend", "", 200, one("backend"))
	g.want("GET", "/meshes/default/service-insights/all-services-default", "", 404, notFound)
	g.want("GET", "/service-insights?name=x", "", 200, `{"total":1,"items":[{"type":"ServiceInsight","mesh":"other","name":"x","status":"offline"}],"next":null}`)

	egress := `{"type":"ZoneEgressOverview","name":"out","zoneEgress":{"networking":{"address":"192.0.2.1","port":10002}},"zoneEgressInsight":{"subscriptions":[{"id":"1","connectTime":"2026-01-01T00:00:00Z"}]}}`
	ingress := `{"type":"ZoneIngressOverview","name":"in","zoneIngress":{"networking":{"address":"192.0.2.1","port":10001}}}`
	zone := `{"type":"ZoneOverview","name":"zone-1","zone":{}}`
	for path, want := range map[string]string{
		"/zoneegresses/_overview": egress, "/zoneegressoverviews": egress,
		"/zone-ingresses/_overview": ingress, "/zoneingresses+insights": ingress,
		"/zones/_overview": zone, "/zones+insights": zone,
	} {
		g.want("GET", path, "", 200, `{"total":1,"items":[`+want+`],"next":null}`)
	}
	for path, want := range map[string]string{
		"/zoneegresses/out/_overview": egress, "/zoneegressoverviews/out": egress, "/zoneingresses+insights/in": ingress, "/zones+insights/zone-1": zone,
	} {
		g.want("GET", path, "", 200, want)
	}
	var counts struct {
		Zones json.RawMessage
	}
	if err := json.Unmarshal([]byte(g.do("GET", "/global-insight", "").body), &counts); err != nil {
		t.Fatal(err)
	}
	same(t, "zones", string(counts.Zones), `{"controlPlanes":{"online":0,"total":0},"zoneEgresses":{"online":1,"total":1},"zoneIngresses":{"online":0,"total":0}}`)
	older, _ := plain(g.do("GET", "/global-insights", "").body).(map[string]any)
	text, err := json.Marshal(older)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "/global-insights", string(text), `{"type":"GlobalInsights","resources":{"GlobalSecret":{"total":1},"HostnameGenerator":{"total":0},"Mesh":{"total":2},"Zone":{"total":1},"ZoneEgress":{"total":1},"ZoneIngress":{"total":1}}}`)
}

func TestZoneToken(t *testing.T) {
	g := start(t)
	if a := g.do("POST", "/tokens/zone", `{"zone":"east","scope":["egress"]}`); a.status != 404 || !strings.Contains(a.body, `"title": "Signing Key not found"`) {
		t.Errorf("without a key: got %d %s", a.status, a.body)
	}
	key := signingKey(t, "").Resource.Clone()
	key.Name = "zone-token-signing-key-1"
	if _, err := g.store.Commit(t.Context(), store.Op{Action: store.Create, Resource: key}); err != nil {
		t.Fatal(err)
	}
	a := g.do("POST", "/tokens/zone", `{"zone":"east","scope":["egress","ingress"],"validFor":"1h"}`)
	if a.status != 200 || a.header.Get("Content-Type") != "text/plain" || !strings.HasPrefix(a.body, "eyJ") {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	// It opens nothing here.
	if a := g.do("GET", "/global-secrets", "", "Authorization", "Bearer "+a.body, "X-Forwarded-For", "192.0.2.1"); a.status != 401 {
		t.Errorf("as a user token: got %d", a.status)
	}
	for name, test := range map[string]struct{ body, field string }{
		"no scope":  {`{"zone":"east"}`, "scope"},
		"bad scope": {`{"scope":["egress","cp"]}`, "scope[1]"},
		"validity":  {`{"scope":["egress"],"validFor":"-1h"}`, "validFor"},
	} {
		if a := g.do("POST", "/tokens/zone", test.body); a.status != 400 || !strings.Contains(a.body, `"field": "`+test.field+`"`) || strings.Count(a.body, `"field"`) != 2 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	far := &rig{t: t, store: g.store, url: g.url, header: map[string][]string{"X-Forwarded-For": {"192.0.2.1"}}}
	if a := far.do("POST", "/tokens/zone", `{"scope":["egress"]}`); a.status != 403 {
		t.Errorf("a stranger: got %d", a.status)
	}
}

// TestIssuersAreOffApart: each kind of token may be issued offline for itself.
func TestIssuersAreOffApart(t *testing.T) {
	bodies := map[string]string{"dataplane": `{"mesh":"default"}`, "zone": `{"scope":["egress"]}`, "user": `{"name":"a","validFor":"1h"}`}
	for off, option := range map[string]func(*api.Config){
		"dataplane": func(c *api.Config) { c.DisableDataplaneIssuer = true },
		"zone":      func(c *api.Config) { c.DisableZoneIssuer = true },
		"user":      func(c *api.Config) { c.DisableUserIssuer = true },
	} {
		g := start(t, option)
		for kind, body := range bodies {
			a := g.do("POST", "/tokens/"+kind, body)
			if disabled := a.status == 400 && strings.Contains(a.body, "is disabled"); disabled != (kind == off) {
				t.Errorf("without the issuer of %s tokens, %s: got %d %s", off, kind, a.status, a.body)
			}
		}
	}
}

// TestStoredKindsShow: every kind can be read in both forms.
func TestStoredKindsShow(t *testing.T) {
	g := start(t)
	everyKind(t, g.store, registry())
	for _, d := range registry().All() {
		path := "/" + d.Path + "/one"
		if d.Scope == resource.ScopeMesh {
			path = "/meshes/default" + path
		}
		if d.Hidden {
			continue
		}
		for _, format := range []string{"", "?format=universal", "?format=k8s", "?format=kubernetes&namespace=a"} {
			if a := g.do("GET", path+format, ""); a.status != 200 || !strings.Contains(a.body, `"one"`) {
				t.Errorf("%s%s: got %d %s", path, format, a.status, a.body)
			}
		}
	}
}
