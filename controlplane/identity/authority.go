package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// defaultLeafLifetime holds when the mesh says none (contract controlplane.md §0.1).
const defaultLeafLifetime = 24 * time.Hour

// maxAuthorityFile bounds a file of a provided backend, in bytes.
const maxAuthorityFile = certs.MaxPEM

// backendKey names a backend.
type backendKey struct{ mesh, name string }

// authority is the loaded backend of a mesh. It is immutable.
type authority struct {
	*certs.Authority
	backend  string
	kind     string
	lifetime time.Duration
	// applications says that the mesh has identities for them.
	applications bool
	// trusted names all backends of the mesh, the one in force first.
	trusted []string
	// stamp names everything that it was made from: the mesh and the secrets, each with its version, and how often files were
	// read. content is the sum of certificate and key.
	stamp   string
	content [sha256.Size]byte
}

// certKey and keyKey name the secrets of a builtin authority (contract controlplane.md §2.6).
func certKey(mesh, backend string) resource.Key {
	return resource.Key{Kind: resource.KindSecret, Mesh: mesh, Name: mesh + ".ca-builtin-cert-" + backend}
}

func keyKey(mesh, backend string) resource.Key {
	return resource.Key{Kind: resource.KindSecret, Mesh: mesh, Name: mesh + ".ca-builtin-key-" + backend}
}

// Ops returns what creates the authorities that mesh needs and the store lacks, to be committed together with the mesh: no
// operation when mTLS is off or they are there already, for an authority is made once and reused. A provided
// backend needs none; it is loaded, so that a certificate that cannot sign is refused now.
func (i *Issuer) Ops(mesh *resource.Resource) ([]store.Op, error) {
	var ops []store.Op
	for _, b := range resource.SpecOf[*resource.Mesh](mesh).TrustedBackends() {
		more, err := i.backendOps(mesh, b)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

// RetireOps returns what takes away the authorities that a rotation has left behind, to be committed together with next: a
// key that nobody trusts is not kept. Without a rotation they stay, as in 2.9, for the day that the backend comes back.
func (i *Issuer) RetireOps(old, next *resource.Resource) []store.Op {
	before, after := resource.SpecOf[*resource.Mesh](old), resource.SpecOf[*resource.Mesh](next)
	if before.MTLS == nil || before.MTLS.Rotation == nil || after.EnabledBackend() == nil {
		return nil
	}
	var ops []store.Op
	for _, b := range before.TrustedBackends() {
		if b.Type != resource.BackendBuiltin || after.Trusts(b.Name) {
			continue
		}
		for _, key := range []resource.Key{certKey(old.Name, b.Name), keyKey(old.Name, b.Name)} {
			if r, err := i.store.Get(key); err == nil {
				ops = append(ops, store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: r.Key}}})
			}
		}
	}
	return ops
}

func (i *Issuer) backendOps(mesh *resource.Resource, b *resource.MTLSBackend) ([]store.Op, error) {
	if b.Type != resource.BackendBuiltin {
		if resource.SpecOf[*resource.Mesh](mesh).MTLS.SkipValidation {
			return nil, nil
		}
		_, err := i.load(mesh, b)
		return nil, err
	}
	haveCert, err := i.has(certKey(mesh.Name, b.Name))
	if err != nil {
		return nil, err
	}
	haveKey, err := i.has(keyKey(mesh.Name, b.Name))
	switch {
	case err != nil:
		return nil, err
	case haveCert && haveKey:
		return nil, nil
	case haveCert != haveKey:
		return nil, fmt.Errorf("authority %s of mesh %s has only one of its two secrets %s and %s: restore the other or delete it",
			b.Name, mesh.Name, certKey(mesh.Name, b.Name).Name, keyKey(mesh.Name, b.Name).Name)
	}
	cfg, err := builtin(mesh.Name, b)
	if err != nil {
		return nil, err
	}
	cfg.Now = i.now()
	certPEM, keyPEM, err := certs.NewAuthority(cfg)
	if err != nil {
		return nil, err
	}
	secret := func(key resource.Key, data []byte) store.Op {
		return store.Op{Action: store.Create, Resource: &resource.Resource{Meta: resource.Meta{Key: key}, Spec: &resource.Secret{Data: data}}}
	}
	return []store.Op{secret(certKey(mesh.Name, b.Name), certPEM), secret(keyKey(mesh.Name, b.Name), keyPEM)}, nil
}

