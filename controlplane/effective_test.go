package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
)

// ours are the settings whose value is another than in the captured configuration, or that 2.9 does not have.
var ours = map[string]bool{
	"apiServer.corsAllowedDomains":    true, // closed by default
	"apiServer.envoyAdmin":            true,
	"apiServer.gui.enabled":           true,
	"apiServer.hardened":              true,
	"policies.computeRole":            true,
	"policies.disableCliques":         true,
	"interCp.catalog.instanceAddress": true, "multizone.zone.name": true, // of the machine
	"store.bolt": true, "store.type": true, "store.cache.enabled": true,
	"general.workDir": true, "runtime.kubernetes.injector.ebpf.programsSourcePath": true,
}

// TestEffective compares with GET /config of 2.9.13 (contract controlplane.md, appendix A): the same keys, and the same
// values where nothing of ours is different.
func TestEffective(t *testing.T) {
	text, err := os.ReadFile("testdata/config-2.9.13.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	got := c.Effective()
	prune(want, "")
	prune(got, "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-captured +ours:\n%s", diff)
	}
	c.DPServer.Port, c.Mode, c.APIServer.Hardened = 6000, "standalone", true
	shown, err := json.Marshal(c.Effective())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"xdsPort":6000`, `"mode":"standalone"`, `"hardened":true`} {
		if !strings.Contains(string(shown), part) {
			t.Errorf("%s is not shown", part)
		}
	}
	if c.BootstrapServer.Params.XDSPort != 0 {
		t.Error("showing the configuration has changed it")
	}
}

// prune leaves out what is ours, and paths of files.
func prune(settings map[string]any, path string) {
	for key, value := range settings {
		inner, isMap := value.(map[string]any)
		switch {
		case ours[path+key], strings.HasSuffix(key, "CertFile"), strings.HasSuffix(key, "KeyFile"):
			delete(settings, key)
		case isMap:
			prune(inner, path+key+".")
		}
	}
}

// TestBlank: demands §3.3, assertion 34.
func TestBlank(t *testing.T) {
	s := map[string]any{
		"store": map[string]any{"postgres": map[string]any{"password": "hunter2", "user": "kuma"}},
		"authn": map[string]any{"token": "eyJ", "bootstrapAdminToken": true}, "clientSecret": "x", "emptyPassword": "",
	}
	blank(s)
	want := map[string]any{
		"store": map[string]any{"postgres": map[string]any{"password": masked, "user": "kuma"}},
		"authn": map[string]any{"token": masked, "bootstrapAdminToken": true}, "clientSecret": masked, "emptyPassword": "",
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestClientCerts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "admins.pem")
	for name, text := range map[string][]byte{file: authority(t), filepath.Join(dir, "README"): []byte("no certificate")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		file, dir string
		require   bool
		want      tls.ClientAuthType
		fails     bool
	}{
		"none":     {want: tls.NoClientCert},
		"file":     {file: file, want: tls.VerifyClientCertIfGiven},
		"folder":   {dir: dir, want: tls.VerifyClientCertIfGiven},
		"required": {file: file, require: true, want: tls.RequireAndVerifyClientCert},
		"no file":  {file: filepath.Join(dir, "none"), fails: true},
		"no PEM":   {file: filepath.Join(dir, "README"), fails: true},
		"empty":    {dir: t.TempDir(), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			c.APIServer.HTTPS.TLSCAFile, c.APIServer.Auth.ClientCertsDir, c.APIServer.HTTPS.RequireClientCert = test.file, test.dir, test.require
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			got := &tls.Config{MinVersion: tls.VersionTLS12}
			err := c.clientCerts(got)
			if (err != nil) != test.fails || got.ClientAuth != test.want || !test.fails && (got.ClientCAs != nil) != (test.want != tls.NoClientCert) {
				t.Errorf("got %v, %v", got.ClientAuth, err)
			}
		})
	}
	c := DefaultConfig()
	c.APIServer.Authn.Type, c.APIServer.HTTPS.RequireClientCert = api.AuthnAdminClientCerts, true
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "apiServer.authn.type") || !strings.Contains(err.Error(), "requireClientCert") {
		t.Errorf("without an authority: got %v", err)
	}
}
