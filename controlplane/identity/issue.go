package identity

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Identity is what a proxy proves itself with. It is immutable.
type Identity struct {
	// Cert is the leaf as PEM, Bundle the roots of the mesh.
	Cert, Bundle []byte
	// Key is the private key as PEM, nil when the proxy has its own. It is secret.
	Key     []byte
	Backend string
	// Trusted names the backends whose certificates the mesh accepts.
	Trusted             []string
	NotBefore, NotAfter time.Time
	// RenewAt is when IssueForProxy will make another: at four fifths of its life (contract controlplane.md §5.2).
	RenewAt time.Time
}

// proxy is the identity made here for one proxy.
type proxy struct {
	mu    sync.Mutex // held while a key is made, so that a proxy's two streams do not make two
	id    *Identity
	stamp string
	names string
}

// Tags returns all values of a Dataplane by tag, of its inbounds and its gateway.
func Tags(d *resource.Dataplane) map[string][]string {
	out := map[string][]string{}
	add := func(tags map[string]string) {
		for k, v := range tags {
			if !slices.Contains(out[k], v) {
				out[k] = append(out[k], v)
			}
		}
	}
	if d.Networking == nil {
		return out
	}
	for _, in := range d.Networking.Inbound {
		add(in.Tags)
	}
	if d.Networking.Gateway != nil {
		add(d.Networking.Gateway.Tags)
	}
	return out
}

// IssueForProxy returns the identity of a registered proxy that brings no key (contract controlplane.md §5.2): the same
// one until its mesh's authority, its tags or the time call for another. Its names are those of spec, which the caller knows
// to be the proxy's: what is stored by now may be another's. Key and certificate are kept in memory only. ctx
// bounds the note in the DataplaneInsight. Errors: ErrDisabled, ErrUnknownProxy, ErrBadRequest.
func (i *Issuer) IssueForProxy(ctx context.Context, mesh, name string, spec *resource.Dataplane) (*Identity, error) {
	key := resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}
	ca, _, err := i.prepare(key)
	if err != nil {
		return nil, err
	}
	names, err := namesOf(key, spec)
	if err != nil {
		return nil, err
	}
	id, fresh, err := i.make(key, ca, names)
	if fresh {
		i.record(ctx, key, id)
	}
	return id, err
}

// IssueForEgress returns the identity of a ZoneEgress in one of the meshes that it serves: the service zone-egress
// (contract controlplane.md §1.6). It is kept as that of IssueForProxy is. Errors: ErrDisabled.
func (i *Issuer) IssueForEgress(mesh, name string) (*Identity, error) {
	key := resource.Key{Kind: resource.KindZoneEgress, Mesh: mesh, Name: name}
	ca, err := i.authority(mesh)
	if err != nil {
		return nil, fmt.Errorf("issue identity of %s: %w", key, err)
	}
	names, err := certs.WorkloadURIs(mesh, map[string][]string{resource.TagService: {egressService}})
	if err != nil {
		return nil, fmt.Errorf("issue identity of %s: %w", key, err)
	}
	id, _, err := i.make(key, ca, names)
	return id, err
}

// egressService is the kuma.io/service of every ZoneEgress.
const egressService = "zone-egress"

// make returns the identity that is kept for a proxy, or a fresh one when that is no longer good.
func (i *Issuer) make(key resource.Key, ca *authority, names []*url.URL) (id *Identity, fresh bool, err error) {
	i.mu.Lock()
	p := i.proxies[key]
	if p == nil {
		p = &proxy{}
		i.proxies[key] = p
	}
	i.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprint(names)
	if p.id != nil && p.stamp == ca.stamp && p.names == text && i.now().Before(p.id.RenewAt) {
		return p.id, false, nil
	}
	signer, err := certs.NewKey(i.keyType)
	if err != nil {
		return nil, false, err
	}
	if id, err = i.sign(ca, names, signer.Public()); err != nil {
		return nil, false, err
	}
	if id.Key, err = certs.EncodeKey(signer); err != nil {
		return nil, false, err
	}
	p.id, p.stamp, p.names = id, ca.stamp, text
	return id, true, nil
}

// SignCSR certifies the public key of a PEM certificate request for a registered proxy. Nothing else of the request
// counts. permit is asked about the Dataplane that gives the names, and its error returned; nil permits any. Errors:
// ErrDisabled, ErrUnknownProxy, ErrBadRequest.
func (i *Issuer) SignCSR(ctx context.Context, mesh, name string, csr []byte, permit func(*resource.Dataplane) error) (*Identity, error) {
	pub, err := certs.ParseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	key := resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}
	ca, names, err := i.permitted(key, permit)
	if err != nil {
		return nil, err
	}
	id, err := i.sign(ca, names, pub)
	if err != nil {
		return nil, err
	}
	i.record(ctx, key, id)
	return id, nil
}

// SignApplicationCSR is SignCSR for an application beside a proxy. Its certificate has one name, the first SPIFFE ID of the
// proxy, since SPIFFE clients accept no other. The insight, which is about proxies, says nothing of it. Further errors:
// ErrNoApplications.
func (i *Issuer) SignApplicationCSR(_ context.Context, mesh, name string, csr []byte, permit func(*resource.Dataplane) error) (*Identity, error) {
	pub, err := certs.ParseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	ca, names, err := i.permitted(resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}, permit)
	if err != nil {
		return nil, err
	}
	if !ca.applications {
		return nil, fmt.Errorf("issue identity of an application in mesh %s: %w", mesh, ErrNoApplications)
	}
	return i.sign(ca, names[:1], pub)
}

