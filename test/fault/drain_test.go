//go:build linux

package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestStopUnderLoad stops one of two backends while requests come (demands.md F31). Nothing retries: what saves the requests
// is that the backend says it is going, is no endpoint any more, and closes connections between requests.
func TestStopUnderLoad(t *testing.T) {
	s := newScene(t, "kuma-drain",
		// By default Envoy reports every 5 s and an agent drains for 30 s.
		"KUMA_DP_SERVER_HDS_INTERVAL=500ms", "KUMA_DP_SERVER_HDS_CHECK_INTERVAL=100ms", "KUMA_DP_SERVER_HDS_CHECK_NO_TRAFFIC_INTERVAL=100ms")
	if _, err := s.Kumactl(ctx(t), nil, "delete", "meshretry", "mesh-retry-all-default"); err != nil {
		t.Fatal(err)
	}
	cfg := scene.WorkloadConfig{Name: "backend-1", Service: "backend", Args: []string{"--drain-time", "4s"}}
	leaving := add(t, s, cfg)
	add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	awaitEndpoints(t, web, 2)
	awaitNoRetry(t, web)

	load := scenetest.StartLoad(t, web)
	load.AwaitMore(100)
	if err := leaving.Agent.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	client := scene.HTTPClient(leaving.Host)
	defer client.CloseIdleConnections()
	for _, url := range []string{"http://127.0.0.1:9902/ready", "http://127.0.0.1:9901/ready"} {
		await(t, url+" to say 503", func(context.Context) error {
			resp, err := client.Get(url)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("got %s", resp.Status)
			}
			return nil
		})
	}
	awaitEndpoints(t, web, 1)
	select {
	case <-leaving.Agent.Done():
		t.Error("the agent ended before it was no endpoint any more")
	default:
	}
	if code, err := leaving.Agent.Wait(ctx(t)); code != 0 {
		t.Errorf("exit code %d: %v", code, err)
	}
	load.AwaitMore(100)
	load.Unharmed()

	// It comes back as an endpoint, as healthy as before.
	startAgent(t, leaving, cfg)
	awaitEndpoints(t, web, 2)
	awaitStatus(t, web, backendURL, http.StatusOK)
}

// ask returns a page of Envoy's admin interface.
func ask(c context.Context, w *scene.Workload, path string) (string, error) {
	out, err := w.Host.Command(c, 0, "curl", "--silent", "--show-error", "--max-time", "5", "http://127.0.0.1:9901"+path).Output()
	return string(out), err
}

// awaitEndpoints waits until web's Envoy knows so many backends.
func awaitEndpoints(t *testing.T, web *scene.Workload, want int) {
	t.Helper()
	await(t, fmt.Sprintf("%d endpoints", want), func(c context.Context) error {
		page, err := ask(c, web, "/clusters")
		if err != nil {
			return err
		}
		got := 0
		for line := range strings.Lines(page) {
			if strings.Contains(line, "backend") && strings.Contains(line, "::health_flags::healthy") {
				got++
			}
		}
		if got != want {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
}

// awaitNoRetry waits until web's Envoy has no retry policy.
func awaitNoRetry(t *testing.T, web *scene.Workload) {
	t.Helper()
	await(t, "no retry policy", func(c context.Context) error {
		page, err := ask(c, web, "/config_dump?resource=dynamic_listeners")
		if err == nil && strings.Contains(page, "retry_policy") {
			err = errors.New("there is one")
		}
		return err
	})
}
