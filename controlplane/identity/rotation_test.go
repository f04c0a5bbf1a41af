package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rotating is the default mesh on its way from ca-1 to ca-2.
func rotating(enabled string) *resource.Resource {
	m := mesh("default", nil)
	mtls := resource.SpecOf[*resource.Mesh](m).MTLS
	mtls.Backends = append(mtls.Backends, &resource.MTLSBackend{
		Name: "ca-2", Type: resource.BackendBuiltin, Conf: json.RawMessage(`{"caCert":{"keyType":"ECDSA"}}`),
	})
	mtls.EnabledBackend, mtls.Rotation = enabled, &resource.MTLSRotation{To: "ca-2"}
	return m
}

func (f *fixture) roots() []*x509.Certificate {
	f.t.Helper()
	bundle, err := f.Bundle("default")
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := certs.ParseCertificates(bundle)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func TestRotation(t *testing.T) {
	f := start(t, mesh("default", nil))
	f.awaitAuthority("default", "ca-1")
	f.put(dataplane("web", webTags))
	old := f.roots()[0]
	// issued asks for a certificate, which proxies must accept who trust what the mesh trusts now, and tells who signed it.
	issued := func() *x509.Certificate {
		t.Helper()
		id, err := f.issue("web")
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := f.Bundle("default")
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := certs.Verify(id.Cert, bundle, nil, f.clock.Now().Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	insight := func() *resource.InsightMTLS {
		t.Helper()
		r, err := f.store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: "web"})
		if err != nil {
			t.Fatal(err)
		}
		return resource.SpecOf[*resource.DataplaneInsight](r).MTLS
	}

	ops, err := f.Ops(rotating("ca-1"))
	if err != nil || len(ops) != 2 {
		t.Fatalf("got %d operations, %v, want the two secrets of the new authority", len(ops), err)
	}
	if _, err := f.store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	f.put(rotating("ca-1"))
	roots := f.roots()
	if len(roots) != 2 || !roots[0].Equal(old) {
		t.Fatalf("got %d roots, want the old and the new one, in this order", len(roots))
	}
	next := roots[1]
	if next.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("the new authority's key is %s", next.PublicKeyAlgorithm)
	}
	if err := issued().CheckSignatureFrom(old); err != nil {
		t.Errorf("before the change of the enabled backend: %v", err)
	}

	f.put(rotating("ca-2"))
	if roots = f.roots(); len(roots) != 2 || !roots[0].Equal(next) || !roots[1].Equal(old) {
		t.Fatal("the authority that signs is not the first root")
	}
	if err := issued().CheckSignatureFrom(next); err != nil {
		t.Errorf("after the change of the enabled backend: %v", err)
	}
	if got := insight(); got.IssuedBackend != "ca-2" || !slices.Equal(got.SupportedBackends, []string{"ca-2", "ca-1"}) {
		t.Errorf("the insight says %+v", got)
	}

	done := mesh("default", func(b *resource.MTLSBackend) { b.Name = "ca-2" })
	ops = append([]store.Op{{Action: store.Upsert, Resource: done}}, f.RetireOps(rotating("ca-2"), done)...)
	if _, err := f.store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	if roots = f.roots(); len(roots) != 1 || !roots[0].Equal(next) {
		t.Errorf("got %d roots, want the new one alone", len(roots))
	}
	for _, key := range []resource.Key{certKey("default", "ca-1"), keyKey("default", "ca-1")} {
		if there, err := f.has(key); err != nil || there {
			t.Errorf("%s is there %v, %v", key, there, err)
		}
	}
	if err := issued().CheckSignatureFrom(next); err != nil {
		t.Error(err)
	}
}

// TestRetireOps: only a rotation takes authorities away, as a backend that is switched off may come back.
func TestRetireOps(t *testing.T) {
	f := start(t, mesh("default", nil))
	f.awaitAuthority("default", "ca-1")
	off := &resource.Resource{Meta: mesh("default", nil).Meta, Spec: &resource.Mesh{}}
	other := mesh("default", func(b *resource.MTLSBackend) { b.Name = "ca-2" })
	for _, tt := range []struct {
		name     string
		old, new *resource.Resource
		want     int
	}{
		{"mTLS goes off", mesh("default", nil), off, 0},
		{"mTLS goes off in a rotation", rotating("ca-2"), off, 0},
		{"rotation goes on", rotating("ca-1"), rotating("ca-2"), 0},
		{"rotation ends", rotating("ca-2"), other, 2},
		{"rotation is given up, of which there are no secrets", rotating("ca-1"), mesh("default", nil), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := f.RetireOps(tt.old, tt.new); len(got) != tt.want {
				t.Errorf("got %d operations, want %d", len(got), tt.want)
			}
		})
	}
}

// TestOneBackendIsAsItWas: the bundle of a mesh without a rotation is what its backend says, byte for byte.
func TestOneBackendIsAsItWas(t *testing.T) {
	f := start(t, mesh("default", nil))
	f.awaitAuthority("default", "ca-1")
	r, err := f.store.Get(certKey("default", "ca-1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Bundle("default"); err != nil || !bytes.Equal(got, resource.SpecOf[*resource.Secret](r).Data) {
		t.Errorf("got %s, %v", got, err)
	}
}
