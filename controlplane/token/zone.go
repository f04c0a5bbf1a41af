package token

import (
	"context"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Values of Zone.Scope: what the holder of a zone token may be.
const (
	ScopeIngress = TypeIngress
	ScopeEgress  = TypeEgress
)

// DefaultZoneLifetime is used when a request gives none.
const DefaultZoneLifetime = DefaultDataplaneLifetime

// Zone says which zone proxies a token is for. An empty Zone binds nothing.
type Zone struct {
	Zone  string
	Scope []string
}

type zoneClaims struct {
	Zone  string
	Scope []string
	jwt.RegisteredClaims
}

func zoneScope() scope { return scope{kind: resource.KindGlobalSecret, base: "zone-token"} }

// EnsureZoneKey makes the first signing key of zone tokens when there is none. It is not for a zone with a global control
// plane, which has the public halves only (contract zones.md §4).
func EnsureZoneKey(ctx context.Context, s store.Store) error { return ensure(ctx, s, zoneScope()) }

// Zone returns a zone token, valid for DefaultZoneLifetime when validFor is 0. It returns ErrNoSigningKey when there is no
// key, as in a zone with a global control plane.
func (i *Issuer) Zone(z Zone, validFor time.Duration) (string, error) {
	if validFor == 0 {
		validFor = DefaultZoneLifetime
	}
	return i.sign(zoneScope(), validFor, func(r jwt.RegisteredClaims) jwt.Claims {
		return zoneClaims{Zone: z.Zone, Scope: z.Scope, RegisteredClaims: r}
	})
}
