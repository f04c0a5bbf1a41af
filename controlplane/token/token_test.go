package token

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// key makes RSA keys once for all tests.
var key = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		k, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			panic(err)
		}
		out[i] = k
	}
	return out
})

func privatePEM(k *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

func publicPEM(k *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: x509.MarshalPKCS1PublicKey(&k.PublicKey)})
}

func secret(kind resource.Kind, mesh, name string, data []byte) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: mesh, Name: name}}, Spec: &resource.Secret{Data: data},
	}
}

func put(t *testing.T, s store.Store, r *resource.Resource) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
		t.Fatal(err)
	}
}

func drop(t *testing.T, s store.Store, r *resource.Resource) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Op{Action: store.Delete, Resource: r}); err != nil {
		t.Fatal(err)
	}
}

// bench is a store with the meshes m and n, which have the keys 0 and 1, and user key 1.
type bench struct {
	store     store.Store
	issuer    *Issuer
	validator *Validator
	now       time.Time
}

func newBench(t *testing.T, offline ...PublicKey) *bench {
	t.Helper()
	b := &bench{store: memory.Open(storetest.Registry()), now: time.Now()}
	t.Cleanup(func() { b.store.Close() })
	for i, mesh := range []string{"m", "n"} {
		put(t, b.store, storetest.Mesh(mesh))
		put(t, b.store, secret(resource.KindSecret, mesh, "dataplane-token-signing-key-"+mesh+"-1", privatePEM(key()[i])))
	}
	put(t, b.store, secret(resource.KindGlobalSecret, "", "user-token-signing-key-1", privatePEM(key()[1])))
	clock := func() time.Time { return b.now }
	b.issuer = NewIssuer(b.store, clock)
	v, err := NewValidator(b.store, clock, offline...)
	if err != nil {
		t.Fatal(err)
	}
	b.validator = v
	return b
}

func (b *bench) dataplane(t *testing.T, d Dataplane, validFor time.Duration) string {
	t.Helper()
	raw, err := b.issuer.Dataplane(d, validFor)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestWireForm(t *testing.T) {
	b := newBench(t)
	raw := b.dataplane(t, Dataplane{Name: "a", Mesh: "m", Tags: map[string][]string{"x": {"1", "2"}}}, 0)
	parts := strings.Split(raw, ".")
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		part, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(part, into); err != nil {
			t.Fatal(err)
		}
	}
	if header["alg"] != "RS256" || header["kid"] != "1" || header["typ"] != "JWT" || len(header) != 3 {
		t.Errorf("header: %v", header)
	}
	iat, _ := claims["iat"].(float64)
	nbf, _ := claims["nbf"].(float64)
	exp, _ := claims["exp"].(float64)
	if iat-nbf != 300 || exp-iat != 10*365*24*3600 {
		t.Errorf("times: iat %v, nbf %v, exp %v", iat, nbf, exp)
	}
	if claims["Name"] != "a" || claims["Mesh"] != "m" || claims["Type"] != "dataplane" || claims["jti"] == "" {
		t.Errorf("claims: %v", claims)
	}
}

