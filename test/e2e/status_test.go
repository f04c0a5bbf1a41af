//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// refusedPatch is a filter that only Envoy can judge: its script does not load. The other modification is good.
const refusedPatch = `type: MeshProxyPatch
mesh: default
name: typo
spec:
  targetRef:
    kind: MeshSubset
    tags: {kuma.io/service: backend}
  default:
    appendModifications:
    - httpFilter:
        operation: AddBefore
        match: {origin: inbound, name: envoy.filters.http.router}
        value: |
          name: stamp
          typedConfig:
            '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            defaultSourceCode: {inlineString: "SCRIPT"}
`

const (
	badScript  = "function envoy_on_response(handle end"
	goodScript = "function envoy_on_response(handle) handle:headers():add('x-stamp', 'by-hand') end"
)

// connects are timeouts of what proxies receive and send.
const connects = `type: MeshTimeout
mesh: default
name: connects
spec:
  targetRef: {kind: Mesh, proxyTypes: [Sidecar]}
  from: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 4s}}]
---
type: MeshTimeout
mesh: default
name: connects-to
spec:
  to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 6s}}]
`

// TestRefusals follows what an Envoy refuses: it is told of the policy, of the proxy and by kumactl, with Envoy's reason;
// everything else goes on, and when it is mended nothing of it is left but what fails a scene that did not expect it.
func TestRefusals(t *testing.T) {
	s := newBareScene(t, "kuma-refuse")
	apply(t, s, allowAll)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	const listener = "inbound:"
	said := func(want bool, text string, args ...string) {
		t.Helper()
		await(t, fmt.Sprintf("%q in the answer to kumactl %v to be %t", text, args, want), func(c context.Context) error {
			out, err := s.Kumactl(c, nil, args...)
			if err == nil && strings.Contains(out, text) != want {
				err = errors.New(out)
			}
			return err
		})
	}
	ofProxy := []string{"inspect", "dataplane", "backend-1", "--type", "status"}
	clean := func() {
		t.Helper()
		for _, name := range []string{"backend-1", "web"} {
			said(true, "Dataplane "+name+" of mesh default is connected, its Envoy has taken all of its configuration", "inspect", "dataplane", name, "--type", "status")
		}
	}
	clean()

	const reason = "script load error"
	t.Run("a patch", func(t *testing.T) {
		if texts := warned(t, s, "meshproxypatches/typo", strings.Replace(refusedPatch, "SCRIPT", badScript, 1)); len(texts) > 0 {
			t.Errorf("only Envoy can know, but the PUT is warned: %q", texts)
		}
		ofPolicy := []string{"inspect", "meshproxypatch", "typo"}
		said(true, "Envoy of backend-1 refuses Listener "+listener, ofPolicy...)
		said(true, reason, ofPolicy...)
		said(true, "Affected data plane proxies:\n\n  backend-1\n", ofPolicy...)
		said(true, "Envoy refuses Listener "+listener, ofProxy...)
		said(true, reason, ofProxy...)
		said(true, "because of MeshProxyPatch typo\n", ofProxy...)
		said(true, "warning: Envoy refuses a Listener and keeps the one it has: ", "inspect", "dataplane", "backend-1", "--type", "rules")

		var proxy struct {
			Connected bool
			Refusals  []struct {
				Type, Reason string
				Resources    []string
				Policies     []struct{ Type, Name string }
			}
			Warnings []any
		}
		asked(t, s, "dataplanes/backend-1/_status", &proxy)
		if !proxy.Connected || len(proxy.Refusals) != 1 || len(proxy.Warnings) != 0 {
			t.Fatalf("status of the proxy is %+v", proxy)
		}
		r := proxy.Refusals[0]
		if len(r.Policies) != 1 || r.Policies[0].Name != "typo" || len(r.Resources) != 1 || !strings.Contains(r.Reason, r.Resources[0]) || !strings.Contains(r.Reason, reason) {
			t.Errorf("the refusal is %+v", r)
		}
		var policy struct {
			Total, Connected int
			Items            []struct{ Dataplane struct{ Name string } }
		}
		asked(t, s, "meshproxypatches/typo/_status", &policy)
		if policy.Total != 1 || policy.Connected != 1 || len(policy.Items) != 1 || policy.Items[0].Dataplane.Name != "backend-1" {
			t.Errorf("status of the policy is %+v", policy)
		}
		for _, path := range []string{"dataplanes/web/_status", "meshtrafficpermissions/allow-all/_status"} {
			var other struct{ Refusals, Items []any }
			if asked(t, s, path, &other); len(other.Refusals)+len(other.Items) > 0 {
				t.Errorf("%s: %+v", path, other)
			}
		}
		if err := s.Refused(); err == nil || !strings.Contains(err.Error(), "Envoy of backend-1 has refused a Listener: ") || !strings.Contains(err.Error(), reason) {
			t.Errorf("a scene with a refusal ends well: %v", err)
		}
		s.ExpectRefusal("backend-1", reason)
	})

	t.Run("everything else goes on", func(t *testing.T) {
		awaitStatus(t, web, backendURL, http.StatusOK)
		apply(t, s, connects)
		awaitTimeout(t, backend, "4s")
		awaitTimeout(t, web, "4s")
		await(t, "the other direction", func(context.Context) error {
			status, body := fetch(t, web.Host, "http://127.0.0.1:9901/config_dump?resource=dynamic_active_clusters&name_regex=.*backend.*", nil)
			if status != http.StatusOK || !strings.Contains(body, `"connect_timeout": "6s"`) {
				return fmt.Errorf("got %d: %s", status, body)
			}
			return nil
		})
		said(true, reason, ofProxy...) // still
		awaitStatus(t, web, backendURL, http.StatusOK)
	})

	t.Run("a mended patch", func(t *testing.T) {
		apply(t, s, strings.Replace(refusedPatch, "SCRIPT", goodScript, 1))
		clean()
		said(false, "Refused", "inspect", "meshproxypatch", "typo")
		await(t, "the stamp", func(c context.Context) error {
			_, body, err := web.Curl(c, backendURL, "--include")
			if err == nil && !strings.Contains(body, "x-stamp: by-hand") {
				err = errors.New(body)
			}
			return err
		})
		said(false, "warning", "inspect", "dataplane", "backend-1", "--type", "rules")
	})

	t.Run("a removed patch", func(t *testing.T) {
		apply(t, s, strings.Replace(refusedPatch, "SCRIPT", badScript, 1))
		said(true, reason, ofProxy...)
		remove(t, s, "meshproxypatch", "typo")
		clean()
	})

	for _, tt := range []struct{ kind, what, name, path, policy, field, text, reason string }{
		{"meshratelimit", "MeshRateLimit", "odd", "meshratelimits", `type: MeshRateLimit
mesh: default
name: odd
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: backend}, proxyTypes: [Sidecar]}
  from: [{targetRef: {kind: Mesh}, default: {local: {http: {requestRate: {num: 9, interval: 1s}, onRateLimit: {status: 420}}}}}]
`, "spec.from[0].default.local.http.onRateLimit.status: ", "onRateLimit.status 420", "HttpStatusValidationError.Code"},
		{"meshfaultinjection", "MeshFaultInjection", "still", "meshfaultinjections", `type: MeshFaultInjection
mesh: default
name: still
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: backend}, proxyTypes: [Sidecar]}
  from: [{targetRef: {kind: Mesh}, default: {http: [{delay: {value: 0s, percentage: 5}}]}}]
`, "spec.from[0].default.http[0].delay.value: ", "delay.value is zero", "FaultDelayValidationError.FixedDelay"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			s.ExpectRefusal("backend-1", tt.reason)
			if texts := warned(t, s, tt.path+"/"+tt.name, tt.policy); len(texts) != 1 || !strings.HasPrefix(texts[0], tt.field) {
				t.Errorf("the PUT is warned %q, want %s", texts, tt.field)
			}
			said(true, "Envoy of backend-1 refuses Listener "+listener, "inspect", tt.kind, tt.name)
			said(true, "on 1 of 1 connected proxy, such as backend-1: Mesh", "inspect", tt.kind, tt.name)
			said(true, tt.text, "inspect", tt.kind, tt.name)
			said(true, "because of "+tt.what+" "+tt.name+"\n", ofProxy...)
			said(false, "Refused", "inspect", "meshtrafficpermission", "allow-all")
			apply(t, s, strings.ReplaceAll(connects, "4s", "3s"))
			awaitTimeout(t, backend, "3s")
			awaitStatus(t, web, backendURL, http.StatusOK)
			remove(t, s, tt.kind, tt.name)
			clean()
			apply(t, s, connects)
			awaitTimeout(t, backend, "4s")
		})
	}

	// One that starts meanwhile has no such listener at all until the patch is mended.
	t.Run("a proxy that starts under it", func(t *testing.T) {
		apply(t, s, strings.Replace(refusedPatch, "SCRIPT", badScript, 1))
		s.ExpectRefusal("backend-2", reason)
		add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
		said(true, "Envoy of backend-2 refuses Listener "+listener, "inspect", "meshproxypatch", "typo")
		apply(t, s, strings.Replace(refusedPatch, "SCRIPT", goodScript, 1))
		clean()
		said(true, "its Envoy has taken all", "inspect", "dataplane", "backend-2", "--type", "status")
		only(t, web, backendURL, []string{"backend-1", "backend-2"})
	})
}

