package generate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/bootstrap"
)

var update = flag.Bool("update", false, "write the golden files")

func certificate(t testing.TB, change func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost", "vm"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("::1")},
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func settings(t testing.TB) Config {
	t.Helper()
	return Config{
		XDSPort: 5678, ConnectTimeout: time.Second, AdminAddress: "127.0.0.1", AdminPort: 9901, AdminAccessLogPath: "/dev/null", HDS: true,
		ServerCert: certificate(t, func(*x509.Certificate) {}),
	}
}

func request() *bootstrap.Request {
	return &bootstrap.Request{
		Mesh: "default", Name: "demo", ProxyType: "dataplane", DataplaneToken: "the-token", DataplaneTokenPath: "/etc/kuma/demo.token",
		Version: bootstrap.Version{
			KumaDP: bootstrap.KumaDPVersion{Version: "unknown", GitTag: "unknown", GitCommit: "unknown", BuildDate: "unknown"},
			Envoy:  bootstrap.EnvoyVersion{Version: "1.40.0", Build: "9e55/1.40.0/Clean/RELEASE/BoringSSL"},
		},
		DNSPort: 15054, ReadinessPort: 9902, AppProbeProxyEnabled: true, OperatingSystem: "linux",
		Features: []string{"feature-tcp-accesslog-via-named-pipe"}, Workdir: "/tmp/kuma-dp-3629484644", SystemCAPath: "/etc/ssl/certs/ca-certificates.crt",
	}
}

func TestBootstrap(t *testing.T) {
	for _, tt := range []struct {
		name   string
		host   string
		change func(*Config, *bootstrap.Request, *Proxy)
	}{
		{"sidecar", "127.0.0.1", func(_ *Config, _ *bootstrap.Request, p *Proxy) { p.Resource = `{"type":"Dataplane"}` }},
		{"by-name", "vm", func(c *Config, r *bootstrap.Request, p *Proxy) {
			c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			}
			r.DynamicMetadata = map[string]string{"HOST_IP": "192.0.2.9"}
			r.DNSPort, r.ReadinessPort, r.AppProbeProxyEnabled, r.DataplaneToken = 0, 0, false, ""
			p.AdminPort = 9999
		}},
		{"localhost", "localhost", func(c *Config, _ *bootstrap.Request, _ *Proxy) {
			c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
				t.Error("localhost is never looked up")
				return nil, nil
			}
		}},
		{"reloadable-token", "::1", func(c *Config, _ *bootstrap.Request, _ *Proxy) { c.ReloadableTokens = true }},
		{"builtin-gateway", "127.0.0.1", func(_ *Config, r *bootstrap.Request, p *Proxy) {
			p.BuiltinGateway, r.Resources.MaxHeapSizeBytes = true, 536870912
		}},
		{"ingress", "127.0.0.1", func(_ *Config, r *bootstrap.Request, _ *Proxy) { r.ProxyType, r.Mesh, r.Name = "ingress", "", "ze1" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, req, p := settings(t), request(), Proxy{Cluster: "demo"}
			tt.change(&cfg, req, &p)
			text, err := Bootstrap(t.Context(), cfg, req, tt.host, p)
			if err != nil {
				t.Fatal(err)
			}
			got := normalise(string(text))
			path := filepath.Join("testdata", tt.name+".yaml")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// normalise replaces the certificate, which is another one in every run.
func normalise(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if head, _, ok := strings.Cut(line, "inlineBytes: "); ok {
			line = head + "inlineBytes: CERTIFICATE\n"
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// The captured bootstrap of contract agent.md §2.8, written as the contract has it.
func TestBootstrapIsTheCapturedOne(t *testing.T) {
	want, err := os.ReadFile("testdata/captured.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := Bootstrap(t.Context(), settings(t), request(), "127.0.0.1", Proxy{Cluster: "demo", Resource: `{"type":"Dataplane"}`})
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(yaml.Unmarshal(want, &a), yaml.Unmarshal([]byte(normalise(string(text))), &b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		host   string
		change func(*Config, *bootstrap.Request)
		status int
		body   string
	}{
		{
			"host not in certificate", "foo.example", func(*Config, *bootstrap.Request) {}, 400,
			`A data plane proxy is trying to connect to the control plane using "foo.example" address, but the certificate in the control plane has the following SANs ["127.0.0.1" "::1" "localhost" "vm"]. Either change`,
		},
		{"leaf as ca", "vm", func(_ *Config, r *bootstrap.Request) {
			r.CACert = string(certificate(t, func(c *x509.Certificate) { c.IsCA = false }))
		}, 400, `A data plane proxy is trying to verify the control plane using the certificate which is not a certificate authority (basic constraint 'CA' is set to 'false').`},
		{"garbage ca", "vm", func(_ *Config, r *bootstrap.Request) { r.CACert = "junk" }, 500, ""},
		{"broken server certificate", "vm", func(c *Config, _ *bootstrap.Request) { c.ServerCert = nil }, 500, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, req := settings(t), request()
			tt.change(&cfg, req)
			_, err := Bootstrap(t.Context(), cfg, req, tt.host, Proxy{})
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Status != tt.status || !strings.HasPrefix(e.Body, tt.body) || tt.body == "" && e.Body != "" {
				t.Fatalf("got %#v", err)
			}
		})
	}
	cfg, req := settings(t), request()
	cfg.XDSHost = "vm"
	if _, err := Bootstrap(t.Context(), cfg, req, "foo.example", Proxy{}); err != nil {
		t.Errorf("the configured host counts, not the one of the request: %v", err)
	}
	req.CACert = string(certificate(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }))
	if _, err := Bootstrap(t.Context(), cfg, req, "vm", Proxy{}); err != nil {
		t.Errorf("a certificate without basic constraints is let through: %v", err)
	}
}
