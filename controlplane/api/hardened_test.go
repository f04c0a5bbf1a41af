package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestHardened: those without credentials change nothing and see no configuration (demands §3.3, assertion 31).
func TestHardened(t *testing.T) {
	open := func(c *api.Config) {
		a := api.DefaultAccess()
		a.GenerateDPToken = api.List{Groups: []string{api.UnauthenticatedGroup}}
		c.Access = &a
	}
	hardened := func(c *api.Config) {
		open(c)
		c.Hardened = true
		c.Extra = func(r api.Router) {
			r.Handle("POST /extra", func(w http.ResponseWriter, _ *http.Request) error { return api.WriteJSON(w, 200, 1) })
			r.Handle("GET /dump", func(w http.ResponseWriter, req *http.Request) error {
				if err := r.Access.ViewConfigDump.Check(api.UserOf(req.Context()), "config dump"); err != nil {
					return err
				}
				return api.WriteJSON(w, 200, 1)
			})
		}
	}
	g := stranger(t, hardened)
	before := everything(g.store)
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/meshes/default", `{"type":"Mesh","name":"default"}`},
		{"PUT", "/meshes/default/meshtimeouts/x", timeout},
		{"DELETE", "/meshes/default", ""},
		{"PUT", "/nope", ""},
		{"POST", "/tokens/dataplane", `{"mesh":"default"}`},
		{"POST", "/extra", ""},
		{"GET", "/config", ""},
		{"GET", "/dump", ""},
	} {
		a := g.do(c.method, c.path, c.body)
		if a.status != 403 || !strings.Contains(a.body, `"title": "Access Denied"`) {
			t.Errorf("%s %s: got %d %s", c.method, c.path, a.status, a.body)
		}
	}
	if diff := cmp.Diff(before, everything(g.store)); diff != "" {
		t.Errorf("the store has changed:\n%s", diff)
	}
	if a := g.do("GET", "/meshes", ""); a.status != 200 {
		t.Errorf("reading: got %d", a.status)
	}
	raw, err := token.NewIssuer(g.store, nil).User(token.User{Name: "me"}, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path string }{{"PUT", "/meshes/default/meshtimeouts/x"}, {"GET", "/config"}, {"GET", "/dump"}} {
		if a := g.do(c.method, c.path, timeout, "Authorization", "Bearer "+raw); a.status > 201 {
			t.Errorf("a user, %s %s: got %d %s", c.method, c.path, a.status, a.body)
		}
	}
	// By default it is as in 2.9.
	g = stranger(t, open)
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/meshes/default/meshtimeouts/x", timeout}, {"GET", "/config", ""}, {"POST", "/tokens/dataplane", `{"mesh":"default"}`},
	} {
		if a := g.do(c.method, c.path, c.body); a.status > 201 {
			t.Errorf("not hardened, %s %s: got %d %s", c.method, c.path, a.status, a.body)
		}
	}
}

