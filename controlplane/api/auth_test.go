package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	adminBody     = `{"name":"mesh-system:admin","groups":["mesh-system:admin","mesh-system:authenticated"]}`
	anonymousBody = `{"name":"mesh-system:anonymous","groups":["mesh-system:unauthenticated"]}`
)

// TestLocalhostIsAdmin: a loopback peer is the administrator only when nothing hints at somebody behind it (demands §3.3,
// assertion 30).
func TestLocalhostIsAdmin(t *testing.T) {
	g := start(t)
	port := g.url[strings.LastIndexByte(g.url, ':'):]
	for _, test := range []struct {
		name   string
		header []string
		admin  bool
	}{
		{"plain", nil, true},
		{"localhost", []string{"Host", "localhost" + port}, true},
		{"LOCALHOST without port", []string{"Host", "LOCALHOST"}, true},
		{"IPv6", []string{"Host", "[::1]" + port}, true},
		{"other loopback address", []string{"Host", "127.8.8.8" + port}, true},
		{"same origin", []string{"Host", "localhost" + port, "Origin", "http://localhost" + port, "Sec-Fetch-Site", "same-origin"}, true},
		{"typed by a person", []string{"Sec-Fetch-Site", "none"}, true},

		{"evil origin", []string{"Origin", "https://evil.example"}, false},
		{"null origin", []string{"Origin", "null"}, false},
		{"empty origin", []string{"Origin", ""}, false},
		{"origin of another port", []string{"Origin", "http://localhost:3000"}, false},
		{"origin of another scheme", []string{"Host", "localhost" + port, "Origin", "https://localhost" + port}, false},
		{"two origins", []string{"Host", "localhost" + port, "Origin", "http://localhost" + port, "Origin", "https://evil.example"}, false},
		{"image on an evil page", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"page of another port", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"DNS rebinding", []string{"Host", "evil.example" + port}, false},
		{"DNS rebinding, same origin", []string{"Host", "evil.example" + port, "Origin", "http://evil.example" + port, "Sec-Fetch-Site", "same-origin"}, false},
		{"name that looks local", []string{"Host", "localhost.evil.example"}, false},
		{"name that begins local", []string{"Host", "127.0.0.1.evil.example"}, false},
		{"any address", []string{"Host", "0.0.0.0" + port}, false},
		{"X-Forwarded-For", []string{"X-Forwarded-For", "8.8.8.8"}, false},
		{"X-Forwarded-For loopback", []string{"X-Forwarded-For", "127.0.0.1"}, false},
		{"X-Forwarded-Host", []string{"X-Forwarded-Host", "localhost"}, false},
		{"X-Forwarded-Proto", []string{"X-Forwarded-Proto", "http"}, false},
		{"x-forwarded", []string{"x-forwarded", "x"}, false},
		{"Forwarded", []string{"Forwarded", "for=8.8.8.8"}, false},
		{"Via", []string{"Via", "1.1 proxy"}, false},
		{"X-Real-IP", []string{"X-Real-IP", "8.8.8.8"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, secrets := anonymousBody, 403
			if test.admin {
				want, secrets = adminBody, 200
			}
			a := g.do("GET", "/who-am-i", "", test.header...)
			same(t, "who-am-i", a.body, want)
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("an origin was allowed")
			}
			if a := g.do("GET", "/global-secrets", "", test.header...); a.status != secrets {
				t.Errorf("secrets: got %d, want %d", a.status, secrets)
			}
		})
	}
	off := start(t, func(c *api.Config) { c.LocalhostIsAdmin = false })
	same(t, "switched off", off.do("GET", "/who-am-i", "").body, anonymousBody)
}

// stranger is a rig whose requests are not the administrator's.
func stranger(t *testing.T, options ...func(*api.Config)) *rig {
	t.Helper()
	g := start(t, options...)
	g.header = http.Header{"X-Forwarded-For": {"192.0.2.1"}}
	return g
}

