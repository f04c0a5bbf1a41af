package service

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestCaptured compares whole services with what a 2.9.13 control plane made of the same input.
func TestCaptured(t *testing.T) {
	files, err := filepath.Glob("testdata/*/mesh*service-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no captured files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(file, "testdata/"), func(t *testing.T) {
			input, err := os.ReadFile(filepath.Join(filepath.Dir(file), "input.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			want := captured(t, file)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				defer w.stop()
				w.yaml(string(input))
				synctest.Wait()
				mesh, _ := want["mesh"].(string)
				name, _ := want["name"].(string)
				kind, _ := want["type"].(string)
				r, err := w.Get(resource.Key{Kind: resource.Kind(kind), Mesh: mesh, Name: name})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, shown(t, r)); diff != "" {
					t.Errorf("(-captured +ours):\n%s", diff)
				}
			})
		})
	}
}

func captured(t *testing.T, file string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, b)
}

func tree(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// shown is r as the API shows it, without times, and with the VIP replaced as in the captured files.
func shown(t *testing.T, r *resource.Resource) map[string]any {
	t.Helper()
	c := r.Clone()
	var vips []resource.VIP
	prefix := "241.0.0."
	switch st := c.Status.(type) {
	case *resource.MeshServiceStatus:
		vips = st.VIPs
	case *resource.MeshMultiZoneServiceStatus:
		vips, prefix = st.VIPs, "243.0.0."
	}
	if len(vips) != 1 || !strings.HasPrefix(vips[0].IP, prefix) {
		t.Fatalf("got VIPs %v, want one of %s0/8", vips, prefix)
	}
	vips[0].IP = "VIP(" + string(r.Kind) + "/" + r.Name + ")"
	b, err := registry().Encode(c, resource.FormUniversal)
	if err != nil {
		t.Fatal(err)
	}
	out := tree(t, b)
	delete(out, "creationTime")
	delete(out, "modificationTime")
	return out
}

func TestDerive(t *testing.T) {
	const mtls = ", mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}"
	const one = `
{type: Dataplane, mesh: m, name: a, networking: {address: 10.0.0.1, inbound: [{port: 80, name: api, tags: {kuma.io/service: x}}, {port: 81, name: admin, tags: {kuma.io/service: b}}]}}`
	const two = one + `
---
{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.2, inbound: [{port: 80, name: api, tags: {kuma.io/service: x}, state: NotReady}, {port: 81, name: admin, tags: {kuma.io/service: a}}]}}`
	const connected = `
---
{type: DataplaneInsight, mesh: m, name: a, subscriptions: [{connectTime: "2026-01-01T00:00:00Z"}], mTLS: {issuedBackend: ca}}`
	const gone = `
---
{type: DataplaneInsight, mesh: m, name: b, subscriptions: [{connectTime: "2026-01-01T00:00:00Z", disconnectTime: "2026-01-01T00:00:01Z"}]}`
	tests := []struct {
		name, mesh, input, ports string
		status                   string
		empty                    bool
		state, tls               string
		counts                   resource.DataplaneProxyCount
		identities               string
	}{
		{name: "one, never connected", input: one, ports: "{name: api, port: 8080}", state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1}, identities: "b x"},
		{name: "by number of the port, not of the target", input: one, ports: "{name: q, port: 80, targetPort: 9}", state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1}, identities: "b x"},
		{name: "a port without inbound", input: one, ports: "{name: api, port: 1}, {name: none, port: 2, targetPort: 80}", state: "Unavailable", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1}, identities: "b x"},
		{name: "no ports", input: one, state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1}, identities: "b x"},
		{name: "two", mesh: mtls, input: two + connected + gone, ports: "{name: api, port: 80}", state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 2, Healthy: 1, Connected: 1}, identities: "a b x"},
		{name: "two, on a port that is ready", mesh: mtls, input: two, ports: "{name: admin, port: 81}", state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 2, Healthy: 2}, identities: "a b x"},
		{name: "all have identities", mesh: mtls, input: one + connected, ports: "{name: api, port: 80}", state: "Available", tls: "Ready", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1, Connected: 1}, identities: "b x"},
		{name: "mtls off again", input: one + connected, ports: "{name: api, port: 80}", status: "Ready", state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1, Connected: 1}, identities: "b x"},
		{name: "ready stays", mesh: mtls, input: two, ports: "{name: api, port: 80}", status: "Ready", state: "Available", tls: "Ready", counts: resource.DataplaneProxyCount{Total: 2, Healthy: 1}, identities: "a b x"},
		{name: "none, just now", mesh: mtls, state: "Unavailable", tls: "NotReady"},
		{name: "none for long", mesh: mtls, empty: true, state: "Unavailable", tls: "Ready"},
		{name: "none for long, mtls off", empty: true, state: "Unavailable", tls: "NotReady"},
		{name: "an old emptiness means nothing with proxies", mesh: mtls, input: one, ports: "{name: api, port: 80}", empty: true, state: "Available", tls: "NotReady", counts: resource.DataplaneProxyCount{Total: 1, Healthy: 1}, identities: "b x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "{type: Mesh, name: m" + tt.mesh + "}\n---\n{type: MeshService, mesh: m, name: s, spec: {selector: {dataplaneTags: {kuma.io/service: x}}, ports: [" + tt.ports + "]}, status: {tls: {status: " + tt.status + "}}}\n---" + tt.input
			var all []*resource.Resource
			for _, doc := range resource.SplitYAML([]byte(text)) {
				r, err := registry().DecodeYAML(doc)
				if err != nil {
					t.Fatal(err)
				}
				if r.Kind == resource.KindMeshService { // what a user writes has no status
					r.Status = &resource.MeshServiceStatus{TLS: &resource.TLSStatus{Status: tt.status}}
				}
				all = append(all, r)
			}
			m := topology.Build("zone-a", all...).Meshes["m"]
			got := derive(m, m.Service("s"), tt.empty)
			var ids []string
			for _, id := range got.identities {
				ids = append(ids, id.Value)
			}
			if got.state != tt.state || got.tls != tt.tls || got.counts != tt.counts || strings.Join(ids, " ") != tt.identities {
				t.Errorf("got %+v", got)
			}
		})
	}
}
