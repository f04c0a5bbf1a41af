package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/hostname"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Names of what the control plane keeps for itself (contract controlplane.md §1.2, §2.6).
const (
	clusterIDName  = "kuma-cluster-id"
	adminTokenName = "admin-user-token"
	defaultMesh    = "default"
)

// adminTokenLifetime is that of 2.9.
const adminTokenLifetime = 10 * 365 * 24 * time.Hour

// seeder creates what a control plane needs at its first start, and finds it again at every later one: nothing that
// exists is changed, so that a restart invalidates no token, certificate or policy.
type seeder struct {
	cfg    *Config
	store  store.Store
	ids    *identity.Issuer
	tokens *token.Issuer
}

func (s *seeder) run(ctx context.Context) error {
	var zoneKey error
	var beside sync.WaitGroup // a key takes long to make, and nothing below needs this one
	if s.cfg.Multizone.Zone.GlobalAddress == "" {
		beside.Go(func() { zoneKey = token.EnsureZoneKey(ctx, s.store) })
	}
	err := s.defaults(ctx)
	beside.Wait()
	return errors.Join(err, zoneKey)
}

func (s *seeder) defaults(ctx context.Context) error {
	zone := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindZone, Name: s.cfg.Multizone.Zone.Name}}, Spec: &resource.Zone{}}
	if err := s.create(ctx, zone); err != nil {
		return err
	}
	if !s.cfg.Defaults.SkipHostnameGenerators {
		if err := s.create(ctx, hostname.Defaults(s.cfg.Mode, s.cfg.Environment)...); err != nil {
			return err
		}
	}
	if err := token.EnsureUserKey(ctx, s.store); err != nil {
		return err
	}
	if !s.cfg.Defaults.SkipMeshCreation {
		if err := s.mesh(ctx); err != nil {
			return err
		}
	}
	if s.cfg.APIServer.Authn.Tokens.BootstrapAdminToken {
		return s.adminToken(ctx)
	}
	return nil
}

// create stores resources that are not there yet.
func (s *seeder) create(ctx context.Context, list ...*resource.Resource) error {
	for _, r := range list {
		if ok, err := s.has(r.Key); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := s.store.Commit(ctx, store.Op{Action: store.Create, Resource: r}); err != nil {
			return fmt.Errorf("create default %s: %w", r.Key, err)
		}
	}
	return nil
}

func (s *seeder) has(key resource.Key) (bool, error) {
	_, err := s.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// mesh creates the default mesh with all that belongs to it, in one commit.
func (s *seeder) mesh(ctx context.Context) error {
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: defaultMesh}}, Spec: &resource.Mesh{}}
	if ok, err := s.has(mesh.Key); err != nil || ok {
		return err
	}
	more, err := meshOps(s.ids, mesh)
	if err != nil {
		return fmt.Errorf("create default mesh: %w", err)
	}
	if _, err := s.store.Commit(ctx, append([]store.Op{{Action: store.Create, Resource: mesh}}, more...)...); err != nil {
		return fmt.Errorf("create default mesh: %w", err)
	}
	return nil
}

// meshOps is what is committed together with a new mesh: its authority, its signing key, its default policies.
func meshOps(ids *identity.Issuer, mesh *resource.Resource) ([]store.Op, error) {
	ops, err := ids.Ops(mesh)
	if err != nil {
		return nil, err
	}
	key, err := token.DataplaneKeyOp(mesh.Name)
	if err != nil {
		return nil, err
	}
	ops = append(ops, key)
	for _, p := range all.DefaultPolicies(mesh.Name, resource.SpecOf[*resource.Mesh](mesh).SkipCreatingInitialPolicies) {
		ops = append(ops, store.Op{Action: store.Create, Resource: p})
	}
	return ops, nil
}

func (s *seeder) adminToken(ctx context.Context) error {
	key := resource.Key{Kind: resource.KindGlobalSecret, Name: adminTokenName}
	if ok, err := s.has(key); err != nil || ok {
		return err
	}
	raw, err := s.tokens.User(token.User{Name: api.AdminUser, Groups: []string{api.AdminGroup}}, adminTokenLifetime)
	if err != nil {
		return fmt.Errorf("make the administrator's token: %w", err)
	}
	return s.create(ctx, &resource.Resource{Meta: resource.Meta{Key: key}, Spec: &resource.GlobalSecret{Data: []byte(raw)}})
}

// clusterID returns the name that this installation has for ever.
func (s *seeder) clusterID(ctx context.Context) (string, error) {
	key := resource.Key{Kind: resource.KindConfig, Name: clusterIDName}
	err := s.create(ctx, &resource.Resource{Meta: resource.Meta{Key: key}, Spec: &resource.Config{Config: uuid.NewString()}})
	if err != nil {
		return "", err
	}
	r, err := s.store.Get(key)
	if err != nil {
		return "", fmt.Errorf("read cluster id: %w", err)
	}
	return resource.SpecOf[*resource.Config](r).Config, nil
}
