package token

import (
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// lasting reads tokens whose times were checked when they were presented.
var lasting = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())

// Withdrawn says why a dataplane or zone token that was accepted is not any more: it has been revoked, or its signing key is
// gone. It is nil while neither is so; that the token has expired meanwhile does not matter, as it was presented in time.
func (v *Validator) Withdrawn(raw string) error {
	var c dataplaneClaims
	if _, _, err := lasting.ParseUnverified(raw, &c); err != nil {
		return v.explain(err, &c)
	}
	sc := zoneScope
	if c.Mesh != "" {
		sc = func() scope { return dataplaneScope(c.Mesh) }
	}
	patient := *v
	patient.parser = lasting
	return patient.check(raw, &c, sc)
}

// Concerns tells whether a change of a secret of a name can withdraw tokens: it is a list of revocations or a signing key.
func Concerns(secret string) bool {
	for _, kind := range []Kind{KindDataplane, KindZone} {
		for _, what := range []string{"-revocations", "-signing-key", "-signing-public-key"} {
			if strings.HasPrefix(secret, string(kind)+what) {
				return true
			}
		}
	}
	return false
}
