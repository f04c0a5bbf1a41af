package identity

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a hand that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time          { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) Advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

type fixture struct {
	*Issuer
	t     *testing.T
	store store.Store
	clock *clock
}

// start runs an Issuer over a store with the given resources.
func start(t *testing.T, resources ...*resource.Resource) *fixture {
	t.Helper()
	s := memory.Open(resource.NewRegistry(resource.Core()...))
	f := &fixture{t: t, store: s, clock: &clock{now: time.Now().Truncate(time.Second)}}
	f.put(resources...)
	// ECDSA keys keep the tests quick; TestKeysMadeHereAreRSA covers the default.
	f.Issuer = New(Config{Store: s, Now: f.clock.Now, KeyType: certs.ECDSAP256})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) put(resources ...*resource.Resource) {
	f.t.Helper()
	for _, r := range resources {
		if _, err := f.store.Commit(f.t.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// awaitAuthority waits for the secrets by the store's own events.
func (f *fixture) awaitAuthority(mesh, backend string) {
	f.t.Helper()
	_, w := f.store.Watch()
	defer w.Close()
	for {
		if ok, err := f.has(keyKey(mesh, backend)); err != nil || ok {
			return
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
		_, err := w.Next(ctx)
		cancel()
		if err != nil {
			f.t.Fatalf("no authority appears: %v", err)
		}
	}
}

func mesh(name string, change func(*resource.MTLSBackend)) *resource.Resource {
	b := &resource.MTLSBackend{Name: "ca-1", Type: resource.BackendBuiltin}
	if change != nil {
		change(b)
	}
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: name}},
		Spec: &resource.Mesh{MTLS: &resource.MTLS{EnabledBackend: b.Name, Backends: []*resource.MTLSBackend{b}}},
	}
}

func dataplane(name string, tags map[string]string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: name}},
		Spec: &resource.Dataplane{Networking: &resource.Networking{Address: "10.0.0.1", Inbound: []*resource.Inbound{{Port: 80, Tags: tags}}}},
	}
}

var webTags = map[string]string{"kuma.io/service": "web", "kuma.io/protocol": "http"}

// issue asks for the identity of a proxy as it is stored; one that is not has webTags.
func (f *fixture) issue(name string) (*Identity, error) {
	f.t.Helper()
	r := dataplane(name, webTags)
	if stored, err := f.store.Get(r.Key); err == nil {
		r = stored
	}
	return f.IssueForProxy(f.t.Context(), "default", name, resource.SpecOf[*resource.Dataplane](r))
}

