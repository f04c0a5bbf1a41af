// Package meshtrafficpermission says which clients may reach a proxy (contract policies.md §3.3).
package meshtrafficpermission

import "github.com/kuma-dp/kuma-dp/policy"

// Spec is the body of a MeshTrafficPermission.
type Spec struct {
	policy.FromSpec[Conf]
}

// Conf is what is allowed to a client.
type Conf struct {
	// Action is Allow, Deny or AllowWithShadowDeny.
	Action string `json:"action,omitempty"`
}

// Actions. AllowWithShadowDeny allows, and counts and logs what Deny would have refused.
const (
	Allow               = "Allow"
	Deny                = "Deny"
	AllowWithShadowDeny = "AllowWithShadowDeny"
)
