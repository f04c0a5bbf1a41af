package controlplane

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, `
multizone: {zone: {name: from-file}}
apiServer: {http: {port: 1, interface: 127.0.0.1}, corsAllowedDomains: ["https://a"]}
dpServer: {hds: {interval: 7s}}
`)
	t.Setenv("KUMA_API_SERVER_HTTP_PORT", "2")
	t.Setenv("KUMA_API_SERVER_AUTHN_LOCALHOST_IS_ADMIN", "false")
	t.Setenv("KUMA_XDS_DATAPLANE_DEREGISTRATION_DELAY", "1m")
	t.Setenv("KUMA_ACCESS_STATIC_GENERATE_DP_TOKEN_USERS", "a,b")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Multizone.Zone.Name = "from-file"
	want.APIServer.HTTP.Port, want.APIServer.HTTP.Interface = 2, "127.0.0.1"
	want.APIServer.CORSAllowedDomains = []string{"https://a"}
	want.DPServer.HDS.Interval = Duration(7 * time.Second)
	want.APIServer.Authn.LocalhostIsAdmin = false
	want.XDSServer.DataplaneDeregistrationDelay = Duration(time.Minute)
	want.Access.Static.GenerateDPToken.Users = []string{"a", "b"}
	got, _ := json.Marshal(c)
	expect, _ := json.Marshal(want)
	if string(got) != string(expect) {
		t.Errorf("got  %s\nwant %s", got, expect)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, variable, value, want string }{
		{"unknown key", "apiServer: {htttp: {}}", "", "", "htttp"},
		{"a setting that is not there", "store: {postgres: {host: x}}", "", "", "postgres"},
		{"no yaml", "{", "", "", "read configuration"},
		{"bad duration in file", "dpServer: {hds: {interval: soon}}", "", "", "soon"},
		{"bad duration", "", "KUMA_DP_SERVER_HDS_INTERVAL", "soon", "KUMA_DP_SERVER_HDS_INTERVAL"},
		{"bad number", "", "KUMA_DP_SERVER_PORT", "x", "KUMA_DP_SERVER_PORT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.variable != "" {
				t.Setenv(tt.variable, tt.value)
			}
			if _, err := Load(write(t, tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there is accepted")
	}
}

func TestValidate(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	for path, change := range map[string]func(*Config){
		"environment":                                  func(c *Config) { c.Environment = "kubernetes" },
		"mode":                                         func(c *Config) { c.Mode = "global" },
		"store.type":                                   func(c *Config) { c.Store.Type = "postgres" },
		"access.type":                                  func(c *Config) { c.Access.Type = "rbac" },
		"apiServer.authn.type":                         func(c *Config) { c.APIServer.Authn.Type = "adminClientCerts" },
		"dpServer.authn.dpProxy.type":                  func(c *Config) { c.DPServer.Authn.DPProxy.Type = "serviceAccountToken" },
		"metrics.mesh.minResyncInterval":               func(c *Config) { c.Metrics.Mesh.MinResyncInterval = 0 },
		"apiServer.https.requireClientCert":            func(c *Config) { c.APIServer.HTTPS.RequireClientCert = true },
		"multizone.zone.globalAddress":                 func(c *Config) { c.Multizone.Zone.GlobalAddress = "grpcs://x:5685" },
		"multizone.zone.name":                          func(c *Config) { c.Multizone.Zone.Name = "" },
		"dpServer.port":                                func(c *Config) { c.DPServer.Port = 70000 },
		"general.tlsCertFile and tlsKeyFile":           func(c *Config) { c.General.TLSCertFile = "x" },
		"dpServer.hds.interval":                        func(c *Config) { c.DPServer.HDS.Interval = 0 },
		"meshService.deletionGracePeriod":              func(c *Config) { c.MeshService.DeletionGracePeriod = 0 },
		"coreResources.status.meshServiceInterval":     func(c *Config) { c.CoreResources.Status.MeshServiceInterval = 0 },
		"ipam.meshService.cidr":                        func(c *Config) { c.IPAM.MeshService.CIDR = "241.0.0.0/9,241.128.0.0/9" },
		"ipam.meshMultiZoneService.cidr":               func(c *Config) { c.IPAM.MeshMultiZoneService.CIDR = "243.0.0.0/8,fd00::/64,fd01::/64" },
		"ipam.meshExternalService.cidr":                func(c *Config) { c.IPAM.MeshExternalService.CIDR = "242.0.0.0/8,fd00::/64" },
		"dnsServer.CIDR":                               func(c *Config) { c.DNSServer.CIDR = "240.0.0.0" },
		"dnsServer.domain":                             func(c *Config) { c.DNSServer.Domain = "me sh" },
		"dnsServer.serviceVipPort":                     func(c *Config) { c.DNSServer.ServiceVIPPort = 0 },
		"bootstrapServer.params.adminAddress":          func(c *Config) { c.BootstrapServer.Params.AdminAddress = "localhost" },
		"bootstrapServer.params.adminPort":             func(c *Config) { c.BootstrapServer.Params.AdminPort = 70000 },
		"bootstrapServer.params.xdsConnectTimeout":     func(c *Config) { c.BootstrapServer.Params.XDSConnectTimeout = -1 },
		"xdsServer.dataplaneStatusFlushInterval":       func(c *Config) { c.XDSServer.DataplaneStatusFlushInterval = 0 },
		"dpServer.hds.checkDefaults.noTrafficInterval": func(c *Config) { c.DPServer.HDS.CheckDefaults.NoTrafficInterval = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		_, err := New(c, nil)
		if err == nil || !strings.Contains(err.Error(), "configuration: "+path+": ") || strings.Count(err.Error(), "configuration:") != 1 {
			t.Errorf("%s: got %v", path, err)
		}
	}
	c.Store.Type, c.Mode = "x", "y"
	if err := c.Validate(); strings.Count(err.Error(), "configuration:") != 2 {
		t.Errorf("two faults give %v", err)
	}
}

func TestNewCompletesPaths(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	c := DefaultConfig()
	c.Mode = "standalone"
	cp, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cp.cfg.General.WorkDir != "/home/somebody/.kuma" || cp.cfg.DPServer.TLSKeyFile != "/home/somebody/.kuma/kuma-cp.key" ||
		cp.cfg.Store.Bolt.Path != "/home/somebody/.kuma/kuma-cp.db" || cp.cfg.Mode != "zone" {
		t.Errorf("got %+v", cp.cfg)
	}
}

func TestUnknownVariables(t *testing.T) {
	got := UnknownVariables([]string{"KUMA_STORE_TYPE=memory", "KUMA_STORE_POSTGRES_HOST=x", "HOME=/", "KUMA_API_SERVER_HTTP_PROT=1", "KUMA_DP_SERVER_HDS_CHECK_TIMEOUT=1s"})
	if want := []string{"KUMA_API_SERVER_HTTP_PROT", "KUMA_STORE_POSTGRES_HOST"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Every setting has a variable, and every variable its own.
func TestEverySettingHasAVariable(t *testing.T) {
	text, err := json.Marshal(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]any
	if err := json.Unmarshal(text, &shape); err != nil {
		t.Fatal(err)
	}
	leaves := 1 // multizone.zone.globalAddress is left out while empty
	var walk func(v any)
	walk = func(v any) {
		m, ok := v.(map[string]any)
		if !ok {
			leaves++
			return
		}
		for _, v := range m {
			walk(v)
		}
	}
	walk(shape)
	if got := len(knownVariables()); got != leaves {
		t.Errorf("%d variables for %d settings", got, leaves)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("store: {type: memory}")
	f.Add("dpServer: {hds: {interval: 7s, checkDefaults: {timeout: 1h}}}")
	f.Fuzz(func(t *testing.T, text string) {
		c := DefaultConfig()
		if err := yaml.UnmarshalStrict([]byte(text), &c); err != nil {
			return
		}
		_ = c.Validate()
		if _, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	})
}
