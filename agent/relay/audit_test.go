package relay_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

const workDir = "/tmp/kuma-dp-3629484644"

func TestAuditAcceptsWhatControlPlanesSend(t *testing.T) {
	ours, err := filepath.Glob("../../bootstrap/generate/testdata/*.yaml") // one is the captured answer of a 2.9.13 one
	if err != nil || len(ours) < 5 {
		t.Fatalf("%d bootstraps, %v", len(ours), err)
	}
	files := slices.Concat(ours, []string{"testdata/envoygrpc.yaml", "testdata/googlegrpc.yaml", "testdata/ingress.yaml"})
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := relay.RewriteBootstrap(in, workDir+"/kuma-xds.sock")
			if err != nil {
				t.Fatal(err)
			}
			if refused, flagged := b.Audit(relay.Allowed{Dirs: []string{workDir, "/run/dp"}}); len(refused)+len(flagged) > 0 {
				t.Errorf("refused %q, flagged %q; want neither", refused, flagged)
			}
		})
	}
}

func TestAuditOfARelativeWorkDirectory(t *testing.T) {
	for dir, paths := range map[string]map[string]bool{
		"work": {"work/a.sock": true, "./work/a.sock": true, "work/../a.sock": false, "other/a.sock": false, "/work/a.sock": false},
		".":    {"a.sock": true, "@docker": false, "../a.sock": false, "/a.sock": false},
	} {
		for path, want := range paths {
			b, err := relay.RewriteBootstrap([]byte("dynamicResources: {adsConfig: {}}\nadmin: {address: {pipe: {path: '"+path+"'}}}"), dir+"/kuma-xds.sock")
			if err != nil {
				t.Fatal(err)
			}
			if refused, _ := b.Audit(relay.Allowed{Dirs: []string{dir}}); (len(refused) == 0) != want {
				t.Errorf("work directory %s, path %s: refused %q", dir, path, refused)
			}
		}
	}
}

func TestAudit(t *testing.T) {
	const ads = "dynamicResources: {adsConfig: {grpcServices: [{envoyGrpc: {clusterName: x}}]}}\n"
	const types = "type.googleapis.com/envoy.extensions."
	for _, tc := range []struct {
		name, in         string
		refused, flagged string // a part of the only text; "" = none
	}{
		{"admin pipe of a later control plane", "admin: {address: {pipe: {path: " + workDir + "/kuma-envoy-admin.sock, mode: 384}}}", "", ""},
		{"allowed file", "staticResources: {clusters: [{x: {trustedCa: {filename: /etc/ssl/ca.pem}}}]}", "", ""},
		{"node metadata is data", "node: {metadata: {systemCaPath: /somewhere, workdir: /else}}", "", ""},
		{
			"admin access log", "admin: {accessLog: [{typedConfig: {'@type': " + types + "access_loggers.file.v3.FileAccessLog, path: /var/log/a}}]}",
			"", `admin.accessLog[0].typedConfig.path writes to "/var/log/a"`,
		},
		{"unknown section", "statsSinks: [{name: x}]", "", `"statsSinks" is a section`},
		{"unknown type", "staticResources: {clusters: [{typedConfig: {'@type': " + types + "clusters.redis.v3.X}}]}", "", "which no control plane of Kuma sends"},
		{
			"other file", "staticResources: {secrets: [{validationContext: {trustedCa: {filename: /etc/shadow}}}]}",
			`staticResources.secrets[0].validationContext.trustedCa.filename names "/etc/shadow"`, "",
		},
		{
			"snake case", "static_resources: {secrets: [{validation_context: {trusted_ca: {filename: /etc/shadow}}}]}",
			`static_resources.secrets[0].validation_context.trusted_ca.filename names "/etc/shadow"`, "",
		},
		{"relative file", "admin: {profilePath: ../x}", `admin.profilePath names "../x"`, ""},
		{"way out of the work directory", "admin: {profilePath: " + workDir + "/../x}", "outside", ""},
		{"neighbour of the work directory", "admin: {profilePath: " + workDir + "5/x}", "outside", ""},
		{
			"socket of another", "staticResources: {clusters: [{loadAssignment: {endpoints: [{lbEndpoints: [{endpoint: {address: {pipe: {path: /run/docker.sock}}}}]}]}}]}",
			"/run/docker.sock", "",
		},
		{"abstract socket", "staticResources: {clusters: [{address: {pipe: {path: '@docker'}}}]}", "@docker", ""},
		{"runtime on disk", "layeredRuntime: {layers: [{diskLayer: {symlinkRoot: /etc}}]}", "layeredRuntime.layers[0].diskLayer.symlinkRoot", ""},
		{"configuration from a file", "dynamicResources: {ldsConfig: {pathConfigSource: {path: /tmp/lds.yaml}}, adsConfig: {grpcServices: []}}", "/tmp/lds.yaml", ""},
		{"program", "staticResources: {clusters: [{filters: [{typedConfig: {'@type': " + types + "filters.network.wasm.v3.Wasm}}]}]}", "runs a program", ""},
		{"environment", "staticResources: {secrets: [{trustedCa: {environmentVariable: HOME}}]}", `the variable "HOME"`, ""},
		{"second admin address", "staticResources: {listeners: [{address: {socketAddress: {address: 0.0.0.0, portValue: 9902}}}]}", "staticResources.listeners opens 1 listeners", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := tc.in
			if !strings.Contains(in, "dynamicResources") {
				in = ads + in
			}
			b, err := relay.RewriteBootstrap([]byte(in), workDir+"/kuma-xds.sock")
			if err != nil {
				t.Fatal(err)
			}
			refused, flagged := b.Audit(relay.Allowed{Dirs: []string{workDir}, Files: []string{"", "/etc/ssl/ca.pem"}})
			for _, side := range []struct {
				what, want string
				got        []string
			}{{"refused", tc.refused, refused}, {"flagged", tc.flagged, flagged}} {
				if side.want == "" && len(side.got) > 0 || side.want != "" && (len(side.got) != 1 || !strings.Contains(side.got[0], side.want)) {
					t.Errorf("%s %q, want %q", side.what, side.got, side.want)
				}
			}
			if slices.ContainsFunc(append(refused, flagged...), func(s string) bool { return strings.ContainsAny(s, "\n\x00") }) {
				t.Errorf("more than one line: %q %q", refused, flagged)
			}
		})
	}
}
