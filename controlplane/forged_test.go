package controlplane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// forger makes tokens that no issuer makes.
type forger struct {
	t *testing.T
	// dataplane and zone are the keys of those tokens, which an attacker does not have but for their public halves; own is
	// the attacker's.
	dataplane, zone, own *rsa.PrivateKey
}

func (r *running) forger() *forger {
	r.t.Helper()
	read := func(path string) *rsa.PrivateKey {
		var secret struct{ Data []byte }
		r.get(path, &secret)
		block, _ := pem.Decode(secret.Data)
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			r.t.Fatal(err)
		}
		return key
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		r.t.Fatal(err)
	}
	return &forger{
		r.t, read("/meshes/default/secrets/dataplane-token-signing-key-default-1"), read("/global-secrets/zone-token-signing-key-1"), own,
	}
}

// claims are those of a good token of web-1, with some changed; nil takes one away.
func claims(change map[string]any) jwt.MapClaims {
	now := time.Now()
	out := jwt.MapClaims{
		"Name": "web-1", "Mesh": "default", "Tags": map[string]any{}, "Type": "dataplane", "jti": "forged",
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(out, change)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// sign makes a token of any method and header.
func (f *forger) sign(method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	f.t.Helper()
	tok := jwt.NewWithClaims(method, c)
	maps.Copy(tok.Header, header)
	raw, err := tok.SignedString(key)
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

var kid1 = map[string]any{"kid": "1"}

// rs256 is a token signed with the right key.
func (f *forger) rs256(change map[string]any) string {
	return f.sign(jwt.SigningMethodRS256, f.dataplane, kid1, claims(change))
}

// publicForms are what a library that takes any key for any method would use as the secret of HS256.
func (f *forger) publicForms() map[string][]byte {
	f.t.Helper()
	pkix, err := x509.MarshalPKIXPublicKey(&f.dataplane.PublicKey)
	if err != nil {
		f.t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(&f.dataplane.PublicKey)
	return map[string][]byte{
		"PKIX as DER": pkix, "PKIX as PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PKCS#1 as DER": pkcs1, "PKCS#1 as PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
	}
}

// attempt is one forged or stolen token.
type attempt struct {
	name    string
	visitor visitor
	// want is part of the reason.
	want string
}

// TestForgedTokens tries at each door of the data-plane server what somebody without a token, or with one for something else,
// may try (demands.md, assertions 23 to 26 and 28). Each is refused as Unauthenticated, with no data and no write; the same
// visitor with its own token is served.
func TestForgedTokens(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default", strictMesh)
	r.call("PUT", "/meshes/second", `{"type":"Mesh","name":"second"}`)
	r.call("PUT", "/meshes/default/dataplanes/web-1", dataplaneJSON("web-1", "web", "127.0.0.1"))
	r.call("PUT", "/meshes/default/dataplanes/db-1", dataplaneJSON("db-1", "db", "127.0.0.2"))
	f := r.forger()
	conn := r.dial()
	issue := func(path, body string) string { return string(r.call("POST", path, body)) }
	web := func(tokens ...string) visitor { return visitor{tokens: tokens, mesh: "default", name: "web-1"} }

	good := f.rs256(nil)
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	none := func(alg string) string { return encode(map[string]string{"alg": alg, "kid": "1", "typ": "JWT"}) }
	const parse = "could not parse token"
	attempts := []attempt{
		{"no token", web(), ""},
		{"empty", web(""), ""},
		{"junk", web("junk"), parse},
		{"alg none", web(none("none") + "." + body + "."), parse},
		{"alg None with the signature", web(none("None") + "." + body + "." + signature), parse},
		{"alg is empty", web(none("") + "." + body + "." + signature), parse},
		{"RS512", web(f.sign(jwt.SigningMethodRS512, f.dataplane, kid1, claims(nil))), parse},
		{"wrong key under a known kid", web(f.sign(jwt.SigningMethodRS256, f.own, kid1, claims(nil))), parse},
		{"own key in the header", web(f.sign(jwt.SigningMethodRS256, f.own, map[string]any{
			"kid": "1", "jwk": map[string]string{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(f.own.N.Bytes()), "e": "AQAB"},
		}, claims(nil))), parse},
		{"unknown kid", web(f.sign(jwt.SigningMethodRS256, f.dataplane, map[string]any{"kid": "7"}, claims(nil))), "no signing key with KID 7"},
		{"kid is a path", web(f.sign(jwt.SigningMethodRS256, f.dataplane, map[string]any{"kid": "../1"}, claims(nil))), "no signing key with KID"},
		{"no kid", web(f.sign(jwt.SigningMethodRS256, f.dataplane, nil, claims(nil))), "it has no kid"},
		{"user token", web(issue("/tokens/user", `{"name":"a","groups":["mesh-system:admin"],"validFor":"1h"}`)), parse},
		{"zone token", web(issue("/tokens/zone", `{"scope":["ingress","egress"],"validFor":"1h"}`)), parse},
		{"claims of a sidecar under the key of zone tokens", web(f.sign(jwt.SigningMethodRS256, f.zone, kid1, claims(nil))), parse},
		{"type of a zone proxy", web(f.rs256(map[string]any{"Type": "ingress"})), `its type is "ingress"`},
		{"token of another workload by name", web(f.rs256(map[string]any{"Name": "db-1"})), "proxy name from requestor: web-1 is different than in token: db-1"},
		{"token of another workload by tags", web(f.rs256(map[string]any{"Name": nil, "Tags": map[string][]string{"kuma.io/service": {"db"}}})), "not allowed with this token"},
		{"tags of which it has one only", web(f.rs256(map[string]any{"Name": nil, "Tags": map[string][]string{"kuma.io/service": {"web"}, "team": {"a"}}})), `has no tag "team" required by the token`},
		{"token of another mesh", web(issue("/tokens/dataplane", `{"mesh":"second","name":"web-1"}`)), "proxy mesh from requestor: default is different than in token: second"},
		{"another mesh under this mesh's key", visitor{tokens: []string{f.rs256(map[string]any{"Mesh": "second"})}, mesh: "second", name: "web-1"}, parse},
		{"no mesh", web(f.rs256(map[string]any{"Mesh": nil})), parse},
		{"expired", web(f.rs256(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), "it expired at"},
		{"not valid yet", web(f.rs256(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})), "it begins at"},
		{"without an end", web(f.rs256(map[string]any{"exp": nil})), parse},
		{"signature cut off", web(head + "." + body + "."), parse},
		{"signature cut short", web(good[:len(good)-8]), parse},
		{"claims changed", web(head + "." + encode(claims(map[string]any{"exp": 9999999999})) + "." + signature), parse},
		{"long", web(good + strings.Repeat("A", 20<<10)), "it is longer than"},
	}
	for form, secret := range f.publicForms() {
		attempts = append(attempts, attempt{"HS256 with the public key, " + form, web(f.sign(jwt.SigningMethodHS256, secret, kid1, claims(nil))), parse})
	}
	// What a visitor brings along changes nothing, and is stored nowhere.
	for i := range attempts {
		v := &attempts[i].visitor
		v.resource = dataplaneJSON(v.name, "web", "127.0.0.9")
		if v.mesh != "default" {
			v.resource = strings.Replace(v.resource, `"mesh":"default"`, fmt.Sprintf(`"mesh":%q`, v.mesh), 1)
		}
	}

	doors := r.doors(conn)
	before := r.written()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			for _, a := range attempts {
				refused(t, d, a)
			}
			if d.header {
				refused(t, d, attempt{"two good tokens", web(good, good), `exactly 1 "authorization" header, got 2`})
				refused(t, d, attempt{"a good token behind a forged one", web(none("none")+"."+body+".", good), `exactly 1 "authorization" header, got 2`})
			}
		})
	}
	for _, kind := range []string{"ingress", "egress"} {
		zone := func(token string) visitor {
			return visitor{tokens: []string{token}, name: "z", proxyType: kind, resource: zoneProxyJSON(kind)}
		}
		other := map[string]string{"ingress": "egress", "egress": "ingress"}[kind]
		list := []attempt{
			{"no token", visitor{name: "z", proxyType: kind, resource: zoneProxyJSON(kind)}, ""},
			{"dataplane token", zone(good), parse},
			{"dataplane token with the type of a zone proxy", zone(f.rs256(map[string]any{"Type": kind, "Mesh": nil})), parse},
			{"user token", zone(issue("/tokens/user", `{"name":"a","validFor":"1h"}`)), parse},
			{"token of the other scope", zone(issue("/tokens/zone", fmt.Sprintf(`{"scope":[%q],"validFor":"1h"}`, other))), fmt.Sprintf("does not contain %q", kind)},
			{"token of another zone", zone(issue("/tokens/zone", fmt.Sprintf(`{"zone":"far","scope":[%q],"validFor":"1h"}`, kind))), "different than in token: far"},
			{"scope under the attacker's key", zone(f.sign(jwt.SigningMethodRS256, f.own, kid1, claims(map[string]any{"Scope": []string{kind}}))), parse},
		}
		for _, d := range doors {
			if !d.zone {
				continue
			}
			t.Run(d.name+", "+kind, func(t *testing.T) {
				for _, a := range list {
					refused(t, d, a)
				}
			})
		}
	}
	if after := r.written(); after != before {
		t.Errorf("what nobody was let in for has changed the store:\n%s\nwas\n%s", after, before)
	}

	// The same with a good token: what is refused above is refused for its token only.
	for _, d := range doors {
		v := web(good)
		v.resource = dataplaneJSON("web-1", "web", "127.0.0.1")
		if err := knock(t, d, &v); err != nil {
			t.Errorf("%s: a good token is refused: %v", d.name, err)
		}
		if !d.zone {
			continue
		}
		v = visitor{name: "in", proxyType: "ingress", tokens: []string{issue("/tokens/zone", `{"scope":["ingress"],"validFor":"1h"}`)}}
		v.resource = strings.Replace(zoneProxyJSON("ingress"), `"z"`, `"in"`, 1)
		if err := knock(t, d, &v); err != nil {
			t.Errorf("%s: a good zone token is refused: %v", d.name, err)
		}
	}
	if r.written() == before {
		t.Error("the store is looked at in the wrong places: those who were let in have changed nothing there")
	}
	forgedUsers(t, r, good, issue("/tokens/zone", `{"scope":["ingress","egress"],"validFor":"1h"}`))
}

func zoneProxyJSON(kind string) string {
	if kind == "ingress" {
		return `{"type":"ZoneIngress","name":"z","networking":{"address":"10.0.0.1","port":10001}}`
	}
	return `{"type":"ZoneEgress","name":"z","networking":{"address":"10.0.0.2","port":10002}}`
}

// knock gives up when the door stays shut and nobody says why.
func knock(t *testing.T, d door, v *visitor) error {
	t.Helper()
	return d.knock(bounded(t), v)
}

func refused(t *testing.T, d door, a attempt) {
	t.Helper()
	err := knock(t, d, &a.visitor)
	switch {
	case status.Code(err) != codes.Unauthenticated:
		t.Errorf("%s: got %v, want Unauthenticated", a.name, err)
	case !strings.Contains(err.Error(), a.want):
		t.Errorf("%s: got %v, want %q", a.name, err, a.want)
	case strings.Contains(err.Error(), "eyJ"):
		t.Errorf("%s: the refusal holds a token: %v", a.name, err)
	}
}

// forgedUsers tries the tokens of proxies where people show theirs.
func forgedUsers(t *testing.T, r *running, dataplane, zone string) {
	t.Helper()
	for name, raw := range map[string]string{"dataplane token": dataplane, "zone token": zone} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.cp.Addresses().HTTP.String()+"/global-secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "cp.example" // not local, where nobody is asked
		req.Header.Set("Authorization", "Bearer "+raw)
		resp, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a %s as that of a user: status %d, want 401", name, resp.StatusCode)
		}
	}
}