// permitted finds the authority and the names of a proxy as it is stored, which permit, if any, may refuse.
func (i *Issuer) permitted(key resource.Key, permit func(*resource.Dataplane) error) (*authority, []*url.URL, error) {
	ca, spec, err := i.prepare(key)
	if err != nil {
		return nil, nil, err
	}
	if permit != nil {
		if err := permit(spec); err != nil {
			return nil, nil, err
		}
	}
	names, err := namesOf(key, spec)
	return ca, names, err
}

// prepare finds the authority of a proxy and what is stored of it.
func (i *Issuer) prepare(key resource.Key) (*authority, *resource.Dataplane, error) {
	ca, err := i.authority(key.Mesh)
	if err != nil {
		return nil, nil, fmt.Errorf("issue identity of %s: %w", key, err)
	}
	r, err := i.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%s: %w", key, ErrUnknownProxy)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("issue identity: %w", err)
	}
	return ca, resource.SpecOf[*resource.Dataplane](r), nil
}

func namesOf(key resource.Key, spec *resource.Dataplane) ([]*url.URL, error) {
	names, err := certs.WorkloadURIs(key.Mesh, Tags(spec))
	if err != nil {
		return nil, fmt.Errorf("issue identity of %s: %w: %w", key, ErrBadRequest, err)
	}
	return names, nil
}

func (i *Issuer) sign(ca *authority, names []*url.URL, pub crypto.PublicKey) (*Identity, error) {
	now := i.now()
	leaf, err := ca.Sign(certs.SignRequest{PublicKey: pub, URIs: names, Lifetime: ca.lifetime, Now: now})
	if err != nil {
		return nil, err
	}
	return &Identity{
		Cert: leaf.PEM, Bundle: ca.Authority.Bundle(), Backend: ca.backend, Trusted: ca.trusted, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		RenewAt: now.Add(leaf.NotAfter.Sub(now) / 5 * 4),
	}, nil
}

// OwnBackend stands for the backend in the insight of a proxy whose certificate was issued elsewhere: from files, or by SPIRE. No
// backend can have this name.
const OwnBackend = "(own)"

// Own notes that a proxy has an identity that was issued elsewhere, which counts for the MeshService's status like ours.
func (i *Issuer) Own(ctx context.Context, mesh, name string) {
	ca, err := i.authority(mesh)
	if err != nil {
		return // mTLS has been taken away again, or the mesh
	}
	key := resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}
	i.record(ctx, key, &Identity{Backend: OwnBackend, Trusted: ca.trusted})
}

// recordTries bounds the attempts to note an identity while others write the same insight.
const recordTries = 16

// record notes an identity in the proxy's insight, where the MeshService's status learns that the proxy can do mTLS
// (contract controlplane.md §1.7). The identity is good without the note, so that a failure is only logged.
func (i *Issuer) record(ctx context.Context, dataplane resource.Key, id *Identity) {
	for range recordTries {
		err := i.note(ctx, dataplane, id)
		switch {
		case err == nil:
			return
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists), errors.Is(err, store.ErrNotFound):
			continue // somebody else wrote in between
		case ctx.Err() == nil:
			i.log.Error("could not note an identity in the insight", "mesh", dataplane.Mesh, "proxy", dataplane.Name, "error", err)
		}
		return
	}
	i.log.Warn("gave up noting an identity in the insight, which others keep changing", "mesh", dataplane.Mesh, "proxy", dataplane.Name)
}

func (i *Issuer) note(ctx context.Context, dataplane resource.Key, id *Identity) error {
	key := dataplane
	key.Kind = resource.KindDataplaneInsight
	// In a rotation the note says when an authority may go: a crash must not leave an older one behind.
	durable := len(id.Trusted) > 1
	op := store.Op{Action: store.Update, Durable: durable}
	old, err := i.store.Get(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if there, err := i.has(dataplane); err != nil || !there {
			return err // gone with its Dataplane: nothing to note
		}
		op = store.Op{Action: store.Create, Owner: dataplane, Durable: durable}
		op.Resource = &resource.Resource{Meta: resource.Meta{Key: key}, Spec: &resource.DataplaneInsight{}}
	case err != nil:
		return err
	default:
		op.ExpectVersion = old.Version
		op.Resource = old.Clone()
	}
	spec := resource.SpecOf[*resource.DataplaneInsight](op.Resource)
	note := resource.InsightMTLS{IssuedBackend: id.Backend, SupportedBackends: id.Trusted}
	if spec.MTLS != nil {
		note.CertificateRegenerations = spec.MTLS.CertificateRegenerations
	}
	if id.Backend != OwnBackend { // of others we do not know
		note.CertificateExpirationTime = id.NotAfter.UTC().Format(time.RFC3339)
		note.LastCertificateRegeneration = i.now().UTC().Format(time.RFC3339Nano)
		note.CertificateRegenerations++
	}
	spec.MTLS = &note
	_, err = i.store.Commit(ctx, op)
	return err
}
