package token

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
)

// maxToken bounds the work on a token before its signature is checked. A token of 2.9 has less than 1 KiB.
const maxToken = 16 << 10

// ErrInvalid means that a token is not one that we accept. What wraps it says why, and never holds the token.
var ErrInvalid = errors.New("token is not valid")

// Kind is a kind of tokens. Each has keys of its own.
type Kind string

// The kinds, as the names of their secrets begin.
const (
	KindDataplane Kind = "dataplane-token"
	KindZone      Kind = "zone-token"
	KindUser      Kind = "user-token"
)

// PublicKey verifies tokens that were signed elsewhere ("offline" tokens).
type PublicKey struct {
	// Kind is the only kind of tokens that the key verifies; when empty, KindDataplane with a mesh and KindUser without.
	Kind Kind
	// KID is the key id of the tokens. It goes before a key of the store with the same number.
	KID string
	// Mesh is the mesh of dataplane tokens, empty for others.
	Mesh string
	// PEM is a PKCS#1 or PKIX RSA public key.
	PEM []byte
}

// Validator checks tokens against the keys and revocation lists of a store. It is safe for concurrent use.
type Validator struct {
	keys   *keys
	public map[offlineKey]*rsa.PublicKey
	// offline are the kinds whose keys in the store do not count.
	offline map[Kind]bool
	parser  *jwt.Parser
	now     func() time.Time
}

type offlineKey struct {
	kind      Kind
	mesh, kid string
}

// WithoutSecrets makes v verify tokens of the kinds with public keys only, and returns it. It must be called before v is
// used. Revocation lists are still read from the store.
func (v *Validator) WithoutSecrets(kinds ...Kind) *Validator {
	for _, k := range kinds {
		v.offline[k] = true
	}
	return v
}

// NewValidator returns a validator over the secrets of r and the given public keys. now is time.Now when nil.
func NewValidator(r store.Reader, now func() time.Time, offline ...PublicKey) (*Validator, error) {
	if now == nil {
		now = time.Now
	}
	v := &Validator{
		keys: newKeys(r), now: now, public: map[offlineKey]*rsa.PublicKey{}, offline: map[Kind]bool{},
		// A list of exactly one method shuts out "none" and HMAC with a public key as its secret.
		parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithTimeFunc(now),
			jwt.WithExpirationRequired(), jwt.WithStrictDecoding()),
	}
	for _, k := range offline {
		p, err := parse(k.PEM)
		if err != nil {
			return nil, fmt.Errorf("read public key %q: %w", k.KID, err)
		}
		if p.private != nil {
			return nil, fmt.Errorf("read public key %q: it is a private key", k.KID)
		}
		kind := k.Kind
		switch {
		case kind == "" && k.Mesh == "":
			kind = KindUser
		case kind == "":
			kind = KindDataplane
		}
		v.public[offlineKey{kind, k.Mesh, k.KID}] = p.public
	}
	return v, nil
}

// Claims are what an accepted dataplane token says.
type Claims struct {
	Dataplane
	// ID is empty for offline tokens without one.
	ID        string
	ExpiresAt time.Time
}

// Proxy is who presents a dataplane token: what it says about itself, which the token must allow.
type Proxy struct {
	Name string
	Mesh string
	// Tags are all values of the Dataplane by tag: of its inbounds and its gateway.
	Tags map[string][]string
}

// Dataplane checks a dataplane token by itself: signature, times, revocation, type. Its error wraps ErrInvalid.
func (v *Validator) Dataplane(raw string) (*Claims, error) {
	var c dataplaneClaims
	if err := v.check(raw, &c, func() scope { return dataplaneScope(c.Mesh) }); err != nil {
		return nil, err
	}
	switch {
	case c.Mesh == "":
		return nil, fmt.Errorf("%w: it has no mesh", ErrInvalid)
	case c.Type != "" && c.Type != TypeDataplane:
		return nil, fmt.Errorf("%w: its type is %q, want %q", ErrInvalid, c.Type, TypeDataplane)
	}
	return &Claims{
		Dataplane: Dataplane{Name: c.Name, Mesh: c.Mesh, Tags: c.Tags, Type: TypeDataplane},
		ID:        c.ID, ExpiresAt: c.ExpiresAt.Time,
	}, nil
}