func TestSecretsAreForAdmins(t *testing.T) {
	g := stranger(t)
	const name = "dataplane-token-signing-key-default-1"
	denied := `{"type":"/std-errors","status":403,"title":"Access Denied","detail":"user \"mesh-system:anonymous/mesh-system:unauthenticated\" cannot access the resource of type \"Secret\"","details":"user \"mesh-system:anonymous/mesh-system:unauthenticated\" cannot access the resource of type \"Secret\""}`
	g.want("GET", "/meshes/default/secrets/"+name, "", 403, denied)
	g.want("GET", "/meshes/default/secrets", "", 403, denied)
	g.want("GET", "/secrets", "", 403, denied)
	g.want("PUT", "/meshes/default/secrets/x", `{"type":"Secret","mesh":"default","name":"x","data":"eA=="}`, 403, denied)
	g.want("DELETE", "/meshes/default/secrets/"+name, "", 403, denied)
	g.want("GET", "/meshes/nope/secrets", "", 403, denied) // says nothing about meshes
	for _, path := range []string{"/global-secrets", "/global-secrets/user-token-signing-key-1", "/tokens/dataplane", "/tokens/user"} {
		method := "GET"
		if strings.HasPrefix(path, "/tokens") {
			method = "POST"
		}
		if a := g.do(method, path, `{"mesh":"default","name":"x","validFor":"1h"}`); a.status != 403 || strings.Contains(a.body, "eyJ") {
			t.Errorf("%s %s: got %d %s", method, path, a.status, a.body)
		}
	}
	// No other answer holds a key.
	for _, path := range []string{"/", "/config", "/global-insight", "/meshes", "/meshes/default", "/_resources", "/policies", "/dataplanes"} {
		if a := g.do("GET", path, ""); a.status != 200 || strings.Contains(a.body, "PRIVATE") || strings.Contains(a.body, "LS0tLS1CRUdJTi") {
			t.Errorf("%s: got %d", path, a.status)
		}
	}
	// Everything else is open, as in 2.9 (contract controlplane.md §2.5).
	if a := g.do("PUT", "/meshes/default/meshtimeouts/x", timeout); a.status != 201 {
		t.Errorf("anonymous write: got %d", a.status)
	}
}

