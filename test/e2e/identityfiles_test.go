//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// issuer is an authority that somebody else runs: cert-manager, say, or SPIRE.
type issuer struct {
	t *testing.T
	*certs.Authority
	key []byte
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now(), ECDSA: true})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, ca, keyPEM}
}

// mesh is scene.Mesh with the issuer as its backend.
func (i *issuer) mesh() string {
	indent := func(pem []byte) string {
		return strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n          ")
	}
	return fmt.Sprintf(`type: Mesh
name: default
meshServices: {mode: Exclusive}
mtls:
  enabledBackend: corp
  backends:
  - name: corp
    type: provided
    conf:
      cert:
        inlineString: |
          %s
      key:
        inlineString: |
          %s
`, indent(i.Bundle()), indent(i.key))
}

// sign makes a certificate and its key, PEM, of a service.
func (i *issuer) sign(service string) (cert, key []byte) {
	i.t.Helper()
	signer, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		i.t.Fatal(err)
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{certs.TagService: {service}})
	if err != nil {
		i.t.Fatal(err)
	}
	leaf, err := i.Sign(certs.SignRequest{PublicKey: signer.Public(), URIs: uris, Lifetime: time.Hour, Now: time.Now()})
	if err != nil {
		i.t.Fatal(err)
	}
	if key, err = certs.EncodeKey(signer); err != nil {
		i.t.Fatal(err)
	}
	return leaf.PEM, key
}

// pairFiles are the identity files of a workload.
type pairFiles struct{ dir, service string }

func newPairFiles(t *testing.T, s *scene.Scene, name, service string) pairFiles {
	t.Helper()
	f := pairFiles{filepath.Join(s.Dir(), name+"-files"), service}
	if err := errors.Join(os.Mkdir(f.dir, 0o700), os.Chown(f.dir, scene.ProxyUID, scene.ProxyUID)); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f pairFiles) args() []string {
	return []string{
		"--identity-source=files", "--identity-cert-file=" + f.dir + "/tls.crt", "--identity-key-file=" + f.dir + "/tls.key", "--identity-ca-file=" + f.dir + "/ca.crt",
	}
}

// write replaces one file at a time, the authorities first.
func (f pairFiles) write(t *testing.T, by *issuer, trusted ...*issuer) {
	t.Helper()
	cert, key := by.sign(f.service)
	var ca []byte
	for _, i := range append([]*issuer{by}, trusted...) {
		ca = append(ca, i.Bundle()...)
	}
	for _, file := range []struct {
		name string
		b    []byte
	}{{"ca.crt", ca}, {"tls.crt", cert}, {"tls.key", key}} {
		path := filepath.Join(f.dir, file.name)
		if err := errors.Join(os.WriteFile(path+".new", file.b, 0o600), os.Chown(path+".new", scene.ProxyUID, scene.ProxyUID), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitSerial waits until the workload's Envoy has another certificate than before, and returns its serial.
func awaitSerial(t *testing.T, w *scene.Workload, before string) string {
	t.Helper()
	var serial string
	await(t, w.Name+" to have another certificate", func(context.Context) error {
		if serial = trustOf(t, w).serial; serial == before { //nolint:contextcheck // it has the test's
			return fmt.Errorf("it has %s", serial)
		}
		return nil
	})
	return serial
}

// TestIdentityFromFiles: proxies with certificates from files and from the control plane, in a mesh whose backend has the same
// root, talk to each other; pairs are replaced under load, and so is the issuer of those in files.
func TestIdentityFromFiles(t *testing.T) {
	corp, next := newIssuer(t), newIssuer(t)
	s := newBareSceneOf(t, "kuma-idf", corp.mesh())
	apply(t, s, allowAll+"---\n"+scene.ShortConnections)
	back, front := newPairFiles(t, s, "backend-1", "backend"), newPairFiles(t, s, "front-1", "front")
	back.write(t, corp)
	front.write(t, corp)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend", Args: back.args()})
	web := add(t, s, scene.WorkloadConfig{Name: "web-1", Service: "web"})
	frontend := add(t, s, scene.WorkloadConfig{Name: "front-1", Service: "front", Args: front.args()})
	for _, w := range []*scene.Workload{web, frontend} {
		awaitStatus(t, w, backendURL, 200)
	}
	awaitStatus(t, backend, "http://web.svc.mesh.local:8080/", 200)
	if out, err := s.Kumactl(ctx(t), nil, "get", "meshservices", "-o", "yaml"); err != nil || strings.Contains(out, "NotReady") {
		t.Errorf("a service is not ready for mTLS: %v\n%s", err, out)
	}
	loads := []*scenetest.Load{scenetest.StartLoad(t, web), scenetest.StartLoad(t, frontend)}
	awaitHandshakes(t, web)
	serials := []string{trustOf(t, backend).serial, trustOf(t, frontend).serial}
	replace := func(by *issuer, trusted ...*issuer) {
		t.Helper()
		back.write(t, by, trusted...)
		serials[0] = awaitSerial(t, backend, serials[0])
		front.write(t, by, trusted...)
		serials[1] = awaitSerial(t, frontend, serials[1])
		awaitHandshakes(t, frontend)
	}
	for range 5 {
		replace(corp)
		awaitHandshakes(t, web)
	}
	loads[0].Unharmed() // who has a certificate of the mesh does not trust the next issuer
	replace(corp, next)
	replace(next, corp)
	replace(next)
	loads[1].Unharmed()
	if got := trustOf(t, backend); len(got.roots) != 2 || slices.Contains(got.roots, "") {
		t.Errorf("backend trusts %v, want the mesh's authority and the issuer", got.roots)
	}
	if log := backend.Agent.Log(); strings.Contains(log, "PRIVATE KEY") {
		t.Error("the log holds a key")
	}
}
