package api_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// faults are pairs of field and reason.
type faults [][2]string

// errorText is the whole body of an error (contract controlplane.md §2.2).
func errorText(t *testing.T, status int, title, detail string, invalid faults) string {
	t.Helper()
	body := map[string]any{"type": "/std-errors", "status": status, "title": title, "detail": detail, "details": detail}
	var parameters, causes []any
	for _, f := range invalid {
		parameters = append(parameters, map[string]any{"field": f[0], "reason": f[1]})
		causes = append(causes, map[string]any{"field": f[0], "message": f[1]})
	}
	if len(invalid) > 0 {
		body["invalid_parameters"], body["causes"] = parameters, causes
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	process   = "Could not process a resource"
	notValid  = "Resource is not valid"
	subdomain = "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
	oldName   = "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols."
	nameInURL = "name from the URL has to be the same as in body"
	typeInURL = "type from the URL has to be the same as in body"
	meshInURL = "mesh from the URL has to be the same as in body"
)

// TestTitles has an error of every operation (contract controlplane.md §2.2).
func TestTitles(t *testing.T) {
	g := start(t)
	g.put("/meshes/default/dataplanes/backend-1", dataplane)
	for _, tt := range []struct {
		method, path, body string
		status             int
		title, detail      string
		invalid            faults
	}{
		{"GET", "/meshes/nope", "", 404, "Could not retrieve a resource", "Not found", nil},
		{"GET", "/meshes/default/dataplanes/nope", "", 404, "Could not retrieve a resource", "Not found", nil},
		{"GET", "/meshes/default/dataplanes/nope/_overview", "", 404, "Could not retrieve a resource", "Not found", nil},
		{"GET", "/zones/nope/_overview", "", 404, "Could not retrieve a resource", "Not found", nil},
		{"GET", "/meshes/nope/dataplanes/nope/_overview", "", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"GET", "/meshes/nope/dataplanes", "", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"GET", "/meshes/nope/dataplanes/_overview", "", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"GET", "/meshes/nope/dataplanes/x", "", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"PUT", "/meshes/nope/meshtimeouts/x", timeout, 404, "Failed to retrieve Mesh", "Not found", nil},
		{"PUT", "/meshes/nope/meshtimeouts/x", "{bad", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"DELETE", "/meshes/nope/meshtimeouts/x", "", 404, "Failed to retrieve Mesh", "Not found", nil},
		{"DELETE", "/meshes/nope", "", 404, "Could not delete a resource", "Not found", nil},
		{"DELETE", "/meshes/default/meshtimeouts/x", "", 404, "Could not delete a resource", "Not found", nil},
		{"DELETE", "/meshes/default", "", 400, "Could not delete a resource", notValid, faults{{"mesh", "unable to delete mesh, there are still some dataplanes attached"}}},
		{"GET", "/meshes/default/dataplanes/backend-1/nope", "", 404, "Could not execute admin operation", "Not found", nil},
		{"GET", "/zoneingresses/nope/nope", "", 404, "Could not execute admin operation", "Not found", nil},
		{"GET", "/zoneegresses/nope/nope", "", 404, "Could not execute admin operation", "Not found", nil},
		{"GET", "/meshes/default/dataplanes?gateway=foo", "", 400, "Could not retrieve resources", notValid, faults{{"/meshes/{mesh}/dataplanes.gateway", "shoud use `true`, `false`, 'builtin' or 'delegated' instead of foo"}}},
		{"GET", "/dataplanes?gateway=foo", "", 400, "Could not retrieve resources", notValid, faults{{"/dataplanes.gateway", "shoud use `true`, `false`, 'builtin' or 'delegated' instead of foo"}}},
		{"PUT", "/meshes/default/meshtimeouts/x", "", 400, "Bad Request", `invalid MeshTimeout object: "unexpected end of JSON input"`, nil},
		{"PUT", "/meshes/default/meshtimeouts/x", "{bad", 400, "Bad Request", `invalid MeshTimeout object: "invalid character 'b' looking for beginning of object key string"`, nil},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			g.want(tt.method, tt.path, tt.body, tt.status, errorText(t, tt.status, tt.title, tt.detail, tt.invalid))
		})
	}
}