// TestForgedLabels: nobody speaks for another control plane (demands §3.3, assertion 40).
func TestForgedLabels(t *testing.T) {
	g := start(t, func(c *api.Config) { c.Hardened = true })
	const path = "/meshes/default/meshtimeouts/x"
	labelled := func(pairs string) string {
		return strings.Replace(timeout, `"name"`, `"labels":{`+pairs+`},"name"`, 1)
	}
	for _, pair := range []string{
		`"kuma.io/origin":"global"`, `"kuma.io/zone":"zone-2"`, `"kuma.io/mesh":"other"`, `"k8s.kuma.io/namespace":"kuma-system"`, `"kuma.io/policy-role":"system"`,
	} {
		a := g.do("PUT", path, labelled(pair))
		key, _, _ := strings.Cut(pair, ":")
		if a.status != 400 || !strings.Contains(a.body, strings.ReplaceAll(key, `"`, `\"`)) {
			t.Errorf("%s: got %d %s", pair, a.status, a.body)
		}
	}
	if n := len(g.store.List("MeshTimeout", "")); n != 0 {
		t.Fatalf("%d were stored", n)
	}
	// What came from the global control plane is its own: no change, no removal, no taking over.
	r, err := registry().Decode([]byte(labelled(`"kuma.io/origin":"global"`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.Commit(t.Context(), store.Op{Action: store.Create, Resource: r}); err != nil {
		t.Fatal(err)
	}
	for method, body := range map[string]string{"PUT": timeout, "DELETE": ""} {
		if a := g.do(method, path, body); a.status != 400 || !strings.Contains(a.body, "kuma.io/origin") {
			t.Errorf("%s of a resource of the global control plane: got %d %s", method, a.status, a.body)
		}
	}
	// An own one may be sent back as it was read.
	g.put("/meshes/default/dataplanes/backend-1", dataplane)
	g.put("/meshes/default/dataplanes/backend-1", g.do("GET", "/meshes/default/dataplanes/backend-1", "").body)
}

// TestSides: what belongs to the other side of the synchronisation is read only (contract controlplane.md §2.1).
func TestSides(t *testing.T) {
	mesh := `{"type":"Mesh","name":"default"}`
	service := `{"type":"MeshService","mesh":"default","name":"s","spec":{"ports":[{"port":80}]}}`
	policy := strings.Replace(timeout, `"name"`, `"labels":{"kuma.io/origin":"zone"},"name"`, 1)
	for name, side := range map[string]struct {
		zone                      resource.ZoneInfo
		mesh, service, policyPuts int
		readOnly                  string
	}{
		"alone":     {resource.ZoneInfo{Zone: "zone-1"}, 200, 201, 201, "dataplane-insights mesh-insights service-insights zone-ingress-insights zone-insights zoneegressinsights"},
		"federated": {resource.ZoneInfo{Zone: "zone-1", Federated: true}, 405, 201, 201, "everything"},
		"global":    {resource.ZoneInfo{Global: true}, 200, 405, 201, "dataplane-insights dataplanes mesh-insights meshservices service-insights zone-ingress-insights zone-ingresses zone-insights zoneegresses zoneegressinsights"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(c *api.Config) { c.Zone = side.zone })
			for _, put := range []struct {
				path, body string
				want       int
			}{
				{"/meshes/default", mesh, side.mesh},
				{"/meshes/default/meshservices/s", service, side.service},
				{"/meshes/default/meshtimeouts/x", policy, side.policyPuts},
			} {
				body := put.body
				if side.zone.Federated {
					body = strings.Replace(body, `"name"`, `"labels":{"kuma.io/origin":"zone"},"name"`, 1)
					body = strings.Replace(body, `"labels":{"kuma.io/origin":"zone"},"labels"`, `"labels"`, 1)
				}
				a := g.do("PUT", put.path, body)
				if a.status != put.want || a.status == 405 && !strings.Contains(a.body, `"title": "Method not allowed"`) {
					t.Errorf("PUT %s: got %d %s, want %d", put.path, a.status, a.body, put.want)
				}
			}
			var read, all []string
			list, _ := plain(g.do("GET", "/_resources", "").body).(map[string]any)
			kinds, _ := list["resources"].([]any)
			for _, k := range kinds {
				k, _ := k.(map[string]any)
				path, _ := k["path"].(string)
				all = append(all, path)
				if k["readOnly"] == true {
					read = append(read, path)
				}
			}
			if side.readOnly == "everything" {
				side.readOnly = strings.Join(sorted(all), " ")
			}
			if got := strings.Join(sorted(read), " "); got != side.readOnly {
				t.Errorf("read only: got %s, want %s", got, side.readOnly)
			}
		})
	}
}

func TestZoneInUse(t *testing.T) {
	g := start(t)
	g.put("/zones/east", `{"type":"Zone","name":"east"}`)
	put := func(end string) {
		t.Helper()
		r, err := registry().Decode([]byte(`{"type":"ZoneInsight","name":"east","subscriptions":[{"id":"1","connectTime":"2026-01-01T00:00:00Z"` + end + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.store.Commit(t.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
			t.Fatal(err)
		}
	}
	put("")
	const reason = "unable to delete Zone, Zone CP is still connected, please shut it down first"
	g.want("DELETE", "/zones/east", "", 400, `{"type":"/std-errors","status":400,"title":"Could not delete a resource","detail":"Resource is not valid","invalid_parameters":[{"field":"zone","reason":"`+
		reason+`"}],"details":"Resource is not valid","causes":[{"field":"zone","message":"`+reason+`"}]}`)
	put(`,"disconnectTime":"2026-01-01T00:00:01Z"`)
	if a := g.do("DELETE", "/zones/east", ""); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
