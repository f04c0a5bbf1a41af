package inspect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

func (p *proxies) Secured(id topology.ProxyID, _ string, _ []byte) (connected, secured bool, err error) {
	state := p.secured[id.Name]
	return state != "", state == "secured", nil
}

// rotatingMesh has proxies in all states of a rotation.
const rotatingMesh = `
type: Mesh
name: m
mtls: {enabledBackend: new, rotation: {to: new}, backends: [{name: old, type: builtin}, {name: new, type: builtin, conf: {caCert: {keyType: ECDSA}}}]}
---
type: Mesh
name: off
`

func TestAuthorities(t *testing.T) {
	input := rotatingMesh
	for name, issued := range map[string]string{"done": "new", "untaken": "new", "older": "old", "away": "old", "lost": "", "never": "-"} {
		input += "---\ntype: Dataplane\nmesh: m\nname: " + name + "\nnetworking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}}]}\n"
		if issued != "-" {
			input += "---\ntype: DataplaneInsight\nmesh: m\nname: " + name + "\nmTLS: {issuedBackend: '" + issued + "'}\n"
		}
	}
	input += "---\ntype: ZoneEgress\nname: out\nnetworking: {address: 10.0.0.2, port: 10002}\n"
	g := start(t, []byte(input))
	ids := identity.New(identity.Config{Store: g.store})
	m, err := g.store.Get(resource.Key{Kind: resource.KindMesh, Name: "m"})
	if err != nil {
		t.Fatal(err)
	}
	ops, err := ids.Ops(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	g.proxies.secured = map[string]string{"done": "secured", "untaken": "connected", "older": "secured", "lost": "secured", "out": "connected"}

	status, _, body := g.get("/meshes/m/_authorities")
	got, _ := plain(t, body).(map[string]any)
	if status != http.StatusOK || got == nil {
		t.Fatalf("got %d %s", status, body)
	}
	backends, _ := got["backends"].([]any)
	delete(got, "backends")
	const untaken = "its Envoy has not taken the authorities, or no certificate of the one that signs"
	want := `{"enabledBackend": "new", "rotationTo": "new", "total": 6, "ready": 2, "pending": [
		{"type": "Dataplane", "name": "away", "connected": false, "issuedBackend": "old", "reason": "it is not connected"},
		{"type": "Dataplane", "name": "older", "connected": true, "issuedBackend": "old", "reason": "it has a certificate of old"},
		{"type": "Dataplane", "name": "untaken", "connected": true, "issuedBackend": "new", "reason": "` + untaken + `"},
		{"type": "ZoneEgress", "name": "out", "connected": true, "reason": "` + untaken + `"}]}`
	if diff := gocmp.Diff(plain(t, want), any(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, want := range []struct {
		name, key  string
		dataplanes float64
	}{{"new", "ECDSA", 2}, {"old", "RSA", 2}} {
		b, _ := backends[i].(map[string]any)
		expires, err := time.Parse(time.RFC3339, b["notAfter"].(string))
		if b["name"] != want.name || b["keyType"] != want.key || b["dataplanes"] != want.dataplanes || len(b["fingerprint"].(string)) != 64 ||
			err != nil || time.Until(expires) < 9*365*24*time.Hour {
			t.Errorf("backend %d is %v", i, b)
		}
	}
	if strings.Contains(body, "PRIVATE") {
		t.Error("a key is shown")
	}

	status, _, body = g.get("/meshes/off/_authorities")
	if want := `{"enabledBackend": "", "backends": [], "total": 0, "ready": 0, "pending": []}`; status != http.StatusOK || !gocmp.Equal(plain(t, want), plain(t, body)) {
		t.Errorf("without mTLS: got %d %s", status, body)
	}
	if status, _, body := g.get("/meshes/nowhere/_authorities"); status != http.StatusNotFound {
		t.Errorf("without a mesh: got %d %s", status, body)
	}
}
