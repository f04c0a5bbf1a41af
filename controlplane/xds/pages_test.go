package xds

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/internal/version"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func agentOf(version string, features ...string) Meta {
	return Meta{Features: features, Version: &resource.ProxyVersion{KumaDp: &resource.AgentVersion{Version: version}}}
}

func TestPageListener(t *testing.T) {
	for _, tt := range []struct {
		name string
		meta Meta
		want string
	}{
		{"unknown", Meta{}, ""},
		{"2.9 as captured", agentOf("2.9.13", "feature-tcp-accesslog-via-named-pipe"), ""},
		{"2.9 never says it", agentOf("2.9.13", featureEmbeddedDNS), ""},
		{"ours", agentOf(version.Version, FeatureIdentityCSR), ""},
		{"2.10 with CoreDNS", agentOf("2.10.4"), ""},
		{"2.10 with a resolver", agentOf("2.10.4", featureEmbeddedDNS), pages2x},
		{"2.13 with a resolver", agentOf("v2.13.0", featureEmbeddedDNS), pages2x},
		{"3 does not say it", agentOf("3.0.0-preview.vabc"), pages3},
		{"not a version", agentOf("dev", featureEmbeddedDNS), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.meta.pageListener(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

const metricPolicy = `
type: MeshMetric
mesh: default
name: metrics
spec: {default: {backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}}
---
`

// pagedSnapshot is that of a proxy with labels, in a mesh with a MeshMetric, or without.
func pagedSnapshot(t *testing.T, meta Meta, policies string) *Snapshot {
	t.Helper()
	s := &scene{zone: "zone-1"}
	mesh := strings.Replace(meshYAML, "name: default", "name: default\nskipCreatingInitialPolicies: ['*']", 1)
	if skipped := s.add(t, []byte(mesh+"---"+backendYAML+"---\n"+policies+`
type: Dataplane
mesh: default
name: client-1
labels: {kuma.io/workload: client, kuma.io/zone: zone-1, team: x}
networking:
  address: 10.0.0.1
  inbound: [{port: 8080, tags: {kuma.io/service: client}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
`)); skipped != nil {
		t.Fatal(skipped)
	}
	for _, r := range s.services() {
		r.Status = &resource.MeshServiceStatus{Addresses: []resource.ServiceAddress{{Hostname: r.Name + ".svc.mesh.local"}}}
	}
	w := s.world(t, func(int, string) string { return "241.0.0.1" }, map[string]string{"backend": resource.TLSReady})
	meta.DNSPort, meta.WorkDir = 15053, "/run/dp"
	return generate(t, NewGenerator(all.Effects()), w, "default", "client-1", meta, "zone-1")
}

const (
	names = `{"records":[{"name":"backend.svc.mesh.local","ips":["241.0.0.1","::ffff:f100:1"]}],"ttl":30,` +
		`"extraLabels":{"kuma_io_zone":"zone-1","kuma_workload":"client","mesh":"default"}}`
	namesTag    = "ac8bf8d290ac38e9009255117297d3c7e816ea5653aed1700ddfda334c0986fc"
	observation = `{"observability":{"metrics":{"applications":null,"backends":[{"type":"Prometheus","name":null}],` +
		`"extraLabels":{"kuma_io_service":"client","kuma_io_services":",client,","kuma_io_zone":"zone-1","kuma_io_zones":",zone-1,"}}}}`
	observationTag = "5dd900a39173914fd0072e5c37e41ea93135ff827c2f8fb364b724a29818acdf"
)

// TestPages compares what agents of all kinds get that tells them something (contract dns.md §0, §3).
func TestPages(t *testing.T) {
	page := func(listener, name, body, tag string) []any {
		route := func(suffix string, match, answer map[string]any) map[string]any {
			match["path"] = "/" + name
			return map[string]any{"name": listener + "_" + name + suffix, "match": match, "directResponse": answer}
		}
		found := route("", map[string]any{}, map[string]any{"status": 200., "body": map[string]any{"inlineString": body}})
		found["responseHeadersToAdd"] = []any{map[string]any{"header": map[string]any{"key": "Etag", "value": tag}}}
		header := map[string]any{"name": "If-None-Match", "stringMatch": map[string]any{"exact": tag}}
		return []any{route("_not_modified", map[string]any{"headers": []any{header}}, map[string]any{"status": 304.}), found}
	}
	for _, tt := range []struct {
		name, policies string
		meta           Meta
		listener       string
		routes         []any // of listener
		absent         []string
	}{
		{"2.9", "", agentOf("2.9.13", "feature-tcp-accesslog-via-named-pipe"), "kuma:dns", nil, []string{pages3, pages2x}},
		{"ours", metricPolicy, agentOf(version.Version, FeatureIdentityCSR), "kuma:dns", nil, []string{pages3, pages2x}},
		{"2.10", "", agentOf("2.10.0", featureEmbeddedDNS), pages2x, page(pages2x, "dns", names, namesTag), []string{"kuma:dns", pages3}},
		{"3", "", agentOf("3.0.0"), pages3, page(pages3, "dns", names, namesTag), []string{"kuma:dns", pages2x}},
		{
			"3 with metrics", metricPolicy, agentOf("3.0.0"), pages3,
			append(page(pages3, "meshmetric", observation, observationTag), page(pages3, "dns", names, namesTag)...),
			[]string{"kuma:dns", "_kuma:dynamicconfig:observability"},
		},
		{
			"3 that binds", metricPolicy, agentOf("3.0.0", featureBindOutbounds), pages3, page(pages3, "meshmetric", observation, observationTag),
			[]string{"kuma:dns"},
		},
		{"3 that binds, without metrics", "", agentOf("3.0.0", featureBindOutbounds), "", nil, []string{"kuma:dns", pages3, pages2x}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shapeOf(t, pagedSnapshot(t, tt.meta, tt.policies))["Listener"]
			for _, name := range tt.absent {
				if got[name] != nil {
					t.Errorf("there is a listener %s", name)
				}
			}
			if tt.listener != "" && got[tt.listener] == nil {
				t.Fatalf("there is no listener %s", tt.listener)
			}
			if tt.routes == nil {
				return
			}
			largest := float64(len(names))
			if len(tt.policies) > 0 {
				largest = float64(len(observation))
			}
			want := map[string]any{
				"name": tt.listener, "address": map[string]any{"pipe": map[string]any{"path": "/run/dp/kuma-mesh-metric-config.sock"}},
				"filterChains": []any{map[string]any{"filters": []any{map[string]any{
					"name": "envoy.filters.network.http_connection_manager", "typedConfig": map[string]any{
						"@type":      "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
						"statPrefix": strings.ReplaceAll(tt.listener, ":", "_"),
						"httpFilters": []any{map[string]any{
							"name": "envoy.filters.http.router", "typedConfig": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
						}},
						"internalAddressConfig": map[string]any{"cidrRanges": []any{map[string]any{"addressPrefix": "127.0.0.1", "prefixLen": 32.}}},
						"routeConfig": map[string]any{
							"maxDirectResponseBodySizeBytes": largest,
							"virtualHosts":                   []any{map[string]any{"name": tt.listener, "domains": []any{"*"}, "routes": tt.routes}},
						},
					},
				}}}},
			}
			if diff := gocmp.Diff(want, got[tt.listener]); diff != "" {
				t.Errorf("listener differs (-contract +ours):\n%s", diff)
			}
		})
	}
}

// TestPagesThroughEnvoy asks a real Envoy as an agent does, which begins with a bound that a table of a few hundred names
// exceeds.
func TestPagesThroughEnvoy(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat(`{"x":"y"}`, 2000)
	pages := []effect.Page{{Name: "meshmetric", Body: []byte("{}")}, {Name: "dns", Body: []byte(long)}}
	r, err := new(builder).listener(newPages(effect.Env{WorkDir: dir}, pages3, pages))
	if err != nil {
		t.Fatal(err)
	}
	body, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{
		"node": map[string]any{"id": "n", "cluster": "c"}, "staticResources": map[string]any{"listeners": []json.RawMessage{body}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "kuma-mesh-metric-config.sock")
	runEnvoy(t, file)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	ask := func(path, tag string) (int, string, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tag != "" {
			req.Header.Set("If-None-Match", tag)
		}
		for {
			answer, err := client.Do(req)
			if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
				<-time.After(5 * time.Millisecond) // it starts
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			b, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			return answer.StatusCode, string(b), answer.Header.Get("Etag")
		}
	}
	code, text, tag := ask("/dns", "")
	if code != 200 || text != long || len(tag) != 64 {
		t.Errorf("first: got %d, %d bytes, tag %q; want 200 and the page with its hash", code, len(text), tag)
	}
	if code, text, _ := ask("/dns", tag); code != 304 || text != "" {
		t.Errorf("with the tag: got %d %q, want 304", code, text)
	}
	if code, text, again := ask("/dns", "other"); code != 200 || text != long || again != tag {
		t.Errorf("with another tag: got %d, %d bytes, tag %q", code, len(text), again)
	}
	if code, text, _ := ask("/meshmetric", ""); code != 200 || text != "{}" {
		t.Errorf("the other page: got %d %q", code, text)
	}
	if code, _, _ := ask("/dns/more", ""); code != 404 {
		t.Errorf("no page: got %d, want 404", code)
	}
}

// runEnvoy runs one until the test ends.
func runEnvoy(t *testing.T, config string) {
	t.Helper()
	cmd := exec.Command(realenvoy.ForTest(t), "--config-path", config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("envoy ended with %v: %s", err, log.String())
		}
	})
}