// has tells whether a resource is stored; an error means that the store cannot say.
func (i *Issuer) has(key resource.Key) (bool, error) {
	_, err := i.store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// builtin reads the conf of a backend.
func builtin(mesh string, b *resource.MTLSBackend) (certs.AuthorityConfig, error) {
	out := certs.AuthorityConfig{Mesh: mesh}
	var conf resource.BuiltinConf
	if err := decodeConf(b, &conf); err != nil {
		return out, err
	}
	if ca := conf.CACert; ca != nil {
		out.RSABits, out.ECDSA = int(ca.RSABits), ca.KeyType == resource.KeyECDSA
		if ca.Expiration != "" {
			var err error
			if out.Lifetime, err = resource.ParseDuration(ca.Expiration); err != nil {
				return out, fmt.Errorf("backend %s: %w", b.Name, err)
			}
		}
	}
	return out, nil
}

func decodeConf(b *resource.MTLSBackend, into any) error {
	if len(b.Conf) == 0 {
		return nil
	}
	if err := json.Unmarshal(b.Conf, into); err != nil {
		return fmt.Errorf("read conf of backend %s: %w", b.Name, err)
	}
	return nil
}

// authority returns the loaded backend in force, from memory as long as nothing that it was made from has changed.
func (i *Issuer) authority(mesh string) (*authority, error) {
	r, err := i.store.Get(resource.Key{Kind: resource.KindMesh, Name: mesh})
	if err != nil {
		return nil, err
	}
	b := resource.SpecOf[*resource.Mesh](r).EnabledBackend()
	if b == nil {
		return nil, fmt.Errorf("mesh %s: %w", mesh, ErrDisabled)
	}
	return i.load(r, b)
}

func (i *Issuer) load(mesh *resource.Resource, b *resource.MTLSBackend) (*authority, error) {
	m := &material{store: i.store, mesh: mesh.Name, stamp: fmt.Sprintf("%s@%d", mesh.Name, mesh.Version)}
	cert, key, err := m.sources(b)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	stamp := fmt.Sprintf("%s #%d", m.stamp, i.readings[backendKey{mesh.Name, b.Name}])
	known := i.authorities[backendKey{mesh.Name, b.Name}]
	i.mu.Unlock()
	// A version of 0 is a mesh that is only being written.
	if known != nil && known.stamp == stamp && mesh.Version != 0 {
		return known, nil
	}
	certPEM, err := m.read(cert)
	if err != nil {
		return nil, fmt.Errorf("certificate of backend %s: %w", b.Name, err)
	}
	keyPEM, err := m.read(key)
	if err != nil {
		return nil, fmt.Errorf("key of backend %s: %w", b.Name, err)
	}
	ca, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("backend %s of mesh %s: %w", b.Name, mesh.Name, err)
	}
	out := &authority{Authority: ca, backend: b.Name, kind: b.Type, lifetime: defaultLeafLifetime, stamp: stamp, content: contentOf(certPEM, keyPEM)}
	if b.DpCert != nil && b.DpCert.Rotation != nil && b.DpCert.Rotation.Expiration != "" {
		if out.lifetime, err = resource.ParseDuration(b.DpCert.Rotation.Expiration); err != nil {
			return nil, fmt.Errorf("lifetime of certificates of backend %s: %w", b.Name, err)
		}
	}
	spec := resource.SpecOf[*resource.Mesh](mesh)
	out.applications = spec.MTLS.ApplicationIdentities
	for _, t := range spec.TrustedBackends() {
		out.trusted = append(out.trusted, t.Name)
	}
	if mesh.Version != 0 {
		i.mu.Lock()
		i.authorities[backendKey{mesh.Name, b.Name}] = out
		i.mu.Unlock()
	}
	return out, nil
}

