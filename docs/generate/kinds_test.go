package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

const root = "../.."

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPagesOfKinds compares the pages in the tree with what the schemas and validations say today.
func TestPagesOfKinds(t *testing.T) {
	pages, err := kindPages(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "docs", "reference", "kinds")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pages[e.Name()] == nil {
			t.Errorf("%s is of no kind: remove it", e.Name())
		}
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: run make generate (-generated +in the tree):\n%s", name, diff)
		}
		for line := range bytes.Lines(want) {
			cells := strings.Split(string(line), " | ")
			if strings.HasPrefix(cells[0], "| `") && len(cells) == 5 && strings.TrimSpace(cells[2]) == "" && cells[0] != "| `spec`" {
				t.Errorf("%s: the field %s has no docstring", name, cells[0])
			}
		}
	}
}

// TestProbesFindRefusals holds some of what pages must say, lest a probe that finds nothing goes unnoticed.
func TestProbesFindRefusals(t *testing.T) {
	pages, err := kindPages(root)
	if err != nil {
		t.Fatal(err)
	}
	for page, texts := range map[string][]string{
		"meshtimeout.md":     {"| `to` of MeshGateway | `Mesh`, `MeshExternalService` |", "`must be greater than zero when defined`", "| `from` of MeshGateway | may not be given |"},
		"meshmetric.md":      {"`in body is required`<br>`port must be a valid (1-65535)` |", "| `5670` |", "`in body should be one of [All Basic None]`"},
		"meshretry.md":       {"| `to[].default.tcp.maxConnectAttempt` | number | The number of attempts to connect. |  | `must be greater than 0` |"},
		"meshratelimit.md":   {"| `from` of the whole mesh | may not be given |", "| `from` of sidecars | `Mesh` |", "`must be greater than: 50ms`"},
		"meshhttproute.md":   {"`can only be set with MeshGateway`", "`must be an absolute path`"},
		"dataplane.md":       {"`port must be in the range [1, 65535]`"},
		"mesh.md":            {"`in body should be one of [Disabled Everywhere ReachableBackends Exclusive]`"},
		"meshproxypatch.md":  {"`in body should be one of [add remove replace move copy]`"},
		"meshpassthrough.md": {"`in body should be one of [tcp tls grpc http http2]`", "| `None` |"},
	} {
		for _, text := range texts {
			if !bytes.Contains(pages[page], []byte(text)) {
				t.Errorf("%s lacks %s", page, text)
			}
		}
	}
}

// TestExamplesApply puts every example into a control plane, in the order of the registry: Mesh comes first.
func TestExamplesApply(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	examples, err := examplesOf(root, registry)
	if err != nil {
		t.Fatal(err)
	}
	cfg := controlplane.DefaultConfig()
	cfg.General.WorkDir = t.TempDir()
	cfg.APIServer.HTTP.Interface, cfg.APIServer.HTTPS.Interface = "127.0.0.1", "127.0.0.1"
	cfg.APIServer.HTTP.Port, cfg.APIServer.HTTPS.Port, cfg.DPServer.Port, cfg.Diagnostics.ServerPort = 0, 0, 0, 0
	cp, err := controlplane.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cp.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer func() {
		client.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-cp.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	for _, d := range registry.All() {
		for _, e := range examples[d.Kind] {
			r, err := registry.DecodeYAML([]byte(e.text))
			if err != nil {
				t.Fatal(err)
			}
			body, err := registry.Encode(r, resource.FormUniversal)
			if err != nil {
				t.Fatal(err)
			}
			path := strings.NewReplacer("{mesh}", r.Mesh, "{name}", r.Name).Replace(pathOf(d))
			put(t, client, "http://"+cp.Addresses().HTTP.String()+path, body)
		}
	}
}

func put(t *testing.T, client *http.Client, url string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Errorf("PUT %s: %d %s %v", url, resp.StatusCode, answer, err)
	}
}
