package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func newAuthorityPEM(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", ECDSA: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

func providedMesh(t *testing.T, cert, key *resource.DataSource) *resource.Resource {
	t.Helper()
	return mesh("default", func(b *resource.MTLSBackend) {
		conf, err := json.Marshal(resource.ProvidedConf{Cert: cert, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		b.Type, b.Conf = resource.BackendProvided, conf
	})
}

// TestFilesOfAnAuthorityAreWatched: a new authority in the files is taken into use by itself, one that is no good is not.
func TestFilesOfAnAuthorityAreWatched(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	write := func(path string, data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	first, firstKey := newAuthorityPEM(t)
	write(certFile, first)
	write(keyFile, firstKey)
	st := memory.Open(resource.NewRegistry(resource.Core()...))
	changed := make(chan string, 16)
	i := New(Config{Store: st, Changed: func(mesh string) { changed <- mesh }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = st.Close()
	})
	m := providedMesh(t, &resource.DataSource{File: certFile}, &resource.DataSource{File: keyFile})
	if _, err := st.Commit(t.Context(), store.Op{Action: store.Create, Resource: m}); err != nil {
		t.Fatal(err)
	}
	bundle := func() []byte {
		t.Helper()
		b, err := i.Bundle("default")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(bundle(), first) {
		t.Fatal("the first authority is another one")
	}
	second, secondKey := newAuthorityPEM(t)
	write(certFile, append(bytes.Clone(second), first...)) // without its key
	write(keyFile, secondKey)
	if mesh := <-changed; mesh != "default" || !bytes.Equal(bundle(), append(bytes.Clone(second), first...)) {
		t.Fatalf("after a change of mesh %s the bundle is\n%s", mesh, bundle())
	}
	write(certFile, []byte("junk"))
	write(certFile, second)
	<-changed
	if !bytes.Equal(bundle(), second) {
		t.Error("the last one is not in use")
	}
	write(keyFile, firstKey) // of another certificate
	i.filesChanged()
	if !bytes.Equal(bundle(), second) || len(changed) > 0 {
		t.Error("a pair that does not fit is taken")
	}
}

// TestIntermediateAuthority: an authority that another one has signed signs leaves that verify by the root and by itself.
func TestIntermediateAuthority(t *testing.T) {
	rootPEM, rootKey := newAuthorityPEM(t)
	parent, err := certs.ParseCertificates(rootPEM)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := certs.ParseKey(rootKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "between"}, NotBefore: parent[0].NotBefore, NotAfter: parent[0].NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, parent[0], key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	between, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := append(certs.EncodeCertificates(between), rootPEM...)
	f := start(t, providedMesh(t, &resource.DataSource{Inline: chain}, &resource.DataSource{Inline: keyPEM}), dataplane("web-1", webTags))
	id, err := f.IssueForProxy(t.Context(), "default", "web-1", resource.SpecOf[*resource.Dataplane](dataplane("web-1", webTags)))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ chain, roots []byte }{
		"the bundle":       {id.Cert, id.Bundle},
		"the root alone":   {append(bytes.Clone(id.Cert), certs.EncodeCertificates(between)...), rootPEM},
		"the intermediate": {id.Cert, certs.EncodeCertificates(between)},
	} {
		if _, err := certs.Verify(tt.chain, tt.roots, nil, f.clock.Now()); err != nil {
			t.Errorf("by %s: %v", name, err)
		}
	}
}
