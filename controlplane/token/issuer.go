package token

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
)

// Values of Dataplane.Type; empty means TypeDataplane.
const (
	TypeDataplane = "dataplane"
	TypeIngress   = "ingress"
	TypeEgress    = "egress"
)

const (
	// backdating of nbf forgives clocks that differ between the control plane and whoever checks.
	backdating = 5 * time.Minute
	// DefaultDataplaneLifetime is used when a request gives none.
	DefaultDataplaneLifetime = 10 * 365 * 24 * time.Hour
)

// ErrLifetime means that a lifetime is missing where one is needed, or negative.
var ErrLifetime = errors.New("validity must be a positive duration")

// Dataplane says which proxies a token is for. Empty fields but Mesh bind nothing.
type Dataplane struct {
	Name string
	Mesh string
	// Tags are the values that the Dataplane may have, and must have at least one of, by tag.
	Tags map[string][]string
	Type string
}

// User is who holds a user token.
type User struct {
	Name   string
	Groups []string
}

type dataplaneClaims struct {
	Name string
	Mesh string
	Tags map[string][]string
	Type string
	jwt.RegisteredClaims
}

type userClaims struct {
	Name   string
	Groups []string
	// Mesh is in no user token: it tells a dataplane token that was signed with a key used for both.
	Mesh string `json:",omitempty"`
	jwt.RegisteredClaims
}

// Issuer signs tokens with the newest keys of a store. It is safe for concurrent use.
type Issuer struct {
	keys *keys
	now  func() time.Time
}

// NewIssuer returns an issuer over the secrets of r. now is time.Now when nil.
func NewIssuer(r store.Reader, now func() time.Time) *Issuer {
	if now == nil {
		now = time.Now
	}
	return &Issuer{keys: newKeys(r), now: now}
}

// Dataplane returns a dataplane token, valid for DefaultDataplaneLifetime when validFor is 0. It returns
// ErrNoSigningKey when the mesh has no key, as when there is no such mesh.
func (i *Issuer) Dataplane(d Dataplane, validFor time.Duration) (string, error) {
	if validFor == 0 {
		validFor = DefaultDataplaneLifetime
	}
	if d.Type == "" {
		d.Type = TypeDataplane
	}
	return i.sign(dataplaneScope(d.Mesh), validFor, func(r jwt.RegisteredClaims) jwt.Claims {
		return dataplaneClaims{Name: d.Name, Mesh: d.Mesh, Tags: d.Tags, Type: d.Type, RegisteredClaims: r}
	})
}

// User returns a user token. validFor must be positive: a token of a person should end.
func (i *Issuer) User(u User, validFor time.Duration) (string, error) {
	return i.sign(userScope(), validFor, func(r jwt.RegisteredClaims) jwt.Claims {
		return userClaims{Name: u.Name, Groups: u.Groups, RegisteredClaims: r}
	})
}

func (i *Issuer) sign(sc scope, validFor time.Duration, claims func(jwt.RegisteredClaims) jwt.Claims) (string, error) {
	if validFor <= 0 {
		return "", fmt.Errorf("issue %s: %w", sc, ErrLifetime)
	}
	key, kid, err := i.keys.signing(sc)
	if err != nil {
		return "", fmt.Errorf("issue: %w", err)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("issue %s: %w", sc, err)
	}
	now := i.now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(jwt.RegisteredClaims{
		ID: id.String(), IssuedAt: jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now.Add(-backdating)), ExpiresAt: jwt.NewNumericDate(now.Add(validFor)),
	}))
	t.Header["kid"] = strconv.Itoa(kid)
	raw, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("issue %s: %w", sc, err)
	}
	return raw, nil
}