func (f *fixture) verify(id *Identity) *x509.Certificate {
	f.t.Helper()
	c, err := certs.Verify(id.Cert, id.Bundle, nil, f.clock.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func names(c *x509.Certificate) (out []string) {
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	return out
}

func TestAuthorityAppearsWithMTLSAndIsReused(t *testing.T) {
	f := start(t, mesh("default", nil))
	f.awaitAuthority("default", "ca-1")
	first, err := f.Bundle("default")
	if err != nil {
		t.Fatal(err)
	}
	off := mesh("default", nil)
	off.Spec = &resource.Mesh{}
	f.put(off)
	if _, err := f.Bundle("default"); !errors.Is(err, ErrDisabled) {
		t.Fatalf("with mTLS off: %v", err)
	}
	if ops, err := f.Ops(off); err != nil || len(ops) > 0 {
		t.Fatalf("with mTLS off: %v %v", ops, err)
	}
	on := mesh("default", nil)
	if ops, err := f.Ops(on); err != nil || len(ops) > 0 {
		t.Fatalf("the authority is there, yet another is made: %v %v", ops, err)
	}
	f.put(on)
	again, err := f.Bundle("default")
	if err != nil || string(again) != string(first) {
		t.Fatalf("the authority changed: %v", err)
	}
}

func TestOpsAreCommittedWithTheMesh(t *testing.T) {
	f := start(t)
	m := mesh("other", func(b *resource.MTLSBackend) {
		b.Conf = json.RawMessage(`{"caCert":{"RSAbits":3072,"expiration":"1d"}}`)
	})
	ops, err := f.Ops(m)
	if err != nil || len(ops) != 2 {
		t.Fatalf("got %d operations, %v", len(ops), err)
	}
	if _, err := f.store.Commit(t.Context(), append([]store.Op{{Action: store.Create, Resource: m}}, ops...)...); err != nil {
		t.Fatal(err)
	}
	bundle, err := f.Bundle("other")
	if err != nil {
		t.Fatal(err)
	}
	list, err := certs.ParseCertificates(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got := list[0].NotAfter.Sub(f.clock.Now()); got != 24*time.Hour {
		t.Errorf("authority lives %v", got)
	}
	if list[0].Subject.CommonName != "other" {
		t.Errorf("subject %v", list[0].Subject)
	}
}

func TestHalfAnAuthorityIsAnError(t *testing.T) {
	f := start(t)
	off := mesh("default", nil)
	off.Spec = &resource.Mesh{}
	f.put(off, &resource.Resource{Meta: resource.Meta{Key: certKey("default", "ca-1")}, Spec: &resource.Secret{Data: []byte("x")}})
	if _, err := f.Ops(mesh("default", nil)); err == nil || !strings.Contains(err.Error(), "only one of its two secrets") {
		t.Fatalf("got %v", err)
	}
}

func TestIssueForProxyKeepsWhatIsGood(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	issue := func() *Identity {
		t.Helper()
		id, err := f.issue("web-1")
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := issue()
	want := []string{"spiffe://default/web", "kuma://kuma.io/protocol/http", "kuma://kuma.io/service/web"}
	if got := names(f.verify(first)); !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if got := first.NotAfter.Sub(f.clock.Now()); got != 24*time.Hour {
		t.Errorf("lives %v, want 24h", got)
	}
	key, err := certs.ParseKey(first.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Verify(first.Cert, first.Bundle, key, f.clock.Now()); err != nil {
		t.Error(err)
	}
	if issue() != first {
		t.Error("a second question makes a second key")
	}
	f.clock.Advance(24 * time.Hour / 5 * 4)
	second := issue()
	if second == first {
		t.Error("not renewed at four fifths of its life")
	}
	f.put(dataplane("web-1", map[string]string{"kuma.io/service": "web", "version": "v2"}))
	third := issue()
	if third == second || !slices.Contains(names(f.verify(third)), "kuma://version/v2") {
		t.Errorf("tags changed, names are %v", names(f.verify(third)))
	}
	f.put(mesh("default", func(b *resource.MTLSBackend) {
		b.DpCert = &resource.DpCert{Rotation: &resource.Rotation{Expiration: "1h"}}
	}))
	fourth := issue()
	if got := fourth.NotAfter.Sub(f.clock.Now()); fourth == third || got != time.Hour {
		t.Errorf("the mesh's mtls changed, the certificate lives %v", got)
	}
	r, err := f.store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	got := resource.SpecOf[*resource.DataplaneInsight](r).MTLS
	if got == nil || got.IssuedBackend != "ca-1" || !slices.Equal(got.SupportedBackends, []string{"ca-1"}) || got.CertificateRegenerations != 4 ||
		got.CertificateExpirationTime != fourth.NotAfter.UTC().Format(time.RFC3339) {
		t.Errorf("insight %+v", got)
	}
}

// TestOwnIdentityIsNoted: a proxy with a certificate from elsewhere counts as one that has one, without a backend of the mesh.
func TestOwnIdentityIsNoted(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	note := func() *resource.InsightMTLS {
		r, err := f.store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: "web-1"})
		if err != nil {
			t.Fatal(err)
		}
		return resource.SpecOf[*resource.DataplaneInsight](r).MTLS
	}
	if _, err := f.IssueForProxy(t.Context(), "default", "web-1", resource.SpecOf[*resource.Dataplane](dataplane("web-1", webTags))); err != nil {
		t.Fatal(err)
	}
	f.Own(t.Context(), "default", "web-1")
	if got := note(); got.IssuedBackend != OwnBackend || !slices.Equal(got.SupportedBackends, []string{"ca-1"}) ||
		got.CertificateRegenerations != 1 || got.CertificateExpirationTime != "" {
		t.Errorf("insight %+v", got)
	}
	f.Own(t.Context(), "none", "web-1") // no such mesh: nothing to note
}

// TestIdentityOfWhatWasLookedAt: the names are of the Dataplane that the caller has checked, whatever is stored by then.
func TestIdentityOfWhatWasLookedAt(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", map[string]string{"kuma.io/service": "db"}))
	f.awaitAuthority("default", "ca-1")
	id, err := f.IssueForProxy(t.Context(), "default", "web-1", resource.SpecOf[*resource.Dataplane](dataplane("web-1", webTags)))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(f.verify(id)); got[0] != "spiffe://default/web" || slices.Contains(got, "spiffe://default/db") {
		t.Errorf("names %v", got)
	}
}

func TestKeysMadeHereAreRSA(t *testing.T) {
	if got := New(Config{}).keyType; got != certs.RSA2048 {
		t.Errorf("default key type %q", got)
	}
}

func TestNotesDoNotDisturbOthers(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	insight := resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: "web-1"}
	f.put(&resource.Resource{Meta: resource.Meta{Key: insight}, Spec: &resource.DataplaneInsight{Subscriptions: []*resource.Subscription{{ID: "a", ConnectTime: "x"}}}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			key, _ := certs.NewKey(certs.ECDSAP256)
			csr, _ := certs.NewCSR(key)
			if _, err := f.SignCSR(t.Context(), "default", "web-1", csr, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r, err := f.store.Get(insight)
	if err != nil {
		t.Fatal(err)
	}
	spec := resource.SpecOf[*resource.DataplaneInsight](r)
	if len(spec.Subscriptions) != 1 || spec.MTLS.CertificateRegenerations != 8 {
		t.Errorf("got %+v", spec)
	}
}

func TestSignCSRRefuses(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags), dataplane("odd", map[string]string{"kuma.io/service": "a/../b"}))
	f.awaitAuthority("default", "ca-1")
	key, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, mesh, proxy string
		csr               []byte
		want              error
	}{
		{"no such proxy", "default", "nobody", csr, ErrUnknownProxy},
		{"no such mesh", "nope", "web-1", csr, store.ErrNotFound},
		{"junk", "default", "web-1", []byte("junk"), ErrBadRequest},
		{"a name that is none", "default", "odd", csr, ErrBadRequest},
	} {
		if _, err := f.SignCSR(t.Context(), tt.mesh, tt.proxy, tt.csr, nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := f.SignCSR(t.Context(), "default", "web-1", csr, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestAwaitDataplane(t *testing.T) {
	f := start(t, mesh("default", nil))
	got := make(chan error, 2)
	for range 2 {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := f.AwaitDataplane(ctx, "default", "web-1")
			got <- err
		}()
	}
	f.put(dataplane("web-1", webTags))
	for range 2 {
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.AwaitDataplane(ctx, "default", "nobody"); !errors.Is(err, ErrUnknownProxy) {
		t.Fatalf("got %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiters) != 0 {
		t.Errorf("%d waiters are left behind", len(f.waiters))
	}
}

func TestProvidedBackend(t *testing.T) {
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	secret := func(name string, data []byte) *resource.Resource {
		return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindSecret, Mesh: "default", Name: name}}, Spec: &resource.Secret{Data: data}}
	}
	plain := mesh("default", nil)
	plain.Spec = &resource.Mesh{}
	f := start(t, plain, secret("c", certPEM), secret("k", keyPEM), dataplane("web-1", webTags))
	with := func(cert, key *resource.DataSource) *resource.Resource {
		return mesh("default", func(b *resource.MTLSBackend) {
			b.Type = resource.BackendProvided
			b.Conf, err = json.Marshal(resource.ProvidedConf{Cert: cert, Key: key})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, tt := range []struct {
		name      string
		cert, key *resource.DataSource
		want      string
	}{
		{"inline", &resource.DataSource{Inline: certPEM}, &resource.DataSource{InlineString: string(keyPEM)}, ""},
		{"files", &resource.DataSource{File: certFile}, &resource.DataSource{File: keyFile}, ""},
		{"secrets", &resource.DataSource{Secret: "c"}, &resource.DataSource{Secret: "k"}, ""},
		{"no such secret", &resource.DataSource{Secret: "x"}, &resource.DataSource{Secret: "k"}, "not found"},
		{"no such file", &resource.DataSource{File: dir + "/x"}, &resource.DataSource{File: keyFile}, "no such file"},
		{"mixed up", &resource.DataSource{Secret: "k"}, &resource.DataSource{Secret: "c"}, "no PEM block"},
		{"no key", &resource.DataSource{Secret: "c"}, nil, "no key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := with(tt.cert, tt.key)
			ops, err := f.Ops(m)
			if len(ops) > 0 {
				t.Errorf("operations %v", ops)
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "BEGIN") {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f.put(m)
			id, err := f.issue("web-1")
			if err != nil || string(id.Bundle) != string(certPEM) {
				t.Fatalf("got %v", err)
			}
			f.verify(id)
		})
	}
	// Rotation: the secret gets a new root before the old one, and the change is noticed without touching the Mesh.
	f.put(with(&resource.DataSource{Secret: "c"}, &resource.DataSource{Secret: "k"}))
	cert2, key2, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	f.put(secret("c", append(slices.Clone(cert2), certPEM...)), secret("k", key2))
	bundle, err := f.Bundle("default")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := certs.ParseCertificates(bundle); err != nil || len(list) != 2 {
		t.Errorf("%d roots, %v", len(list), err)
	}
}

func TestDeletedProxiesAreForgotten(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	first, err := f.issue("web-1")
	if err != nil {
		t.Fatal(err)
	}
	key := resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "web-1"}
	if _, err := f.store.Commit(t.Context(), store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: key}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.issue("web-1"); !errors.Is(err, ErrUnknownProxy) {
		t.Fatalf("got %v", err)
	}
	f.put(dataplane("web-1", webTags))
	// Run sees the deletion at its own time; seen again here, it is certain to have been.
	f.seen(t.Context(), &resource.Resource{Meta: resource.Meta{Key: key}}, nil)
	second, err := f.issue("web-1")
	if err != nil || second == first {
		t.Fatalf("a new proxy of the same name gets the old one's key: %v", err)
	}
}