// TestPages: size and offset, their errors, the order and the total (contract controlplane.md §2.1).
func TestPages(t *testing.T) {
	g := start(t)
	ops := []store.Op{storetest.Create(storetest.Mesh("a"))}
	for i := 104; i >= 0; i-- { // stored in another order than they are shown in
		ops = append(ops, storetest.Create(storetest.Dataplane("default", fmt.Sprintf("dp-%03d", i))))
	}
	ops = append(ops, storetest.Create(storetest.Dataplane("a", "zz")))
	if _, err := g.store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	type list struct {
		Total int
		Items []struct{ Mesh, Name string }
		Next  *string
	}
	for _, tt := range []struct {
		query                    string
		total, items             int
		first, last, next, where string
	}{
		{"", 105, 100, "dp-000", "dp-099", "?offset=100&size=100", "/meshes/default/dataplanes"},
		{"?offset=100&size=100", 105, 5, "dp-100", "dp-104", "", "/meshes/default/dataplanes"},
		{"?size=1000", 105, 105, "dp-000", "dp-104", "", "/meshes/default/dataplanes"},
		{"?size=105", 105, 105, "dp-000", "dp-104", "", "/meshes/default/dataplanes"},
		{"?size=104", 105, 104, "dp-000", "dp-103", "?offset=104&size=104", "/meshes/default/dataplanes"},
		{"?name=dp-00", 10, 10, "dp-000", "dp-009", "", "/meshes/default/dataplanes"},
		{"?name=dp-00&size=4&offset=4", 10, 4, "dp-004", "dp-007", "?name=dp-00&offset=8&size=4", "/meshes/default/dataplanes"},
		{"?offset=105", 105, 0, "", "", "", "/meshes/default/dataplanes"},
		{"?offset=1000000", 105, 0, "", "", "", "/meshes/default/dataplanes"},
		{"?size=1000", 106, 106, "zz", "dp-104", "", "/dataplanes"},
		{"?size=1", 106, 1, "zz", "zz", "?offset=1&size=1", "/dataplanes"},
	} {
		t.Run(tt.where+tt.query, func(t *testing.T) {
			a := g.do("GET", tt.where+tt.query, "")
			var l list
			if err := json.Unmarshal([]byte(a.body), &l); err != nil || a.status != 200 {
				t.Fatalf("got %d %v %s", a.status, err, a.body)
			}
			if l.Total != tt.total || len(l.Items) != tt.items {
				t.Fatalf("got %d of %d, want %d of %d", len(l.Items), l.Total, tt.items, tt.total)
			}
			if n := len(l.Items); n > 0 && (l.Items[0].Name != tt.first || l.Items[n-1].Name != tt.last) {
				t.Errorf("got %s to %s, want %s to %s", l.Items[0].Name, l.Items[n-1].Name, tt.first, tt.last)
			}
			switch {
			case tt.next == "" && l.Next != nil:
				t.Errorf("next is %s", *l.Next)
			case tt.next != "" && (l.Next == nil || *l.Next != g.url+tt.where+tt.next):
				t.Errorf("next is %v, want %s", l.Next, tt.next)
			}
		})
	}
	for _, tt := range []struct{ query, detail, field, reason string }{
		{"size=abc", "Invalid page size", "size", "invalid format"},
		{"size=1.5", "Invalid page size", "size", "invalid format"},
		{"size=1001", "Invalid page size", "size", "invalid page size of 1001. Maximum page size is 1000"},
		{"size=2000", "Invalid page size", "size", "invalid page size of 2000. Maximum page size is 1000"},
		{"offset=zz", "Invalid offset", "offset", "Invalid format"},
		{"offset=-1", "Invalid offset", "offset", "Invalid format"},
	} {
		for _, path := range []string{"/meshes", "/dataplanes", "/meshes/default/dataplanes", "/meshes/default/dataplanes/_overview", "/zones/_overview", "/zones+insights"} {
			g.want("GET", path+"?"+tt.query, "", 400, errorText(t, 400, "Could not retrieve resources", tt.detail, faults{{tt.field, tt.reason}}))
		}
	}
}

