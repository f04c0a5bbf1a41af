package token

import (
	"slices"
	"strings"
)

// AuthenticateZoneProxy checks a zone token, and that it is for a proxy of the scope, ScopeIngress or ScopeEgress, in zone
// (contract controlplane.md §2.5). Its error wraps ErrInvalid.
func (v *Validator) AuthenticateZoneProxy(raw, zone, scope string) error {
	var c zoneClaims
	if err := v.check(raw, &c, zoneScope); err != nil {
		return err
	}
	switch {
	case !slices.Contains(c.Scope, scope):
		return refuse("token scope %q does not contain %q: issue one with it", strings.Join(c.Scope, ", "), scope)
	case c.Zone != "" && c.Zone != zone:
		return refuse("zone of the control plane: %s is different than in token: %s", zone, c.Zone)
	}
	return nil
}
