package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestZoneWireForm has the claims of contract controlplane.md §0 item 7.
func TestZoneWireForm(t *testing.T) {
	b := newBench(t)
	if _, err := b.issuer.Zone(Zone{Scope: []string{ScopeEgress}}, 0); !errors.Is(err, ErrNoSigningKey) {
		t.Errorf("without a key: got %v", err)
	}
	put(t, b.store, secret(resource.KindGlobalSecret, "", "zone-token-signing-key-1", privatePEM(key()[0])))
	raw, err := b.issuer.Zone(Zone{Zone: "east", Scope: []string{ScopeIngress, ScopeEgress}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	part, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(part, &claims); err != nil {
		t.Fatal(err)
	}
	scope, _ := claims["Scope"].([]any)
	if claims["Zone"] != "east" || len(scope) != 2 || scope[0] != "ingress" || scope[1] != "egress" {
		t.Errorf("got %v", claims)
	}
	exp, _ := claims["exp"].(float64)
	if left := time.Unix(int64(exp), 0).Sub(b.now); left < DefaultZoneLifetime-time.Minute {
		t.Errorf("it ends in %s", left)
	}
	// A token for zone proxies is none of a sidecar or a person, even when one key signs for both.
	put(t, b.store, secret(resource.KindGlobalSecret, "", "user-token-signing-key-1", privatePEM(key()[0])))
	if _, err := b.validator.Dataplane(raw); !errors.Is(err, ErrInvalid) {
		t.Errorf("as a dataplane token: got %v", err)
	}
	if _, err := b.validator.User(raw); !errors.Is(err, ErrInvalid) {
		t.Errorf("as a user token: got %v", err)
	}
}

func TestEnsureZoneKey(t *testing.T) {
	s := memory.Open(storetest.Registry())
	defer s.Close()
	for range 2 {
		if err := EnsureZoneKey(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	list := s.List(resource.KindGlobalSecret, "")
	if len(list) != 1 || list[0].Name != "zone-token-signing-key-1" {
		t.Errorf("got %v", list)
	}
}

// TestOfflineKinds: a public key verifies tokens of its own kind only, and secrets may be left out.
func TestOfflineKinds(t *testing.T) {
	b := newBench(t, PublicKey{Kind: KindZone, KID: "off", PEM: publicPEM(key()[0])})
	sign := func(kid string, claims jwt.MapClaims) string {
		t.Helper()
		claims["exp"] = b.now.Add(time.Hour).Unix()
		tok := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
		tok.Header["kid"] = kid
		raw, err := tok.SignedString(key()[0])
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if err := b.validator.AuthenticateZoneProxy(sign("off", jwt.MapClaims{"Scope": []string{ScopeEgress}}), "east", ScopeEgress); err != nil {
		t.Errorf("an offline zone token: %v", err)
	}
	if u, err := b.validator.User(sign("off", jwt.MapClaims{"Name": adminLike})); !errors.Is(err, ErrInvalid) {
		t.Errorf("the key of zone tokens makes user %v, %v", u, err)
	}
	put(t, b.store, secret(resource.KindGlobalSecret, "", "zone-token-signing-key-1", privatePEM(key()[0])))
	stored := sign("1", jwt.MapClaims{"Scope": []string{ScopeEgress}})
	if err := b.validator.AuthenticateZoneProxy(stored, "east", ScopeEgress); err != nil {
		t.Errorf("a key of the store: %v", err)
	}
	b.validator.WithoutSecrets(KindZone)
	if err := b.validator.AuthenticateZoneProxy(stored, "east", ScopeEgress); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key of the store that does not count: got %v", err)
	}
	if _, err := b.validator.Dataplane(b.dataplane(t, Dataplane{Mesh: "m"}, time.Hour)); err != nil {
		t.Errorf("another kind: %v", err)
	}
}