func TestAuthenticateProxy(t *testing.T) {
	b := newBench(t)
	web := map[string][]string{"kuma.io/service": {"web"}, "version": {"1", "2"}}
	for _, test := range []struct {
		name  string
		token Dataplane
		proxy Proxy
		want  string // part of the error, "" for none
	}{
		{"unbound", Dataplane{Mesh: "m"}, Proxy{"a", "m", web}, ""},
		{"name", Dataplane{Name: "a", Mesh: "m"}, Proxy{"a", "m", nil}, ""},
		{"tags", Dataplane{Mesh: "m", Tags: map[string][]string{"kuma.io/service": {"api", "web"}}}, Proxy{"a", "m", web}, ""},
		{"all values", Dataplane{Mesh: "m", Tags: map[string][]string{"version": {"2", "1", "3"}}}, Proxy{"a", "m", web}, ""},
		{
			"other name",
			Dataplane{Name: "other", Mesh: "m"},
			Proxy{"demo", "m", nil},
			"proxy name from requestor: demo is different than in token: other",
		},
		{"other mesh", Dataplane{Mesh: "n"}, Proxy{"a", "m", nil}, "proxy mesh from requestor: m is different than in token: n"},
		{"no tag", Dataplane{Mesh: "m", Tags: map[string][]string{"team": {"x"}}}, Proxy{"a", "m", web}, `dataplane has no tag "team" required by the token`},
		{
			"value",
			Dataplane{Mesh: "m", Tags: map[string][]string{"version": {"1"}}},
			Proxy{"a", "m", web},
			`dataplane contains tag "version" with value "2" which is not allowed with this token. Allowed values in token are "1"`,
		},
		{"ingress", Dataplane{Mesh: "m", Type: TypeIngress}, Proxy{"a", "m", nil}, `type is "ingress"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := b.validator.AuthenticateProxy(b.dataplane(t, test.token, time.Hour), test.proxy)
			if test.want == "" {
				if err != nil || c.ID == "" || !c.ExpiresAt.After(b.now) {
					t.Errorf("got %v, %v", c, err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestForged has tokens that somebody without a signing key could make, and real ones for something else (demands §3.3,
// assertions 23, 24 and 26).
func TestForged(t *testing.T) {
	b := newBench(t)
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"Name": "a", "Mesh": "m", "Type": "dataplane", "exp": b.now.Add(time.Hour).Unix(), "nbf": b.now.Unix(), "jti": "x"}
		if change != nil {
			change(c)
		}
		return c
	}
	sign := func(method jwt.SigningMethod, kid any, c jwt.MapClaims, key any) string {
		tok := jwt.NewWithClaims(method, c)
		if kid != nil {
			tok.Header["kid"] = kid
		}
		raw, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := sign(jwt.SigningMethodRS256, "1", claims(nil), key()[0])
	if _, err := b.validator.Dataplane(good); err != nil {
		t.Fatalf("the token that the others differ from: %v", err)
	}
	user, err := b.issuer.User(User{Name: "u", Groups: []string{"g"}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"1"}`))
	for name, raw := range map[string]string{
		"empty":                  "",
		"not a token":            "abc",
		"none":                   none + "." + body[1] + ".",
		"none with signature":    none + "." + body[1] + "." + body[2],
		"HS256, public key":      sign(jwt.SigningMethodHS256, "1", claims(nil), publicPEM(key()[0])),
		"HS256, private key PEM": sign(jwt.SigningMethodHS256, "1", claims(nil), privatePEM(key()[0])),
		"RS512":                  sign(jwt.SigningMethodRS512, "1", claims(nil), key()[0]),
		"PS256":                  sign(jwt.SigningMethodPS256, "1", claims(nil), key()[0]),
		"unknown kid":            sign(jwt.SigningMethodRS256, "2", claims(nil), key()[0]),
		"kid of another form":    sign(jwt.SigningMethodRS256, "01", claims(nil), key()[0]),
		"kid is a path":          sign(jwt.SigningMethodRS256, "../1", claims(nil), key()[0]),
		"kid is a number":        sign(jwt.SigningMethodRS256, 1, claims(nil), key()[0]),
		"no kid":                 sign(jwt.SigningMethodRS256, nil, claims(nil), key()[0]),
		"key of another mesh":    sign(jwt.SigningMethodRS256, "1", claims(nil), key()[1]),
		"no such mesh":           sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { c["Mesh"] = "zzz" }), key()[0]),
		"no mesh":                sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { delete(c, "Mesh") }), key()[0]),
		"zone token":             sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { c["Type"] = "egress" }), key()[0]),
		"expired":                sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { c["exp"] = b.now.Add(-time.Second).Unix() }), key()[0]),
		"not yet":                sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { c["nbf"] = b.now.Add(time.Minute).Unix() }), key()[0]),
		"for ever":               sign(jwt.SigningMethodRS256, "1", claims(func(c jwt.MapClaims) { delete(c, "exp") }), key()[0]),
		"changed claims":         body[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"Mesh":"m","exp":9999999999}`)) + "." + body[2],
		"no signature":           body[0] + "." + body[1] + ".",
		"user token":             user,
		"long":                   strings.Repeat("a", maxToken+1),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := b.validator.Dataplane(raw)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, %v, want ErrInvalid", c, err)
			}
			if strings.Contains(err.Error(), "eyJ") {
				t.Errorf("the error holds the token: %v", err)
			}
		})
	}
	for name, raw := range map[string]string{
		"dataplane token": b.dataplane(t, Dataplane{Name: "a", Mesh: "n"}, time.Hour), // signed with the bytes of the user key
		"another key":     sign(jwt.SigningMethodRS256, "1", jwt.MapClaims{"Name": adminLike, "exp": b.now.Add(time.Hour).Unix()}, key()[0]),
		"no name":         sign(jwt.SigningMethodRS256, "1", jwt.MapClaims{"exp": b.now.Add(time.Hour).Unix()}, key()[1]),
	} {
		t.Run("user "+name, func(t *testing.T) {
			if u, err := b.validator.User(raw); !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, %v, want ErrInvalid", u, err)
			}
		})
	}
}

// adminLike is a name that a forger would choose.
const adminLike = "mesh-system:admin"

func TestClockInErrors(t *testing.T) {
	b := newBench(t)
	raw := b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour)
	b.now = b.now.Add(time.Hour + time.Minute)
	if _, err := b.validator.Dataplane(raw); err == nil || !strings.Contains(err.Error(), "expired at") || !strings.Contains(err.Error(), b.now.UTC().Format(time.RFC3339)) {
		t.Errorf("got %v", err)
	}
	// Five minutes of difference between clocks are forgiven, more are named.
	b.now = b.now.Add(-time.Hour - 5*time.Minute)
	if _, err := b.validator.Dataplane(raw); err != nil {
		t.Errorf("got %v", err)
	}
	b.now = b.now.Add(-2 * time.Minute)
	if _, err := b.validator.Dataplane(raw); err == nil || !strings.Contains(err.Error(), "begins at") {
		t.Errorf("got %v", err)
	}
}

func TestRevocation(t *testing.T) {
	b := newBench(t)
	first, second := b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour), b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour)
	c, err := b.validator.Dataplane(first)
	if err != nil {
		t.Fatal(err)
	}
	list := secret(resource.KindSecret, "m", "dataplane-token-revocations-m", []byte("other, "+c.ID+"\n,"))
	put(t, b.store, list)
	if _, err := b.validator.Dataplane(first); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked token: got %v", err)
	}
	if _, err := b.validator.Dataplane(second); err != nil {
		t.Errorf("the other token: got %v", err)
	}
	drop(t, b.store, list)
	if _, err := b.validator.Dataplane(first); err != nil {
		t.Errorf("after the list is gone: got %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	b := newBench(t)
	old := b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour)
	for _, n := range []int{2, 10} { // 10 is above 9 as a number only
		put(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-"+strconv.Itoa(n), privatePEM(key()[1])))
	}
	put(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-x", []byte("no number")))
	raw := b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour)
	tok, _, err := jwt.NewParser().ParseUnverified(raw, jwt.MapClaims{})
	if err != nil || tok.Header["kid"] != "10" {
		t.Fatalf("got kid %v, %v, want 10", tok.Header["kid"], err)
	}
	for _, r := range []string{old, raw} {
		if _, err := b.validator.Dataplane(r); err != nil {
			t.Errorf("got %v", err)
		}
	}
	drop(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-1", nil))
	if _, err := b.validator.Dataplane(old); !errors.Is(err, ErrInvalid) {
		t.Errorf("token of a deleted key: got %v", err)
	}
	// A key that was replaced under its name is read anew.
	put(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-10", privatePEM(key()[0])))
	if _, err := b.validator.Dataplane(raw); !errors.Is(err, ErrInvalid) {
		t.Errorf("token of a replaced key: got %v", err)
	}
}

func TestPublicKeys(t *testing.T) {
	b := newBench(t, PublicKey{KID: "offline", Mesh: "m", PEM: publicPEM(key()[1])})
	c := jwt.MapClaims{"Mesh": "m", "exp": b.now.Add(time.Hour).Unix()}
	tok := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	tok.Header["kid"] = "offline"
	raw, err := tok.SignedString(key()[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.validator.Dataplane(raw); err != nil {
		t.Errorf("configured public key: %v", err)
	}
	put(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-public-key-m-7", publicPEM(key()[1])))
	tok.Header["kid"] = "7"
	if raw, err = tok.SignedString(key()[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.validator.Dataplane(raw); err != nil {
		t.Errorf("stored public key: %v", err)
	}
	if _, err := NewValidator(b.store, nil, PublicKey{KID: "x", PEM: privatePEM(key()[0])}); err == nil {
		t.Error("a private key was accepted as a public one")
	}
}

func TestIssueRefused(t *testing.T) {
	b := newBench(t)
	if _, err := b.issuer.Dataplane(Dataplane{Mesh: "nope"}, 0); !errors.Is(err, ErrNoSigningKey) {
		t.Errorf("got %v, want ErrNoSigningKey", err)
	}
	if _, err := b.issuer.User(User{Name: "a"}, 0); !errors.Is(err, ErrLifetime) {
		t.Errorf("got %v, want ErrLifetime", err)
	}
	put(t, b.store, secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-9", []byte("PRIVATE STUFF")))
	if _, err := b.issuer.Dataplane(Dataplane{Mesh: "m"}, 0); err == nil || strings.Contains(err.Error(), "STUFF") {
		t.Errorf("got %v, want an error without the key", err)
	}
}

func TestEnsure(t *testing.T) {
	s := memory.Open(storetest.Registry())
	defer s.Close()
	put(t, s, storetest.Mesh("m"))
	for range 2 {
		if err := EnsureDataplaneKey(t.Context(), s, "m"); err != nil {
			t.Fatal(err)
		}
		if err := EnsureUserKey(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	list := s.List(resource.KindSecret, "m")
	if len(list) != 1 || list[0].Name != "dataplane-token-signing-key-m-1" {
		t.Fatalf("got %v", list)
	}
	block, _ := pem.Decode(resource.SpecOf[*resource.Secret](list[0]).Data)
	if block == nil || block.Type != "RSA PRIVATE KEY" {
		t.Fatal("not the PEM of PKCS#1")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil || k.N.BitLen() != 2048 {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(resource.Key{Kind: resource.KindGlobalSecret, Name: "user-token-signing-key-1"}); err != nil {
		t.Error(err)
	}
	if err := EnsureDataplaneKey(t.Context(), s, "nope"); !errors.Is(err, store.ErrNoMesh) {
		t.Errorf("got %v, want ErrNoMesh", err)
	}
}

func FuzzValidate(f *testing.F) {
	s := memory.Open(storetest.Registry())
	defer s.Close()
	if _, err := s.Commit(f.Context(), storetest.Create(storetest.Mesh("m")),
		storetest.Create(secret(resource.KindSecret, "m", "dataplane-token-signing-key-m-1", privatePEM(key()[0])))); err != nil {
		f.Fatal(err)
	}
	v, err := NewValidator(s, nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := NewIssuer(s, nil).Dataplane(Dataplane{Mesh: "m", Name: "a"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", good + "A"} {
		f.Add(seed)
	}
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := v.Dataplane(raw); err == nil && !strings.HasPrefix(raw, signed+".") {
			t.Errorf("accepted %q", raw)
		}
		if _, err := v.User(raw); err == nil {
			t.Errorf("accepted %q as a user's", raw)
		}
	})
}
