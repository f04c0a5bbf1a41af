//go:build linux

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestEgress reaches servers outside of the mesh by name: from a workload through the egress, in clear and with TLS that
// the egress starts, and not when the mesh forbids it.
func TestEgress(t *testing.T) {
	s := newScene(t, "egress")
	if err := s.ControlPlane.Stop(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.ControlPlane.Start(ctx(t), "KUMA_XDS_SERVER_DATAPLANE_DEREGISTRATION_DELAY=100ms"); err != nil {
		t.Fatal(err)
	}
	apply(t, s, scene.Mesh)
	egress, err := s.AddZoneProxy(ctx(t), "exit", "egress")
	if err != nil {
		t.Logf("control plane said:\n%s", s.ControlPlane.Process.Log())
		if egress != nil {
			t.Logf("egress said:\n%s", egress.Agent.Log())
		}
		t.Fatal(err)
	}
	outside := newOutside(t, s)
	web := add(t, s, scene.WorkloadConfig{Name: "web-1", Service: "web"})

	external := func(name, tls string) string {
		port := outside.plain
		if tls != "" {
			port = outside.secure
		}
		return fmt.Sprintf(`type: MeshExternalService
mesh: default
name: %s
spec:
  match: {type: HostnameGenerator, port: 80, protocol: http}
  endpoints: [{address: %s, port: %d}]
  %s
`, name, outside.host.Addr, port, tls)
	}
	verify := func(text string) string {
		return "tls: {enabled: true, verification: {" + text + ", caCert: {inlineString: " + fmt.Sprintf("%q", outside.ca) + "}}}"
	}
	url := func(name string) string { return "http://" + name + ".extsvc.mesh.local/x" }
	for _, tt := range []struct {
		name, tls string
		want      int
	}{
		{"plain", "", 200},
		{"secured", verify("serverName: outside.example"), 200},
		{"other-name", verify("serverName: other.example"), 503},
		{"san", verify(`serverName: other.example, subjectAltNames: [{type: Prefix, value: outside.}]`), 200},
		{"skip-san", verify("mode: SkipSAN, serverName: other.example"), 200},
		{"skip-all", "tls: {enabled: true, verification: {mode: SkipAll}}", 200},
		{"unknown-authority", "tls: {enabled: true, verification: {mode: Secured, serverName: outside.example, caCert: {inlineString: " + fmt.Sprintf("%q", authority(t).pem) + "}}}", 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			apply(t, s, external(tt.name, tt.tls))
			awaitStatus(t, web, url(tt.name), tt.want)
			if tt.want != 200 {
				return
			}
			_, body, err := web.Curl(ctx(t), url(tt.name))
			if err != nil {
				t.Fatal(err)
			}
			var seen struct {
				From string
				TLS  bool
				SNI  string
			}
			if err := json.Unmarshal([]byte(body), &seen); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if seen.From != egress.Host.Addr.String() || seen.TLS != (tt.tls != "") || strings.Contains(tt.tls, "serverName: o") && !strings.Contains(tt.tls, "serverName: "+seen.SNI) {
				t.Errorf("the server saw %+v", seen)
			}
		})
	}
	t.Run("a stream of bytes", func(t *testing.T) {
		apply(t, s, strings.Replace(external("bytes", ""), "protocol: http", "protocol: tcp", 1))
		awaitStatus(t, web, url("bytes"), 200)
	})
	t.Run("forbidden", func(t *testing.T) {
		apply(t, s, scene.Mesh+"routing: {defaultForbidMeshExternalServiceAccess: true}\n")
		awaitStatus(t, web, url("plain"), 403)
		apply(t, s, scene.Mesh)
		awaitStatus(t, web, url("plain"), 200)
	})
	t.Run("what kumactl shows of it", func(t *testing.T) {
		for kind, want := range map[string]string{
			"status": "zone egress exit is connected, its Envoy has taken all of its configuration", "stats": "cluster_manager.active_clusters",
			"clusters": "::added_via_api::true", "config-dump": "envoy.admin.v3.ListenersConfigDump",
		} {
			out, err := s.Kumactl(ctx(t), nil, "inspect", "zoneegress", "exit", "--type", kind)
			if err != nil || !strings.Contains(out, want) || strings.Contains(out, "PRIVATE KEY") {
				t.Errorf("%s: %v: %.400s, want %s", kind, err, out, want)
			}
		}
	})
	t.Run("insight and departure", func(t *testing.T) {
		client := scene.HTTPClient(s.ControlPlane.Host)
		defer client.CloseIdleConnections()
		read := func(c context.Context, path string) (int, string, error) {
			req, err := http.NewRequestWithContext(c, http.MethodGet, "http://127.0.0.1:5681/"+path, nil)
			if err != nil {
				return 0, "", err
			}
			resp, err := client.Do(req)
			if err != nil {
				return 0, "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(body), err
		}
		status, body, err := read(ctx(t), "zoneegressinsights/exit")
		if err != nil || status != 200 || !strings.Contains(body, "connectTime") || strings.Contains(body, "disconnectTime") {
			t.Errorf("insight: %d %s %v", status, body, err)
		}
		if err := egress.Agent.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := scene.Await(ctx(t), "the ZoneEgress to be gone", func(c context.Context) error {
			if status, _, err := read(c, "zoneegresses/exit"); err != nil || status != 404 {
				return fmt.Errorf("got %d, %w", status, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

// TestIngress reaches a service as one of another zone, by way of the ingress there. Its zone is this one too: a second
// resource tells clients that the ingress is far away.
func TestIngress(t *testing.T) {
	s := newScene(t, "ingress")
	apply(t, s, scene.Mesh+"---\n"+scene.Permission)
	ingress, err := s.AddZoneProxy(ctx(t), "entry", "ingress")
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web-1", Service: "web"})
	apply(t, s, fmt.Sprintf(`type: ZoneIngress
name: far
zone: far
networking: {address: %[1]s, port: %[2]d, advertisedAddress: %[1]s, advertisedPort: %[2]d}
---
type: MeshService
mesh: default
name: backend-far
labels: {kuma.io/origin: global, kuma.io/zone: far, kuma.io/display-name: backend}
spec:
  state: Available
  identities: [{type: ServiceTag, value: backend}]
  ports: [{port: 8080, appProtocol: http}]
---
type: HostnameGenerator
name: far
spec:
  selector: {meshService: {matchLabels: {kuma.io/zone: far}}}
  template: "{{ .DisplayName }}.far.mesh.local"
`, ingress.Host.Addr, scene.IngressPort))
	const url = "http://backend.far.mesh.local:8080/"
	awaitStatus(t, web, url, 200)
	if _, seen := get(t, web, url); seen.Instance != "backend-1" || !strings.Contains(seen.ClientCert, "spiffe://default/web") {
		t.Errorf("%+v answers", seen)
	}
	// The only way is through the ingress.
	if err := ingress.Agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, web, url, 503)
	awaitStatus(t, web, backendURL, 200)
}

// outsideWorld is a host without agent that serves HTTP and HTTPS.
type outsideWorld struct {
	host          *netlab.Host
	plain, secure int
	ca            string
}

func newOutside(t *testing.T, s *scene.Scene) *outsideWorld {
	t.Helper()
	host, err := s.Lab().AddHost("outside")
	if err != nil {
		t.Fatal(err)
	}
	ca := authority(t)
	o := &outsideWorld{host: host, plain: 8080, secure: 8443, ca: ca.pem}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		seen := map[string]any{"From": from, "TLS": r.TLS != nil}
		if r.TLS != nil {
			seen["SNI"] = r.TLS.ServerName
		}
		_ = json.NewEncoder(w).Encode(seen) // an error is the client's going away
	})
	for _, port := range []int{o.plain, o.secure} {
		l, err := host.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		if port == o.secure {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, "outside.example")}, MinVersion: tls.VersionTLS12})
		}
		server := &http.Server{Handler: answer, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(l) // ends with Close
		}()
		t.Cleanup(func() {
			_ = server.Close()
			<-done
		})
	}
	return o
}

// testCA is an authority of nobody's mesh.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func authority(t *testing.T) *testCA {
	t.Helper()
	ca := &testCA{}
	ca.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "outside"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	der, ca.key = sign(t, ca.cert, ca.cert, nil)
	ca.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return ca
}

func (ca *testCA) leaf(t *testing.T, name string) tls.Certificate {
	t.Helper()
	der, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.cert, ca.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// sign makes a key and a certificate of it, signed by parent, or by itself.
func sign(t *testing.T, cert, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}
