package xds

import (
	"encoding/json"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestExternalTLS says what the options of a MeshExternalService mean for Envoy (contract policies.md §2.5).
func TestExternalTLS(t *testing.T) {
	const system = `"trustedCa":{"filename":"/ca.pem"}`
	given := func(rest string) string { return `{"validationContext":{` + rest + `}}` }
	san := func(kind, match string) string {
		return `"matchTypedSubjectAltNames":[{"matcher":{` + match + `},"sanType":"` + kind + `"}]`
	}
	for _, tt := range []struct{ name, tls, endpoints, want string }{
		{"off", "{enabled: false}", "", `null`},
		{"the host is checked", "{enabled: true}", "", `{"commonTlsContext":` + given(san("DNS", `"exact":"a.example"`)+`,`+system) + `,"sni":"a.example"}`},
		{"an address is checked", "{enabled: true}", "[{address: 192.0.2.9, port: 443}]", `{"commonTlsContext":` + given(san("IP_ADDRESS", `"exact":"192.0.2.9"`)+`,`+system) + `}`},
		{"another name", "{enabled: true, verification: {serverName: b.example}}", "", `{"commonTlsContext":` + given(san("DNS", `"exact":"b.example"`)+`,`+system) + `,"sni":"b.example"}`},
		{"SkipSAN", "{enabled: true, verification: {mode: SkipSAN, caCert: {inlineString: PEM}}}", "", `{"commonTlsContext":` + given(`"trustedCa":{"inlineBytes":"UEVN"}`) + `,"sni":"a.example"}`},
		{"SkipCA", "{enabled: true, verification: {mode: SkipCA}}", "", `{"commonTlsContext":{},"sni":"a.example"}`},
		{"SkipAll", "{enabled: true, allowRenegotiation: true, verification: {mode: SkipAll}}", "", `{"allowRenegotiation":true,"commonTlsContext":{},"sni":"a.example"}`},
		{
			"versions and client certificate", "{enabled: true, version: {min: TLS12, max: TLS13}, verification: {mode: SkipAll, clientCert: {secret: mine}, clientKey: {inline: S0VZ}}}", "",
			`{"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineBytes":"Q0VSVA=="},"privateKey":{"inlineBytes":"S0VZ"}}],"tlsParams":{"tlsMaximumProtocolVersion":"TLSv1_3","tlsMinimumProtocolVersion":"TLSv1_2"}},"sni":"a.example"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.endpoints == "" {
				tt.endpoints = "[{address: a.example, port: 443}]"
			}
			snap, err := egressOf(t, "tls: "+tt.tls+", endpoints: "+tt.endpoints)
			if err != nil {
				t.Fatal(err)
			}
			c := oddCluster(t, snap)
			socket, _ := c["transportSocket"].(map[string]any)
			config, _ := socket["typedConfig"].(map[string]any)
			delete(config, "@type")
			var want map[string]any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, config); diff != "" {
				t.Errorf("TLS (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("each host its own", func(t *testing.T) {
		snap, err := egressOf(t, "tls: {enabled: true}, endpoints: [{address: a.example, port: 443}, {address: b.example, port: 443}, {address: a.example, port: 444}]")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(oddCluster(t, snap))
		for want, n := range map[string]int{`"sni":"a.example"`: 1, `"sni":"b.example"`: 1, `"kuma.io/external-host":"a.example"`: 3, `"kuma.io/external-host":"b.example"`: 2} {
			if got := strings.Count(string(b), want); got != n {
				t.Errorf("%d times %s, want %d, in %s", got, want, n, b)
			}
		}
	})
	t.Run("one that cannot be made is left out", func(t *testing.T) {
		snap, err := egressOf(t, "tls: {enabled: true, verification: {caCert: {secret: none}}}, endpoints: [{address: a.example, port: 443}]")
		if err == nil || !strings.Contains(err.Error(), `leave out MeshExternalService odd of mesh default: certificate authority: mesh default has no secret "none"`) {
			t.Errorf("got %v", err)
		}
		if snap == nil || len(snap.Resources(TypeCluster)) != 1 {
			t.Error("the others went too")
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		w := zoneWorld(t, "{type: Mesh, name: default, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}, routing: {defaultForbidMeshExternalServiceAccess: true}}")
		snap, err := NewGenerator(all.Effects()).GenerateEgress(zoneInput(w, "192.168.240.31", 10002, false))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(shapeOf(t, snap)["Listener"])
		if !strings.Contains(string(b), `"rules":{}`) || strings.Contains(string(b), "MeshTrafficPermission") {
			t.Errorf("got %s", b)
		}
	})
}

// egressOf is an egress for a world with one more MeshExternalService, called odd.
func egressOf(t *testing.T, spec string) (*Snapshot, error) {
	t.Helper()
	w := zoneWorld(t, "{type: MeshExternalService, mesh: default, name: odd, spec: {match: {port: 443, protocol: tcp}, "+spec+"}}")
	w.Meshes["default"].Secrets["mine"] = &resource.Resource{Spec: &resource.Secret{Data: []byte("CERT")}}
	return NewGenerator(all.Effects()).GenerateEgress(zoneInput(w, "192.168.240.31", 10002, false))
}

func oddCluster(t *testing.T, snap *Snapshot) map[string]any {
	t.Helper()
	r := snap.Resources(TypeCluster)["default_odd__zone-1_extsvc_443"]
	if r == nil {
		t.Fatal("there is no cluster")
	}
	return jsonOf(t, r).(map[string]any)
}
