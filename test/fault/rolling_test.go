//go:build linux

package fault

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestRollingRestartUnderLoad restarts two backends one after the other, again and again, while requests come (demands.md
// §1, 1). Nothing retries: an instance that leaves must be no endpoint any more, and one that comes must not be one before
// its Envoy listens.
func TestRollingRestartUnderLoad(t *testing.T) {
	const rounds = 3
	s := newScene(t, "kuma-roll",
		// By default Envoy reports every 5 s and an agent drains for 30 s.
		"KUMA_DP_SERVER_HDS_INTERVAL=200ms", "KUMA_DP_SERVER_HDS_CHECK_INTERVAL=100ms", "KUMA_DP_SERVER_HDS_CHECK_NO_TRAFFIC_INTERVAL=100ms")
	if _, err := s.Kumactl(ctx(t), nil, "delete", "meshretry", "mesh-retry-all-default"); err != nil {
		t.Fatal(err)
	}
	var backends []*scene.Workload
	var configs []scene.WorkloadConfig
	for _, name := range []string{"backend-1", "backend-2"} {
		cfg := scene.WorkloadConfig{Name: name, Service: "backend", Args: []string{"--drain-time", "2s"}}
		configs = append(configs, cfg)
		backends = append(backends, add(t, s, cfg))
	}
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	awaitEndpoints(t, web, 2)
	awaitNoRetry(t, web)

	load := scenetest.StartLoad(t, web)
	load.AwaitMore(100)
	for range rounds {
		for i, b := range backends {
			if err := b.Agent.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code, err := b.Agent.Wait(ctx(t)); code != 0 {
				t.Fatalf("exit code %d: %v", code, err)
			}
			startAgent(t, b, configs[i])
			awaitEndpoints(t, web, 2)
			load.AwaitMore(100)
		}
	}
	sent := load.Sent.Load()
	load.Unharmed()
	t.Logf("%d requests over %d restarts", sent, rounds*len(backends))
}