// TestNames has the rules of contract policies.md §1.2.
func TestNames(t *testing.T) {
	g := start(t)
	body := func(kind, mesh, name string) string {
		spec := `{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s"}}]}`
		switch kind {
		case "MeshService":
			spec = `{"ports":[{"port":80,"targetPort":80}],"selector":{"dataplaneTags":{"a":"b"}}}`
		case "MeshExternalService":
			spec = `{"match":{"type":"HostnameGenerator","port":80,"protocol":"tcp"},"endpoints":[{"address":"192.0.2.1","port":80}]}`
		}
		return fmt.Sprintf(`{"type":%q,"mesh":%q,"name":%q,"spec":%s}`, kind, mesh, name, spec)
	}
	long, longer := strings.Repeat("a", 253), strings.Repeat("a", 254)
	for _, tt := range []struct {
		name, kind, path, url string
		want                  faults
	}{
		{"plain", "MeshTimeout", "meshtimeouts", "a", nil},
		{"with dots", "MeshTimeout", "meshtimeouts", "a.b-c.0", nil},
		{"longest", "MeshTimeout", "meshtimeouts", long, nil},
		{"too long", "MeshTimeout", "meshtimeouts", longer, faults{{"name", "value length must less or equal 253"}}},
		{"capital", "MeshTimeout", "meshtimeouts", "A", faults{{"name", subdomain}}},
		{"underscore", "MeshTimeout", "meshtimeouts", "a_b", faults{{"name", subdomain}}},
		{"dash at the start", "MeshTimeout", "meshtimeouts", "-a", faults{{"name", subdomain}}},
		{"dash at the end", "MeshTimeout", "meshtimeouts", "a-", faults{{"name", subdomain}}},
		{"two dots", "MeshTimeout", "meshtimeouts", "a..b", faults{{"name", subdomain}}},
		{"too long and wrong", "MeshTimeout", "meshtimeouts", longer + "_", faults{{"name", "value length must less or equal 253"}, {"name", subdomain}}},
		{"longest service", "MeshService", "meshservices", long[:63], nil},
		{"long service", "MeshService", "meshservices", long[:64], faults{{"name", "must not be longer than 63 characters"}}},
		{"longest external service", "MeshExternalService", "meshexternalservices", long[:63], nil},
		{"long external service", "MeshExternalService", "meshexternalservices", long[:64], faults{{"name", "must not be longer than 63 characters"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := "/meshes/default/" + tt.path + "/" + tt.url
			if tt.want == nil {
				if a := g.do("PUT", path, body(tt.kind, "default", tt.url)); a.status != 201 {
					t.Errorf("got %d %s", a.status, a.body)
				}
				return
			}
			g.want("PUT", path, body(tt.kind, "default", tt.url), 400, errorText(t, 400, process, notValid, tt.want))
		})
	}

	// What exists may have a name of the older form, and keeps it.
	old := func(name string) *resource.Resource {
		r, err := registry().Decode([]byte(body("MeshTimeout", "default", name)))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, want := range map[string]faults{"a_.b-": nil, "A": {{"name", oldName}}} {
		if _, err := g.store.Commit(t.Context(), storetest.Create(old(name))); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			if a := g.do("PUT", "/meshes/default/meshtimeouts/"+name, body("MeshTimeout", "default", name)); a.status != 200 {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
			continue
		}
		g.want("PUT", "/meshes/default/meshtimeouts/"+name, body("MeshTimeout", "default", name), 400, errorText(t, 400, process, notValid, want))
	}
	// The display name of a MeshService counts, where it has one.
	display := strings.Replace(body("MeshService", "default", long[:64]), `"spec"`, `"labels":{"kuma.io/display-name":"short"},"spec"`, 1)
	if a := g.do("PUT", "/meshes/default/meshservices/"+long[:64], display); a.status != 201 {
		t.Errorf("display name: got %d %s", a.status, a.body)
	}
}

// TestOrderOfChecks: a body with several faults reports the first stage that finds one (contract controlplane.md §0 item 9,
// policies.md §1.3).
func TestOrderOfChecks(t *testing.T) {
	g := start(t)
	const path = "/meshes/default/meshtimeouts/x"
	const wrongType = `in body must be of type string: "number"`
	for _, tt := range []struct {
		name, body string
		want       faults
	}{
		{"type before schema", `{"type":"MeshRetry","mesh":"other","name":"y","spec":{"to":1}}`, faults{{"type", typeInURL}}},
		{"schema before name and mesh", `{"type":"MeshTimeout","mesh":"other","name":"y","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":5}}]}}`, faults{{"spec.to[0].default.connectionTimeout", wrongType}}},
		{"every fault of the schema", `{"type":"MeshTimeout","mesh":"default","name":"x","spec":{"targetRef":{"kind":"Nope"},"to":[{"targetRef":{"kind":"Nope"},"default":{}}]}}`, faults{
			{"spec.targetRef.kind", "in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]"},
			{"spec.to[0].targetRef.kind", "in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]"},
		}},
		{"name and mesh before labels and semantics", `{"type":"MeshTimeout","mesh":"other","name":"y","labels":{"kuma.io/zone":"z"},"spec":{}}`, faults{{"name", nameInURL}, {"mesh", meshInURL}}},
		{"no name", `{"type":"MeshTimeout","mesh":"default","spec":{}}`, faults{{"name", nameInURL}}},
		{"no mesh", `{"type":"MeshTimeout","name":"x","spec":{}}`, faults{{"mesh", meshInURL}}},
		{"a name that is no text", `{"type":"MeshTimeout","mesh":"default","name":1,"spec":{}}`, faults{{"name", wrongType}}},
		{"labels together with semantics", `{"type":"MeshTimeout","mesh":"default","name":"x","labels":{"kuma.io/zone":"z"},"spec":{}}`, faults{
			{`labels["kuma.io/zone"]`, "kuma.io/zone label should have zone-1 value"},
			{"spec", "at least one of 'from', 'to' has to be defined"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g.want("PUT", path, tt.body, 400, errorText(t, 400, process, notValid, tt.want))
		})
	}
	// Unknown fields are taken and dropped.
	g.put(path, strings.Replace(timeout, `"spec":{`, `"bogus":{"a":[null]},"spec":{"bogus":1,`, 1))
	if a := g.do("GET", path, ""); strings.Contains(a.body, "bogus") {
		t.Errorf("got %s", a.body)
	}
}

// TestLabels has the checks of contract policies.md §1.4 on each kind of control plane.
func TestLabels(t *testing.T) {
	const path = "/meshes/default/meshtimeouts/x"
	zone := resource.ZoneInfo{Zone: "zone-1"}
	federated := resource.ZoneInfo{Zone: "zone-1", Federated: true}
	global := resource.ZoneInfo{Global: true}
	field := func(key string) string { return "labels[" + strconv.Quote(key) + "]" }
	for _, tt := range []struct {
		name   string
		info   resource.ZoneInfo
		labels map[string]string
		want   faults
		stored map[string]string
	}{
		{"computed", zone, nil, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "zone-1", "kuma.io/env": "universal"}},
		{"computed on global", global, nil, nil, map[string]string{"kuma.io/mesh": "default"}},
		{"given win", zone, map[string]string{"kuma.io/env": "kubernetes", "a/b": "c"}, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "zone-1", "kuma.io/env": "kubernetes", "a/b": "c"}},
		{"of global", zone, map[string]string{"kuma.io/origin": "global"}, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "global"}},
		{"of global, from another zone", zone, map[string]string{"kuma.io/origin": "global", "kuma.io/zone": "east"}, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "global", "kuma.io/zone": "east"}},
		{"role by hand", zone, map[string]string{"kuma.io/policy-role": "producer"}, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "zone-1", "kuma.io/env": "universal", "kuma.io/policy-role": "producer"}},
		{"unknown origin", zone, map[string]string{"kuma.io/origin": "foo"}, faults{{field("kuma.io/origin"), `unknown resource origin "foo"`}}, nil},
		{"unknown origin on global", global, map[string]string{"kuma.io/origin": "foo"}, faults{{field("kuma.io/origin"), `unknown resource origin "foo"`}}, nil},
		{"another zone", zone, map[string]string{"kuma.io/zone": "east"}, faults{{field("kuma.io/zone"), "kuma.io/zone label should have zone-1 value"}}, nil},
		{"another mesh", zone, map[string]string{"kuma.io/mesh": "m"}, faults{{field("kuma.io/mesh"), "kuma.io/mesh label must not differ from mesh set on resource"}}, nil},
		{"another zone and mesh on global", global, map[string]string{"kuma.io/zone": "east", "kuma.io/mesh": "m"}, nil, map[string]string{"kuma.io/zone": "east", "kuma.io/mesh": "m"}},
		{"federated without origin", federated, nil, faults{{field("kuma.io/origin"), "the origin label must be set to 'zone'"}}, nil},
		{"federated of global", federated, map[string]string{"kuma.io/origin": "global"}, faults{{field("kuma.io/origin"), "the origin label must be set to 'zone'"}}, nil},
		{"federated", federated, map[string]string{"kuma.io/origin": "zone"}, nil, map[string]string{"kuma.io/mesh": "default", "kuma.io/origin": "zone", "kuma.io/zone": "zone-1", "kuma.io/env": "universal"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(c *api.Config) { c.Zone = tt.info })
			body := map[string]any{}
			if err := json.Unmarshal([]byte(timeout), &body); err != nil {
				t.Fatal(err)
			}
			if tt.labels != nil {
				body["labels"] = tt.labels
			}
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != nil {
				g.want("PUT", path, string(text), 400, errorText(t, 400, process, notValid, tt.want))
				return
			}
			if a := g.do("PUT", path, string(text)); a.status != 201 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			var got struct{ Labels map[string]string }
			if err := json.Unmarshal([]byte(g.do("GET", path, "").body), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.stored, got.Labels); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestTokenRequests has the faults of contract controlplane.md §2.5.
func TestTokenRequests(t *testing.T) {
	g := start(t)
	const invalid, empty, noDuration = "Invalid request", "cannot be empty", `is invalid: time: invalid duration "zz"`
	for _, tt := range []struct {
		path, body string
		want       faults
	}{
		{"dataplane", `{}`, faults{{"mesh", empty}}},
		{"dataplane", `{"validFor":"zz","type":"bb"}`, faults{{"mesh", empty}, {"validFor", noDuration}, {"type", "bb is not a valid proxy type"}}},
		{"dataplane", `{"mesh":"default","type":"BB"}`, faults{{"type", "BB is not a valid proxy type"}}},
		{"zone", `{}`, faults{{"scope", empty}}},
		{"zone", `{"scope":[],"validFor":"zz"}`, faults{{"scope", empty}, {"validFor", noDuration}}},
		{"user", `{"name":"a"}`, faults{{"validFor", empty}}},
		{"user", `{"name":"a","validFor":"0"}`, faults{{"validFor", empty}}},
		{"user", `{"name":"a","validFor":"zz"}`, faults{{"validFor", noDuration}}},
		{"user", `{}`, faults{{"name", empty}, {"validFor", empty}}},
	} {
		t.Run(tt.path+" "+tt.body, func(t *testing.T) {
			g.want("POST", "/tokens/"+tt.path, tt.body, 400, errorText(t, 400, invalid, notValid, tt.want))
		})
	}
	for _, kind := range []string{"dataplane", "zone", "user"} {
		if a := g.do("POST", "/tokens/"+kind, "{bad"); a.status != 400 || !strings.Contains(a.body, "invalid character 'b'") {
			t.Errorf("%s: got %d %s", kind, a.status, a.body)
		}
		if a := g.do("GET", "/tokens/"+kind, ""); a.status != 405 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("GET %s: got %d %s", kind, a.status, a.body)
		}
	}
	if a := g.do("POST", "/tokens/dataplane", `{"mesh":"nope"}`); a.status != 404 || !strings.Contains(a.body, `"title": "Signing Key not found"`) {
		t.Errorf("a mesh without a key: got %d %s", a.status, a.body)
	}
	if a := g.do("POST", "/tokens/dataplane", `{"mesh":"default","name":"a","type":"Dataplane","tags":{"a":["b"]},"validFor":"1h"}`); a.status != 200 || a.header.Get("Content-Type") != "text/plain" || strings.Count(a.body, ".") != 2 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