// AuthenticateProxy checks a dataplane token and that it is for p (contract agent.md §5). Its error says which claim
// does not fit and wraps ErrInvalid.
func (v *Validator) AuthenticateProxy(raw string, p Proxy) (*Claims, error) {
	c, err := v.Dataplane(raw)
	if err != nil {
		return nil, err
	}
	return c, c.Allow(p)
}

// Allow returns nil when the claims are for p. The texts are those of 2.9, on which people search.
func (c *Claims) Allow(p Proxy) error {
	if c.Name != "" && c.Name != p.Name {
		return refuse("proxy name from requestor: %s is different than in token: %s", p.Name, c.Name)
	}
	if c.Mesh != p.Mesh {
		return refuse("proxy mesh from requestor: %s is different than in token: %s", p.Mesh, c.Mesh)
	}
	for _, tag := range slices.Sorted(maps.Keys(c.Tags)) {
		allowed, values := c.Tags[tag], p.Tags[tag]
		if len(values) == 0 {
			return refuse("dataplane has no tag %q required by the token", tag)
		}
		for _, value := range values {
			if !slices.Contains(allowed, value) {
				return refuse("dataplane contains tag %q with value %q which is not allowed with this token. Allowed values in token are %q",
					tag, value, strings.Join(allowed, ", "))
			}
		}
	}
	return nil
}

// User checks a user token. Its error wraps ErrInvalid.
func (v *Validator) User(raw string) (*User, error) {
	var c userClaims
	if err := v.check(raw, &c, userScope); err != nil {
		return nil, err
	}
	switch {
	case c.Name == "":
		return nil, fmt.Errorf("%w: it has no name", ErrInvalid)
	case c.Mesh != "":
		return nil, fmt.Errorf("%w: it is no user token", ErrInvalid)
	}
	return &User{Name: c.Name, Groups: c.Groups}, nil
}

// check parses raw into claims and checks it with the keys of the scope, which is asked for after parsing: the mesh of
// a dataplane token is in the token. Each scope has keys of its own, so a token of one kind is no token of another.
func (v *Validator) check(raw string, claims jwt.Claims, sc func() scope) error {
	if len(raw) > maxToken {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, maxToken)
	}
	_, err := v.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		s := sc()
		if s.kind == "" || kid == "" {
			return nil, errors.New("it has no kid")
		}
		if key := v.public[offlineKey{Kind(s.base), s.mesh, kid}]; key != nil {
			return key, nil
		}
		if v.offline[Kind(s.base)] {
			return nil, fmt.Errorf("there is no public key with KID %.40q of %s in the configuration", kid, s)
		}
		n, ok := serial(kid)
		if !ok {
			return nil, fmt.Errorf("there is no signing key with KID %.40q of %s", kid, s)
		}
		return v.keys.verifying(s, n)
	})
	if err != nil {
		return v.explain(err, claims)
	}
	id := claimID(claims)
	if id == "" {
		return nil
	}
	revoked, err := v.keys.revoked(sc(), id)
	switch {
	case err != nil:
		return fmt.Errorf("check revocation: %w", err)
	case revoked:
		return fmt.Errorf("%w: it is revoked", ErrInvalid)
	}
	return nil
}

// explain turns the library's errors into ours, with the clock where that is the likely cause.
func (v *Validator) explain(err error, claims jwt.Claims) error {
	now := v.now().UTC().Format(time.RFC3339)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		at, _ := claims.GetExpirationTime()
		return fmt.Errorf("%w: it expired at %s, the control plane's clock says %s; issue a new one", ErrInvalid, at.UTC().Format(time.RFC3339), now)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		at, _ := claims.GetNotBefore()
		return fmt.Errorf("%w: it begins at %s, the control plane's clock says %s; compare the clocks", ErrInvalid, at.UTC().Format(time.RFC3339), now)
	default:
		return fmt.Errorf("%w: could not parse token: %w; if the control plane uses the in-memory store, "+
			"every restart makes new signing keys: issue a new token", ErrInvalid, err)
	}
}

func claimID(c jwt.Claims) string {
	switch c := c.(type) {
	case *dataplaneClaims:
		return c.ID
	case *userClaims:
		return c.ID
	case *zoneClaims:
		return c.ID
	default:
		return ""
	}
}

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// refusal is an ErrInvalid whose text is exactly that of 2.9.
type refusal struct{ text string }

func (r *refusal) Error() string        { return r.text }
func (r *refusal) Is(target error) bool { return target == ErrInvalid }
