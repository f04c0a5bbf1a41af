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
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// front is a service of one name in front of the proxies of another kuma.io/service, on the port that both also have
// services of their own for.
func front(service string) string {
	return fmt.Sprintf(`type: MeshService
mesh: default
name: backend
labels: {kuma.io/origin: zone}
spec:
  selector:
    dataplaneTags: {kuma.io/service: %s}
  ports:
  - {name: main, port: 8080, targetPort: 8080, appProtocol: http}
`, service)
}

// version is a service of the front that is chosen by label.
func version(name, stage string) string {
	return fmt.Sprintf(`type: MeshService
mesh: default
name: %[1]s-stage
labels: {kuma.io/origin: zone, stage: %[2]s}
spec:
  selector:
    dataplaneTags: {kuma.io/service: %[1]s}
  ports:
  - {name: main, port: 8080, targetPort: 8080, appProtocol: http}
`, name, stage)
}

const live = `type: MeshMultiZoneService
mesh: default
name: live
spec:
  selector:
    meshService:
      matchLabels: {stage: live}
  ports:
  - {name: main, port: 8080, appProtocol: http}
---
type: HostnameGenerator
name: multi-zone
spec:
  selector: {meshMultiZoneService: {}}
  template: "{{ .DisplayName }}.mzsvc.mesh.local"
`

const webToAll = `type: MeshTrafficPermission
mesh: default
name: web-to-all
spec:
  from:
  - targetRef: {kind: MeshSubset, tags: {kuma.io/service: web}}
    default: {action: Allow}
`

// TestBlueGreen moves a name from one deployment to another and back while requests come that nothing retries, by the
// selector of a MeshService and by the labels that a MeshMultiZoneService selects. Both deployments have identities of
// their own, which clients must know as soon as they know the endpoints.
func TestBlueGreen(t *testing.T) {
	const moves = 4
	s := newScene(t, "kuma-bg")
	apply(t, s, scene.Mesh+"---\n"+webToAll)
	if _, err := s.Kumactl(ctx(t), nil, "delete", "meshretry", "mesh-retry-all-default"); err != nil {
		t.Fatal(err)
	}
	add(t, s, scene.WorkloadConfig{Name: "blue", Service: "blue"})
	add(t, s, scene.WorkloadConfig{Name: "green", Service: "green"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	for _, tt := range []struct {
		name, host string
		cluster    string
		setUp      string
		move       func(from, to string) string
	}{
		{"by the selector", "backend.svc.mesh.local", "_backend_", front("blue"), func(_, to string) string { return front(to) }},
		{"by labels", "live.mzsvc.mesh.local", "_live_", live + "---\n" + version("blue", "live") + "---\n" + version("green", "idle"), func(from, to string) string {
			return version(to, "live") + "---\n" + version(from, "idle")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			apply(t, s, tt.setUp)
			url := "http://" + tt.host + ":8080/"
			awaitStatus(t, web, url, http.StatusOK)
			awaitInstance(t, web, url, "blue")
			load := scenetest.StartLoadTo(t, web, tt.host, scene.AppPort)
			load.AwaitMore(100)
			from, to := "blue", "green"
			for range moves {
				apply(t, s, tt.move(from, to))
				awaitInstance(t, web, url, to)
				load.AwaitMore(50)
				awaitForgotten(t, web, tt.cluster, from)
				load.AwaitMore(50)
				from, to = to, from
			}
			load.Unharmed()
			t.Logf("%d requests over %d moves", load.Sent.Load(), moves)
		})
	}
}

// awaitInstance asks until only this workload answers.
func awaitInstance(t *testing.T, w *scene.Workload, url, want string) {
	t.Helper()
	if err := scene.Await(ctx(t), url+" to be answered by "+want, func(c context.Context) error {
		for range 4 {
			status, body, err := w.Curl(c, url)
			if err != nil {
				return err
			}
			var seen scene.Seen
			if err := json.Unmarshal([]byte(body), &seen); err != nil || status != http.StatusOK || seen.Instance != want {
				return fmt.Errorf("got %d %s", status, body)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// awaitForgotten waits until w's Envoy accepts the identity of a service no more behind the cluster whose name has this part.
func awaitForgotten(t *testing.T, w *scene.Workload, cluster, service string) {
	t.Helper()
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	if err := scene.Await(ctx(t), "the clients of "+cluster+" to forget "+service, func(context.Context) error {
		resp, err := client.Get("http://127.0.0.1:9901/config_dump?resource=dynamic_active_clusters")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var dump struct {
			Configs []struct {
				Cluster json.RawMessage `json:"cluster"`
			} `json:"configs"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&dump); err != nil {
			return err
		}
		for _, c := range dump.Configs {
			var named struct {
				Name string `json:"name"`
			}
			if err := json.Unmarshal(c.Cluster, &named); err != nil {
				return err
			}
			if strings.Contains(named.Name, cluster) {
				if strings.Contains(string(c.Cluster), "spiffe://default/"+service+`"`) {
					return errors.New("it is still accepted")
				}
				return nil
			}
		}
		return errors.New("there is no such cluster")
	}); err != nil {
		t.Fatal(err)
	}
}