// asked reads what the control plane answers below the mesh.
func asked(t *testing.T, s *scene.Scene, path string, into any) {
	t.Helper()
	status, body := fetch(t, s.ControlPlane.Host, "http://127.0.0.1:5681/meshes/default/"+path, nil)
	if status != http.StatusOK {
		t.Fatalf("%s: got %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

// warned applies a policy and returns of what kumactl warns.
func warned(t *testing.T, s *scene.Scene, path, policy string) []string {
	t.Helper()
	cmd := s.ControlPlane.Host.Command(ctx(t), 0, s.Path("kumactl"), "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(policy)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("apply %s: %v: %s", path, err, out)
	}
	var texts []string
	for line := range strings.Lines(string(out)) {
		if _, text, ok := strings.Cut(line, `": `); ok && strings.HasPrefix(line, "Warning: ") {
			texts = append(texts, strings.TrimSpace(text))
		}
	}
	return texts
}

// TestWhenEnvoyRefuses runs the section of that name of the page of MeshProxyPatch.
func TestWhenEnvoyRefuses(t *testing.T) {
	p := readPage(t, "policies/meshproxypatch.md")
	p.scene = newBareScene(t, "kuma-page")
	p.hosts["cp"] = p.scene.ControlPlane.Host
	p.scene.ExpectRefusal("backend", "script load error")
	p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
	p.run()
}
