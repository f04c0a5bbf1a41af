package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Names of users and groups (contract controlplane.md §2.5).
const (
	AdminUser            = "mesh-system:admin"
	AdminGroup           = "mesh-system:admin"
	AnonymousUser        = "mesh-system:anonymous"
	AuthenticatedGroup   = "mesh-system:authenticated"
	UnauthenticatedGroup = "mesh-system:unauthenticated"
)

// List is who may do something.
type List struct {
	Users  []string `json:"users"`
	Groups []string `json:"groups"`
}

// Access are the static access lists, KUMA_ACCESS_STATIC_*. Everything else may be done by anyone who reaches the port.
type Access struct {
	AdminResources       List `json:"adminResources"`
	GenerateDPToken      List `json:"generateDpToken"`
	GenerateUserToken    List `json:"generateUserToken"`
	GenerateZoneToken    List `json:"generateZoneToken"`
	ViewConfigDump       List `json:"viewConfigDump"`
	ViewStats            List `json:"viewStats"`
	ViewClusters         List `json:"viewClusters"`
	ControlPlaneMetadata List `json:"controlPlaneMetadata"`
}

// DefaultAccess is what 2.9 does when nothing is configured.
func DefaultAccess() Access {
	admin := List{Users: []string{AdminUser}, Groups: []string{AdminGroup}}
	everyone := List{Users: []string{}, Groups: []string{UnauthenticatedGroup, AuthenticatedGroup}}
	return Access{
		AdminResources: admin, GenerateDPToken: admin, GenerateUserToken: admin, GenerateZoneToken: admin,
		ViewConfigDump: everyone, ViewStats: everyone, ViewClusters: everyone, ControlPlaneMetadata: everyone,
	}
}

// hardened returns the lists without those who show no credentials.
func (a Access) hardened() Access {
	for _, l := range []*List{
		&a.AdminResources, &a.GenerateDPToken, &a.GenerateUserToken, &a.GenerateZoneToken,
		&a.ViewConfigDump, &a.ViewStats, &a.ViewClusters, &a.ControlPlaneMetadata,
	} {
		l.Users = without(l.Users, AnonymousUser)
		l.Groups = without(l.Groups, UnauthenticatedGroup)
	}
	return a
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

// mayChange refuses changes by the anonymous in hardened mode.
func (s *Server) mayChange(r *http.Request, u token.User) error {
	if !s.cfg.Hardened || slices.Contains(u.Groups, AuthenticatedGroup) {
		return nil
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	default:
		return denied(u, "changes: this control plane is hardened, show a user token")
	}
}

// Check returns a 403 when u is not on the list. What names the thing, as in "the resource of type "Secret"".
func (l List) Check(u token.User, what string) error {
	if slices.Contains(l.Users, u.Name) || slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(l.Groups, g) }) {
		return nil
	}
	return denied(u, what)
}

func denied(u token.User, what string) error {
	return &Error{
		Status: http.StatusForbidden, Title: "Access Denied",
		Detail: fmt.Sprintf("user %q cannot access %s", u.Name+"/"+strings.Join(u.Groups, ","), what),
	}
}

// mayAccess checks the kinds that only administrators see.
func (s *Server) mayAccess(r *http.Request, d *resource.Descriptor) error {
	if !d.AdminOnly {
		return nil
	}
	return s.cfg.Access.AdminResources.Check(UserOf(r.Context()), fmt.Sprintf("the resource of type %q", d.Kind))
}

type userKey struct{}

// UserOf returns who asks: on the context of every request that reaches a handler.
func UserOf(ctx context.Context) token.User {
	u, _ := ctx.Value(userKey{}).(token.User)
	return u
}

func admin() token.User {
	return token.User{Name: AdminUser, Groups: []string{AdminGroup, AuthenticatedGroup}}
}

func anonymous() token.User {
	return token.User{Name: AnonymousUser, Groups: []string{UnauthenticatedGroup}}
}