// material finds the two halves of an authority.
type material struct {
	store store.Reader
	mesh  string
	stamp string
}

// sources says where certificate and key come from, and notes the versions of their secrets.
func (m *material) sources(b *resource.MTLSBackend) (cert, key *resource.DataSource, err error) {
	switch b.Type {
	case resource.BackendBuiltin:
		cert = &resource.DataSource{Secret: certKey(m.mesh, b.Name).Name}
		key = &resource.DataSource{Secret: keyKey(m.mesh, b.Name).Name}
	case resource.BackendProvided:
		var conf resource.ProvidedConf
		if err := decodeConf(b, &conf); err != nil {
			return nil, nil, err
		}
		if cert, key = conf.Cert, conf.Key; cert == nil || key == nil {
			return nil, nil, fmt.Errorf("backend %s of mesh %s has no certificate or no key", b.Name, m.mesh)
		}
	default:
		return nil, nil, fmt.Errorf("backend %s of mesh %s has type %q, use %s or %s", b.Name, m.mesh, b.Type, resource.BackendBuiltin, resource.BackendProvided)
	}
	for _, d := range []*resource.DataSource{cert, key} {
		if d.Secret == "" {
			continue
		}
		r, err := m.secret(d.Secret)
		if err != nil {
			return nil, nil, fmt.Errorf("backend %s of mesh %s: %w", b.Name, m.mesh, err)
		}
		m.stamp += fmt.Sprintf(" %s@%d", r.Name, r.Version)
	}
	return cert, key, nil
}

func (m *material) secret(name string) (*resource.Resource, error) {
	return m.store.Get(resource.Key{Kind: resource.KindSecret, Mesh: m.mesh, Name: name})
}

// read returns the bytes of a source. A file is read when the authority is loaded: at the start, and whenever the Mesh or the
// file changes. Its content never enters an error.
func (m *material) read(d *resource.DataSource) ([]byte, error) {
	switch {
	case d.Secret != "":
		r, err := m.secret(d.Secret)
		if err != nil {
			return nil, err
		}
		return resource.SpecOf[*resource.Secret](r).Data, nil
	case d.File != "":
		f, err := os.Open(d.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxAuthorityFile))
	case len(d.Inline) > 0:
		return d.Inline, nil
	}
	return []byte(d.InlineString), nil
}

// Bundle returns the roots that the proxies of a mesh trust, as PEM; ErrDisabled when mTLS is off. It must not be changed.
// The authority that signs comes first, by which an agent learns that its certificate is of another one.
func (i *Issuer) Bundle(mesh string) ([]byte, error) {
	all, err := i.trusted(mesh)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	if len(all) == 1 {
		return all[0].Authority.Bundle(), nil
	}
	var out []byte
	for _, a := range all {
		out = append(out, a.Authority.Bundle()...)
	}
	return out, nil
}

// trusted returns the loaded backends of a mesh, the one in force first.
func (i *Issuer) trusted(mesh string) ([]*authority, error) {
	r, err := i.store.Get(resource.Key{Kind: resource.KindMesh, Name: mesh})
	if err != nil {
		return nil, err
	}
	var out []*authority
	for _, b := range resource.SpecOf[*resource.Mesh](r).TrustedBackends() {
		a, err := i.load(r, b)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("mesh %s: %w", mesh, ErrDisabled)
	}
	return out, nil
}

// Backend is an authority as people see it.
type Backend struct {
	Name, Type string
	// Certificate is the one that signs.
	Certificate *x509.Certificate
}

// Backends returns the authorities that proxies of a mesh trust, the one in force first; ErrDisabled when mTLS is off.
func (i *Issuer) Backends(mesh string) ([]Backend, error) {
	all, err := i.trusted(mesh)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	var out []Backend
	for _, a := range all {
		out = append(out, Backend{a.backend, a.kind, a.Certificate()})
	}
	return out, nil
}
