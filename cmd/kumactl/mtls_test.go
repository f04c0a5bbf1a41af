package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

const rolloutAnswer = `{"mesh":"default","quiet":"1h0m0s","states":{"would-break":1,"ready":2},"services":{},"inbounds":[
	{"dataplane":"backend-1","service":"backend","port":8080,"mode":"Permissive","state":"would-break","why":"2 peers came","mtls":{"connections":3,"requests":40},
	 "foreignTls":{"connections":1},"plaintext":{"connections":2,"requests":5},"refused":1,"forgotten":7,"peers":[
	  {"address":"10.0.0.9","kind":"plaintext","connections":2,"requests":5,"open":1,"firstSeen":"AT","lastSeen":"AT","dataplane":"web-1","service":"web"},
	  {"address":"127.0.0.1","kind":"foreign-tls","connections":1,"firstSeen":"AT","lastSeen":"AT"},
	  {"address":"fd00::9","kind":"refused","connections":1,"firstSeen":"AT","lastSeen":"AT","reason":"\u001b[31mno"}]}]}`

func TestPrintRollout(t *testing.T) {
	var r rollout
	if err := json.Unmarshal([]byte(strings.ReplaceAll(rolloutAnswer, "AT", time.Now().Add(-100*time.Minute).Format(time.RFC3339))), &r); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&app{stdout: &out, mesh: "default"}).printRollout(&r); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"backend backend-1 8080 Permissive would-break 3/40 1 2/5 1 2 peers came",
		"Without an identity of the mesh:",
		"backend-1 8080 10.0.0.9 dataplane web-1 of web plaintext 2/5 1 100m 100m -",
		"backend-1 8080 127.0.0.1 its own host foreign-tls 1 0 100m 100m -",
		"backend-1 8080 fd00::9 nobody of the mesh refused 1 0 100m 100m ?[31mno",
		"backend-1 8080 … 7 more",
		"default: 1 would-break, 2 ready",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestRequireReadyOfAnother: a control plane that does not know what is asked of it must not do without.
func TestRequireReadyOfAnother(t *testing.T) {
	var changed []string
	kuma := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			changed = append(changed, r.Method+" "+r.URL.Path)
		case r.URL.Path == "/_resources":
			_, _ = w.Write([]byte(`{"resources":[{"name":"MeshTLS","path":"meshtlses","singularDisplayName":"Mesh TLS","scope":"Mesh","policy":{}},{"name":"Mesh","path":"meshes","singularDisplayName":"Mesh","scope":"Global"}]}`))
		case r.URL.Path == "/":
			_, _ = w.Write([]byte(`{"product":"Kuma","version":"2.9.13"}`))
		case r.URL.Path == "/meshes/default", strings.HasPrefix(r.URL.Path, "/meshes/default/meshtlses/"):
			_, _ = w.Write([]byte(`{"type":"Mesh","name":"default"}`))
		default:
			http.NotFound(w, r)
		}
	}))
	defer kuma.Close()
	dir := t.TempDir()
	cfg := client.Default()
	cfg.ControlPlanes[0].Coordinates.APIServer.URL = kuma.URL
	if err := cfg.Save(filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUMACTL_CONFIG_FILE", filepath.Join(dir, "config"))
	policy := filepath.Join(dir, "strict.yaml")
	if err := os.WriteFile(policy, []byte("type: MeshTLS\nmesh: default\nname: s\nspec: {targetRef: {kind: Mesh}, from: [{targetRef: {kind: Mesh}, default: {mode: Strict}}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const does = "this control plane does not tell who comes without mTLS"
	for _, tt := range []struct {
		args string
		want string
	}{
		{"apply -f " + policy + " --require-ready", does},
		{"apply -f " + policy + " --require-ready --dry-run=server", does},
		{"delete meshtls s --require-ready=5m", does},
		{"inspect mtls", does},
		{"inspect mtls --mesh other", "404"},
		{"inspect mtls --quiet -1h", "--quiet must be a time"},
	} {
		var out, errs bytes.Buffer
		if code := run(strings.Fields(tt.args), os.LookupEnv, strings.NewReader(""), &out, &errs); code == exitOK || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%s: exit %d: %s%s, want %q", tt.args, code, out.String(), errs.String(), tt.want)
		}
	}
	if len(changed) > 0 {
		t.Errorf("it was changed: %v", changed)
	}
}