func TestTokens(t *testing.T) {
	g := start(t)
	issue := func(kind, body string) string {
		t.Helper()
		a := g.do("POST", "/tokens/"+kind, body)
		if a.status != 200 || a.header.Get("Content-Type") != "text/plain" || !strings.HasPrefix(a.body, "eyJ") {
			t.Fatalf("got %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
		}
		return a.body
	}
	v, err := token.NewValidator(g.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Dataplane(issue("dataplane", `{"name":"a","mesh":"default","tags":{"x":["1"]}}`))
	if err != nil || c.Name != "a" || c.ExpiresAt.Before(time.Now().AddDate(9, 11, 0)) {
		t.Errorf("got %v, %v", c, err)
	}

	// A user token works where localhost does not.
	visitor := &rig{t: t, store: g.store, url: g.url, header: http.Header{"X-Forwarded-For": {"192.0.2.1"}}}
	admin := issue("user", `{"name":"root","groups":["mesh-system:admin"],"validFor":"1h"}`)
	same(t, "who-am-i", visitor.do("GET", "/who-am-i", "", "Authorization", "Bearer "+admin).body,
		`{"name":"root","groups":["mesh-system:admin","mesh-system:authenticated"]}`)
	if a := visitor.do("GET", "/global-secrets", "", "Authorization", "bearer "+admin); a.status != 200 {
		t.Errorf("admin by token: got %d", a.status)
	}
	nobody := issue("user", `{"name":"me","validFor":"1h"}`)
	if a := visitor.do("GET", "/global-secrets", "", "Authorization", "Bearer "+nobody); a.status != 403 || !strings.Contains(a.body, `user \"me/mesh-system:authenticated\"`) {
		t.Errorf("other user: got %d %s", a.status, a.body)
	}
	dp := issue("dataplane", `{"name":"mesh-system:admin","mesh":"default","validFor":"1h"}`)
	for name, header := range map[string]string{
		"garbage": "Bearer x", "no scheme": admin, "basic": "Basic " + admin, "dataplane token": "Bearer " + dp, "cut": "Bearer " + admin[:len(admin)-5],
	} {
		a := visitor.do("GET", "/meshes", "", "Authorization", header)
		if a.status != 401 || !strings.Contains(a.body, "Invalid authentication data") || strings.Contains(a.body, "eyJ") {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(nobody, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var id struct {
		JTI string `json:"jti"`
	}
	if err := json.Unmarshal(claims, &id); err != nil {
		t.Fatal(err)
	}
	g.put("/global-secrets/user-token-revocations", `{"type":"GlobalSecret","name":"user-token-revocations","data":"`+
		base64.StdEncoding.EncodeToString([]byte("a,"+id.JTI))+`"}`)
	if a := visitor.do("GET", "/meshes", "", "Authorization", "Bearer "+nobody); a.status != 401 {
		t.Errorf("revoked token: got %d", a.status)
	}

	for name, test := range map[string]struct {
		kind, body string
		status     int
		want       string
	}{
		"no mesh":       {"dataplane", `{"name":"a"}`, 400, `"field": "mesh"`},
		"no such mesh":  {"dataplane", `{"mesh":"nope"}`, 404, `Signing Key not found`},
		"bad type":      {"dataplane", `{"mesh":"default","type":"x"}`, 400, `"field": "type"`},
		"bad validity":  {"dataplane", `{"mesh":"default","validFor":"1"}`, 400, `"field": "validFor"`},
		"negative":      {"dataplane", `{"mesh":"default","validFor":"-1h"}`, 400, `"field": "validFor"`},
		"user validity": {"user", `{"name":"a"}`, 400, `cannot be empty`},
		"user zero":     {"user", `{"name":"a","validFor":"0s"}`, 400, `cannot be empty`},
		"user name":     {"user", `{"validFor":"1h"}`, 400, `"field": "name"`},
		"not JSON":      {"user", `x`, 400, `Bad Request`},
		"wrong type":    {"dataplane", `{"mesh":1}`, 400, `Bad Request`},
	} {
		if a := g.do("POST", "/tokens/"+test.kind, test.body); a.status != test.status || !strings.Contains(a.body, test.want) {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	off := start(t, func(c *api.Config) { c.DisableDataplaneIssuer = true })
	if a := off.do("POST", "/tokens/dataplane", `{"mesh":"default"}`); a.status != 400 {
		t.Errorf("disabled issuer: got %d", a.status)
	}
}

func TestAccessLists(t *testing.T) {
	g := stranger(t, func(c *api.Config) {
		a := api.DefaultAccess()
		a.GenerateDPToken = api.List{Groups: []string{api.UnauthenticatedGroup}}
		a.ControlPlaneMetadata = api.List{Users: []string{api.AdminUser}}
		c.Access = &a
		c.EffectiveConfig = func() any { return map[string]string{"mode": "zone"} }
	})
	if a := g.do("POST", "/tokens/dataplane", `{"mesh":"default"}`); a.status != 200 {
		t.Errorf("token: got %d %s", a.status, a.body)
	}
	if a := g.do("GET", "/config", ""); a.status != 403 {
		t.Errorf("config: got %d", a.status)
	}
	g.header = nil
	g.want("GET", "/config", "", 200, `{"mode":"zone"}`)
}

func TestCORS(t *testing.T) {
	g := start(t, func(c *api.Config) { c.CORSAllowedDomains = []string{`https://gui\.example`} })
	a := g.do("GET", "/meshes", "", "Origin", "https://gui.example")
	if a.header.Get("Access-Control-Allow-Origin") != "https://gui.example" || a.header.Get("Vary") != "Origin" {
		t.Errorf("got %v", a.header)
	}
	same(t, "an allowed page is not the administrator", g.do("GET", "/who-am-i", "", "Origin", "https://gui.example").body, anonymousBody)
	a = g.do("OPTIONS", "/meshes", "", "Origin", "https://gui.example", "Access-Control-Request-Method", "PUT")
	if a.status != 200 || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("preflight: got %d %v", a.status, a.header)
	}
	for _, origin := range []string{"https://gui.example.evil", "https://evil.example/https://gui.example", "http://gui.example", "https://guixexample"} {
		a := g.do("OPTIONS", "/meshes", "", "Origin", origin, "Access-Control-Request-Method", "PUT")
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: was allowed", origin)
		}
	}
	for _, domain := range []string{"(", ".*", ".+", "https?://.*", "[^/]+://.*|https://gui"} {
		cfg := config(t)
		cfg.CORSAllowedDomains = []string{domain}
		if _, err := api.New(cfg); err == nil || !strings.Contains(err.Error(), "CORS") {
			t.Errorf("%s: got %v", domain, err)
		}
	}
}

// TestPaths: names cannot lead out of their collection (assertion 32).
func TestPaths(t *testing.T) {
	g := start(t)
	for _, path := range []string{
		"/meshes/..%2fglobal-secrets", "/meshes/%2e%2e/config", "/meshes/../config", "/meshes/a%00b", "/meshes//default",
		"/meshes/default/meshtimeouts/..%5cx", "/meshes/default%2fsecrets", "//meshes", "/meshes/./default",
		"/meshes/" + strings.Repeat("a", 300), "/meshes/%C3%A9", "/meshes/A", "/meshes/-a", "/meshes/a b",
	} {
		target := strings.ReplaceAll(path, " ", "%20")
		name := path[strings.LastIndexByte(path, '/')+1:]
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			a := g.do(method, target, `{"type":"Mesh","name":"`+name+`"}`)
			if a.status != 400 && a.status != 404 {
				t.Errorf("%s %s: got %d %s", method, path, a.status, a.body)
			}
		}
	}
	if n := len(g.store.List(resource.KindMesh, "")); n != 1 {
		t.Errorf("there are %d meshes", n)
	}
}

func TestAdminClientCerts(t *testing.T) {
	cfg := config(t)
	cfg.AuthnType = api.AuthnAdminClientCerts
	if _, err := api.New(cfg); err == nil {
		t.Error("client certificates without an authority were accepted")
	}
	cfg.AuthnType = "x"
	if _, err := api.New(cfg); err == nil {
		t.Error("an unknown type was accepted")
	}
	cfg.AuthnType = ""
	cfg.HTTPSAddress = "127.0.0.1:0"
	if _, err := api.New(cfg); err == nil {
		t.Error("HTTPS without a certificate was accepted")
	}
}

func TestExtra(t *testing.T) {
	g := stranger(t, func(c *api.Config) {
		c.Extra = func(r api.Router) {
			r.Handle("GET /meshes/{mesh}/dataplanes/{name}/_config", func(w http.ResponseWriter, req *http.Request) error {
				u := api.UserOf(req.Context())
				if err := r.Access.AdminResources.Check(u, "x"); req.PathValue("name") == "locked" && err != nil {
					return err
				}
				if req.PathValue("name") == "broken" {
					return errors.New("secret detail")
				}
				if req.PathValue("name") == "panic" {
					panic("secret detail")
				}
				return api.WriteJSON(w, 200, map[string]string{"user": u.Name})
			})
		}
	})
	g.want("GET", "/meshes/default/dataplanes/a/_config", "", 200, `{"user":"mesh-system:anonymous"}`)
	for name, want := range map[string]int{"locked": 403, "broken": 500, "panic": 500} {
		if a := g.do("GET", "/meshes/default/dataplanes/"+name+"/_config", ""); a.status != want || strings.Contains(a.body, "secret detail") {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
}

func TestClosedStore(t *testing.T) {
	g := start(t)
	g.store.Close()
	if a := g.do("PUT", "/meshes/m", `{"type":"Mesh","name":"m"}`); a.status != 503 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// TestConcurrentPut: writers of one resource do not fail each other.
func TestConcurrentPut(t *testing.T) {
	g := start(t)
	errs := make(chan string, 8)
	for range cap(errs) {
		go func() {
			a := g.do("PUT", "/meshes/default/meshtimeouts/x", timeout)
			if a.status != 200 && a.status != 201 {
				errs <- a.body
				return
			}
			errs <- ""
		}()
	}
	for range cap(errs) {
		if e := <-errs; e != "" {
			t.Error(e)
		}
	}
}
