package controlplane

import (
	"fmt"
	"strings"
	"testing"
)

// TestDefaultHostnameGenerators: one that was changed stays so, one that was deleted comes back at the next start, unless
// the configuration says that there should be none (contract dns.md §1.4).
func TestDefaultHostnameGenerators(t *testing.T) {
	const mesh, external = "/hostnamegenerators/local-universal-mesh-service", "/hostnamegenerators/local-mesh-external-service"
	dir := t.TempDir()
	var r *running
	status := func(path string) int {
		code, _ := r.answer("GET", path, "")
		return code
	}
	r = start(t, testConfig(dir))
	r.call("PUT", mesh, `{"type":"HostnameGenerator","name":"local-universal-mesh-service","spec":{"selector":{"meshService":{}},"template":"{{ .Name }}.mine.example"}}`)
	r.call("DELETE", external, "")
	r.stop()
	r = start(t, testConfig(dir))
	if body := string(r.call("GET", mesh, "")); !strings.Contains(body, "mine.example") {
		t.Errorf("the change is lost: %s", body)
	}
	if code := status(external); code != 200 {
		t.Errorf("the deleted one is not back: %d", code)
	}
	r.call("DELETE", external, "")
	r.stop()
	t.Setenv("KUMA_DEFAULTS_SKIP_HOSTNAME_GENERATORS", "true")
	loaded, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	cfg.Defaults = loaded.Defaults
	r = start(t, cfg)
	if code := status(external); code != 404 {
		t.Errorf("the deleted one is back although none should be made: %d", code)
	}
}

// TestHostnameConditions has what a 2.9 control plane answers (contract dns.md §1.6), over REST. A template that gives no
// name for some services is only refused in their status.
func TestHostnameConditions(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	for name, template := range map[string]string{
		"g1": "same.example.test", "g2": `{{ label "team" }}.example.test`, "g3": `{{ printf "%s-%s" .DisplayName .Zone }}.example.test`,
	} {
		r.call("PUT", "/hostnamegenerators/"+name, fmt.Sprintf(
			`{"type":"HostnameGenerator","name":%q,"spec":{"selector":{"meshService":{}},"template":%q}}`, name, template))
	}
	for _, service := range [][2]string{{"older", "{}"}, {"younger", `{"team":"Gold_1"}`}} {
		name, labels := service[0], service[1]
		r.call("PUT", "/meshes/default/meshservices/"+name, fmt.Sprintf(
			`{"type":"MeshService","mesh":"default","name":%q,"labels":%s,"spec":{"selector":{"dataplaneTags":{"kuma.io/service":"x"}},"ports":[{"port":80}]}}`, name, labels))
	}
	type status struct {
		Status struct {
			VIPs       []struct{ IP string }
			Addresses  []struct{ Hostname string }
			Generators []struct {
				Ref        struct{ CoreName string } `json:"hostnameGeneratorRef"`
				Conditions []struct{ Type, Status, Reason, Message string }
			} `json:"hostnameGenerators"`
		}
	}
	for _, tt := range []struct{ name, want string }{
		{"older", `[{241.0.0.0}] [{same.example.test} {older-default.example.test} {older.svc.mesh.local}]
g1 [{Generated True Generated }]
g2 [{Generated False TemplateError pre evaluation of template with parameters failed with error="template: :1:3: executing \"\" at <label \"team\">: error calling label: label team not found"}]
g3 [{Generated True Generated }]
local-universal-mesh-service [{Generated True Generated }]`},
		{"younger", `[{241.0.0.1}] [{Gold_1.example.test} {younger-default.example.test} {younger.svc.mesh.local}]
g1 [{Generated False Collision Hostname collision with MeshService: older}]
g2 [{Generated True Generated }]
g3 [{Generated True Generated }]
local-universal-mesh-service [{Generated True Generated }]`},
	} {
		var s status
		for len(s.Status.VIPs) == 0 || len(s.Status.Generators) == 0 {
			r.get("/meshes/default/meshservices/"+tt.name, &s)
		}
		lines := []string{fmt.Sprint(s.Status.VIPs, " ", s.Status.Addresses)}
		for _, g := range s.Status.Generators {
			lines = append(lines, fmt.Sprint(g.Ref.CoreName, " ", g.Conditions))
		}
		if got := strings.Join(lines, "\n"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}
