package token

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TestAuthenticateZoneProxy is contract controlplane.md §2.5.
func TestAuthenticateZoneProxy(t *testing.T) {
	b := newBench(t)
	put(t, b.store, secret(resource.KindGlobalSecret, "", "zone-token-signing-key-1", privatePEM(key()[0])))
	issue := func(z Zone, validFor time.Duration) string {
		t.Helper()
		raw, err := b.issuer.Zone(z, validFor)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	both := issue(Zone{Scope: []string{ScopeIngress, ScopeEgress}}, time.Hour)
	short := issue(Zone{Scope: []string{ScopeEgress}}, time.Minute)
	for _, tt := range []struct{ name, raw, zone, scope, want string }{
		{"any zone, ingress", both, "east", ScopeIngress, ""},
		{"any zone, egress", both, "west", ScopeEgress, ""},
		{"this zone", issue(Zone{Zone: "east", Scope: []string{ScopeEgress}}, time.Hour), "east", ScopeEgress, ""},
		{"another zone", issue(Zone{Zone: "east", Scope: []string{ScopeEgress}}, time.Hour), "west", ScopeEgress, "different than in token: east"},
		{"another scope", short, "east", ScopeIngress, `"egress" does not contain "ingress"`},
		{"no scope", issue(Zone{Zone: "east"}, time.Hour), "east", ScopeIngress, "does not contain"},
		{"of a dataplane", b.dataplane(t, Dataplane{Mesh: "m", Name: "x", Type: TypeEgress}, time.Hour), "east", ScopeEgress, "does not contain"}, // signed with the same key, which no control plane does
		{"none", "", "east", ScopeEgress, "token is not valid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := b.validator.AuthenticateZoneProxy(tt.raw, tt.zone, tt.scope)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	b.now = b.now.Add(2 * time.Minute)
	if err := b.validator.AuthenticateZoneProxy(short, "east", ScopeEgress); !errors.Is(err, ErrInvalid) {
		t.Errorf("expired: %v", err)
	}
}
