//go:build linux

package e2e

import (
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/spireagent"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// spire is a SPIRE agent on the host of a workload.
type spire struct {
	*spireagent.Agent
	t       *testing.T
	service string
	socket  string
}

func newSPIRE(t *testing.T, s *scene.Scene, name, service string) *spire {
	t.Helper()
	socket := filepath.Join(s.Dir(), name+"-spire.sock")
	a, err := spireagent.Start(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return &spire{a, t, service, socket}
}

func (a *spire) args() []string {
	return []string{"--identity-source=spire", "--identity-socket=unix://" + a.socket}
}

// give gives the workload another certificate.
func (a *spire) give(by *issuer, trusted ...*issuer) {
	a.t.Helper()
	cert, keyPEM := by.sign(a.service)
	key, err := certs.ParseKey(keyPEM)
	if err != nil {
		a.t.Fatal(err)
	}
	v := &workload.X509SVID{SpiffeId: "spiffe://default/" + a.service, Bundle: by.Certificate().Raw}
	for _, c := range certificates(a.t, cert) {
		v.X509Svid = append(v.X509Svid, c.Raw...)
	}
	for _, i := range trusted {
		v.Bundle = append(v.Bundle, i.Certificate().Raw...)
	}
	if v.X509SvidKey, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		a.t.Fatal(err)
	}
	a.Give(v)
}

// TestIdentityFromSPIRE rotates certificates of SPIRE under load: between two proxies that have them, in a mesh whose own
// authority is another one, and with proxies of the control plane, in a mesh whose authority has SPIRE's root.
func TestIdentityFromSPIRE(t *testing.T) {
	root, next := newIssuer(t), newIssuer(t)
	for _, tc := range []struct {
		name, mesh string
		webOf      bool // of the control plane
	}{
		{"two of SPIRE in a mesh of its own", scene.Mesh, false},
		{"one of SPIRE and one of the control plane", root.mesh(), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newBareSceneOf(t, "kuma-idsp", tc.mesh)
			apply(t, s, allowAll+"---\n"+scene.ShortConnections)
			back, front := newSPIRE(t, s, "backend-1", "backend"), newSPIRE(t, s, "web-1", "web")
			back.give(root)
			front.give(root)
			backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend", Args: back.args()})
			cfg := scene.WorkloadConfig{Name: "web-1", Service: "web", Args: front.args()}
			if tc.webOf {
				cfg.Args = nil
			}
			web := add(t, s, cfg)
			awaitStatus(t, web, backendURL, 200)
			awaitStatus(t, backend, "http://web.svc.mesh.local:8080/", 200)
			load := scenetest.StartLoad(t, web)
			awaitHandshakes(t, web)
			serials := []string{trustOf(t, backend).serial, trustOf(t, web).serial}
			rotate := func(by *issuer, trusted ...*issuer) {
				t.Helper()
				back.give(by, trusted...)
				serials[0] = awaitSerial(t, backend, serials[0])
				if !tc.webOf {
					front.give(by, trusted...)
					serials[1] = awaitSerial(t, web, serials[1])
				}
				awaitHandshakes(t, web)
			}
			for range 5 {
				rotate(root)
			}
			if !tc.webOf { // whoever has a certificate of the mesh trusts the mesh's authority only
				rotate(root, next)
				rotate(next, root)
				rotate(next)
			}
			sent := load.Sent.Load()
			load.Unharmed()
			t.Logf("%d requests, %d handshakes", sent, handshakes(t, web))
			if got := failedHandshakes(t, backend); got != "0" {
				t.Errorf("%s failed handshakes", got)
			}
			if out, err := s.Kumactl(ctx(t), nil, "get", "meshservices", "-o", "yaml"); err != nil || strings.Contains(out, "NotReady") {
				t.Errorf("a service is not ready for mTLS: %v\n%s", err, out)
			}
			if strings.Contains(backend.Agent.Log(), "PRIVATE KEY") {
				t.Error("the log holds a key")
			}
		})
	}
}

// failedHandshakes counts those that failed at a workload's inbound listeners, whether for the certificate or otherwise.
func failedHandshakes(t *testing.T, w *scene.Workload) string {
	t.Helper()
	_, body, err := w.Curl(ctx(t), `http://127.0.0.1:9901/stats?filter=^listener\..*ssl\.(connection_error|fail_verify_(error|no_cert|san|cert_hash))$`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(body, "ssl.connection_error") {
		t.Fatalf("no counters of TLS in %q", body)
	}
	var failed []string
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ": 0") {
			failed = append(failed, line)
		}
	}
	if len(failed) > 0 {
		return strings.Join(failed, "; ")
	}
	return "0"
}
