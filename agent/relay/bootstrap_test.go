package relay_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

func TestRewriteBootstrap(t *testing.T) {
	for _, tc := range []struct {
		name, file   string
		controlPlane string
		ca           string
		hds          bool
	}{
		{"token in metadata", "testdata/envoygrpc.yaml", "127.0.0.1:5678", "pem of the authority", true},
		{"token in a file", "testdata/googlegrpc.yaml", "localhost:5678", "pem of the authority", true},
		{"zone proxy", "testdata/ingress.yaml", "cp.example:5678", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := os.ReadFile(tc.file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := relay.RewriteBootstrap(in, "/run/dp/kuma-xds.sock")
			if err != nil {
				t.Fatal(err)
			}
			if b.ControlPlane != tc.controlPlane || !b.TLS || string(b.CA) != tc.ca {
				t.Errorf("control plane %q tls %v ca %q, want %q with TLS and %q", b.ControlPlane, b.TLS, b.CA, tc.controlPlane, tc.ca)
			}
			for _, secret := range []string{"eyJ", "token", "authorization", "googleGrpc", "rootCerts", "trustedCa"} {
				if bytes.Contains(b.YAML, []byte(secret)) {
					t.Errorf("the result holds %q", secret)
				}
			}
			var before, after map[string]any
			if err := yaml.Unmarshal(in, &before); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal(b.YAML, &after); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"node", "statsConfig", "layeredRuntime", "admin", "defaultRegexEngine"} {
				x, err := yaml.Marshal(before[key])
				if err != nil {
					t.Fatal(err)
				}
				y, err := yaml.Marshal(after[key])
				if err != nil {
					t.Fatal(err)
				}
				// Tag expressions are replaced by faster equals, see TestFasterTagsAreEqual.
				x = bytes.ReplaceAll(x, []byte(`regex: ((.+?)\.)rbac\.`), []byte(`regex: ^((.+?)\.)rbac\.`))
				if !bytes.Equal(x, y) {
					t.Errorf("%s changed from\n%s to\n%s", key, x, y)
				}
			}
			text := string(b.YAML)
			for _, want := range []string{"apiType: DELTA_GRPC", "path: /run/dp/kuma-xds.sock", "clusterName: ads_cluster"} {
				if !strings.Contains(text, want) {
					t.Errorf("the result lacks %q", want)
				}
			}
			if got := strings.Contains(text, "apiType: GRPC\n"); got != tc.hds {
				t.Errorf("health discovery is %v, want %v, and not in the delta form", got, tc.hds)
			}
			if strings.Contains(string(in), "4294967295") && !strings.Contains(text, "4294967295") {
				t.Error("a large number lost its form")
			}
		})
	}
}

func TestRewriteBootstrapReadsTheAdminInterface(t *testing.T) {
	const ads = "dynamicResources: {adsConfig: {grpcServices: [{envoyGrpc: {clusterName: x}}]}}\n"
	for _, tc := range []struct {
		name, in, address, path string
		exposed                 bool
	}{
		{"loopback", "admin: {address: {socketAddress: {address: 127.0.0.1, portValue: 9901}}}", "127.0.0.1:9901", "", false},
		{"ipv6", "admin: {address: {socketAddress: {address: '::1', portValue: 9901}}}", "[::1]:9901", "", false},
		{"all addresses", "admin: {address: {socketAddress: {address: 0.0.0.0, portValue: 9901}}}", "0.0.0.0:9901", "", true},
		{"pipe", "admin: {address: {pipe: {path: /run/a.sock, mode: 384}}}", "", "/run/a.sock", false},
		{"none", "", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := relay.RewriteBootstrap([]byte(ads+tc.in), "/s")
			if err != nil {
				t.Fatal(err)
			}
			if b.AdminAddress != tc.address || b.AdminPath != tc.path || (b.Exposed() != "") != tc.exposed {
				t.Errorf("got %q %q exposed %q", b.AdminAddress, b.AdminPath, b.Exposed())
			}
		})
	}
}

func FuzzRewriteBootstrap(f *testing.F) {
	for _, file := range []string{"testdata/envoygrpc.yaml", "testdata/googlegrpc.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("dynamicResources: {adsConfig: {grpcServices: 3}}\nstaticResources: []\nadmin: x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := relay.RewriteBootstrap(in, "/s")
		if err != nil {
			return
		}
		b.Audit(relay.Allowed{Dirs: []string{"/run"}})
		if again, err := relay.RewriteBootstrap(b.YAML, "/s"); err != nil || !bytes.Equal(again.YAML, b.YAML) {
			t.Errorf("rewriting the result changed it or failed: %v", err)
		}
	})
}
