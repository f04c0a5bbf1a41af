//go:build linux

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestInspect asks running Envoys through the control plane and, as a stranger, directly.
func TestInspect(t *testing.T) {
	s := newScene(t, "kuma-insp")
	apply(t, s, scene.Mesh)
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	stranger, err := s.Lab().AddHost("stranger")
	if err != nil {
		t.Fatal(err)
	}
	of := "http://127.0.0.1:5681/meshes/default/dataplanes/web/"

	for path, want := range map[string]string{
		"stats":                 "cluster_manager.active_clusters",
		"stats?format=json":     `"stats"`,
		"clusters":              "kuma:envoy:admin::",
		"clusters?format=json":  `"cluster_statuses"`,
		"xds":                   "envoy.admin.v3.ListenersConfigDump",
		"xds?include_eds=true":  "envoy.admin.v3.EndpointsConfigDump",
		"_rules":                `"MeshTimeout"`,
		"_config?include=diff":  `"diff": []`,
		"_config?shadow=true":   "outbound:241.0.0.0:8080",
		"../web/stats":          "",
		"stats?format=yaml":     "",
		"../nobody/stats":       "",
		"hot_restart_version":   "",
		"stats/%2e%2e/quitquit": "",
	} {
		t.Run(path, func(t *testing.T) {
			status, body := fetch(t, s.ControlPlane.Host, of+path, nil)
			switch {
			case want == "" && status < 400:
				t.Errorf("got %d %.200s", status, body)
			case want != "" && (status != http.StatusOK || !strings.Contains(body, want)):
				t.Errorf("got %d, want %q in %.400s", status, want, body)
			}
			if strings.Contains(body, "PRIVATE KEY") {
				t.Error("a private key is shown")
			}
		})
	}

	admin := net.JoinHostPort(web.Host.Addr.String(), "9901")
	t.Run("a stranger in clear gets only the readiness", func(t *testing.T) {
		if status, body := fetch(t, stranger, "http://"+admin+"/ready", nil); status != http.StatusOK {
			t.Errorf("/ready: got %d %s", status, body)
		}
		for _, path := range []string{"stats", "config_dump", "quitquitquit", ""} {
			if status, body := fetch(t, stranger, "http://"+admin+"/"+path, nil); status != http.StatusNotFound {
				t.Errorf("/%s: got %d %.200s", path, status, body)
			}
		}
	})

	t.Run("a stranger's TLS is refused", func(t *testing.T) {
		own, err := selfSigned()
		if err != nil {
			t.Fatal(err)
		}
		for name, cfg := range map[string]*tls.Config{
			// Whom the stranger trusts does not matter here.
			"no certificate":          {InsecureSkipVerify: true},
			"a self-signed one":       {InsecureSkipVerify: true, Certificates: []tls.Certificate{own}},
			"TLS 1.2, no certificate": {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
		} {
			if status, body := fetch(t, stranger, "https://"+admin+"/ready", cfg); status != 0 {
				t.Errorf("%s: got %d %.200s", name, status, body)
			}
		}
	})

	t.Run("after a restart the same listener serves the same control plane", func(t *testing.T) {
		before := adminListener(t, web)
		if err := s.ControlPlane.Stop(ctx(t)); err != nil {
			t.Fatal(err)
		}
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		err := scene.Await(ctx(t), "the statistics of web", func(context.Context) error {
			if status, body := fetch(t, s.ControlPlane.Host, of+"stats", nil); status != http.StatusOK {
				return fmt.Errorf("got %d %s", status, body)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// What was sent at the reconnection is there before a change that comes after it.
		apply(t, s, slowConnect)
		err = scene.Await(ctx(t), "a change to reach web", func(context.Context) error {
			if _, body := fetch(t, web.Host, "http://127.0.0.1:9901/config_dump?resource=dynamic_active_clusters", nil); !strings.Contains(body, `"17s"`) {
				return errors.New("no cluster has it")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if after := adminListener(t, web); after != before {
			t.Errorf("the listener was replaced: %s, before %s", after, before)
		}
	})
}

const slowConnect = `type: MeshTimeout
mesh: default
name: slow-connect
spec:
  to:
  - targetRef:
      kind: Mesh
    default:
      connectionTimeout: 17s
`

// fetch asks url from host; status 0 is no answer, and body then says why.
func fetch(t *testing.T, host *netlab.Host, url string, cfg *tls.Config) (status int, body string) {
	t.Helper()
	client := scene.HTTPClient(host)
	client.Transport.(*http.Transport).TLSClientConfig = cfg
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return resp.StatusCode, string(text)
}

// adminListener returns the admin listener as Envoy has it, with the time when it came.
func adminListener(t *testing.T, w *scene.Workload) string {
	t.Helper()
	query := url.Values{"resource": {"dynamic_listeners"}, "name_regex": {"kuma:envoy:admin"}}
	_, body := fetch(t, w.Host, "http://127.0.0.1:9901/config_dump?"+query.Encode(), nil)
	var dump struct {
		Configs []struct {
			Active struct {
				Updated  string          `json:"last_updated"`
				Listener json.RawMessage `json:"listener"`
			} `json:"active_state"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(body), &dump); err != nil || len(dump.Configs) != 1 || dump.Configs[0].Active.Updated == "" {
		t.Fatalf("no admin listener in %s: %v", body, err)
	}
	return dump.Configs[0].Active.Updated + string(dump.Configs[0].Active.Listener)
}

// selfSigned claims to be the control plane.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"kuma-cp"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
