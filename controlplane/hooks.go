package controlplane

import (
	"context"
	"errors"

	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/resource"
)

// authenticate makes the check of a stream's first request; no tokens let sidecars in without. A zone proxy always needs its
// token. What the token says about itself is checked before the Dataplane is decoded: a stranger costs no work. Its tags are
// for whoever knows the Dataplanes: the one that a proxy brings takes the place of the stored one, which may be another's, and
// the stored one may be replaced later.
func authenticate(tokens, zoneTokens *token.Validator, zone string) func(context.Context, string, *xds.Node) error {
	return func(_ context.Context, raw string, node *xds.Node) error {
		if node.Meta.ProxyType == token.TypeIngress || node.Meta.ProxyType == token.TypeEgress {
			return zoneTokens.AuthenticateZoneProxy(raw, zone, node.Meta.ProxyType)
		}
		if tokens == nil {
			return nil
		}
		claims, err := tokens.Dataplane(raw)
		if err != nil {
			return err
		}
		who := token.Proxy{Mesh: node.ID.Mesh, Name: node.ID.Name}
		early := *claims
		early.Tags = nil
		if err := early.Allow(who); err != nil || len(claims.Tags) == 0 {
			return err
		}
		node.Permit = func(d *resource.Dataplane) error {
			has := who
			has.Tags = identity.Tags(d)
			return claims.Allow(has)
		}
		return nil
	}
}

// check guards what a resource means beside others. It changes nothing.
func (p *parts) check(_ context.Context, old, next *resource.Resource) ([]resource.Violation, error) {
	_, faults := p.authorities(old, next)
	return faults, nil
}

// authorities returns what must be stored before a Mesh is, or why it cannot be.
func (p *parts) authorities(old, next *resource.Resource) ([]store.Op, []resource.Violation) {
	if next.Kind != resource.KindMesh {
		return nil, nil
	}
	if old != nil {
		if v := resource.ValidateMeshChange(resource.SpecOf[*resource.Mesh](old), resource.SpecOf[*resource.Mesh](next)); len(v) > 0 {
			return nil, v
		}
	}
	ops, err := p.ids.Ops(next)
	if err != nil {
		// A provided authority that cannot be used is the user's to mend; nothing in the error is secret.
		return nil, []resource.Violation{{Field: "mtls.backends[0].conf", Reason: err.Error()}}
	}
	return ops, nil
}

// beforePut is check, and makes the authority of a mesh that is there already and whose mTLS is being enabled: it must exist
// before proxies are told.
func (p *parts) beforePut(ctx context.Context, old, next *resource.Resource) ([]resource.Violation, error) {
	ops, faults := p.authorities(old, next)
	if len(faults) > 0 || old == nil || len(ops) == 0 {
		return faults, nil
	}
	if _, err := p.store.Commit(ctx, ops...); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	return nil, nil
}
