//go:build linux

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// ejectAll leaves an instance out for a second as soon as it fails.
const ejectAll = `type: MeshCircuitBreaker
mesh: default
name: eject-all
spec:
  to:
  - targetRef: {kind: Mesh}
    default:
      outlierDetection:
        interval: 100ms
        baseEjectionTime: 1s
        maxEjectionPercent: 100
        detectors: {gatewayFailures: {consecutive: 1}}
`

// farZone makes a workload's own sidecar play the ingress of another zone, which has a backend too.
const farZone = `type: ZoneIngress
name: far
zone: far
networking: {address: %[1]s, port: 8080, advertisedAddress: %[1]s, advertisedPort: 8080}
---
type: MeshService
mesh: default
name: backend-far
labels: {kuma.io/origin: global, kuma.io/zone: far, kuma.io/display-name: backend}
spec:
  state: Available
  identities: [{type: ServiceTag, value: spare}]
  ports: [{port: 8080, appProtocol: http}]
`

// TestLoadBalancing sees which instances answer under a MeshLoadBalancingStrategy and a MeshHealthCheck: the examples of
// their pages.
func TestLoadBalancing(t *testing.T) {
	s := newBareScene(t, "kuma-lb")
	apply(t, s, allowAll)
	backends := []*scene.Workload{
		add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"}),
		add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"}),
	}
	spare := add(t, s, scene.WorkloadConfig{Name: "spare-1", Service: "spare"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	both, ann := []string{"backend-1", "backend-2"}, []string{"--header", "x-user: ann"}
	stop := func(w *scene.Workload) {
		t.Helper()
		if err := w.App.Close(); err != nil {
			t.Fatal(err)
		}
	}
	start := func(w *scene.Workload) {
		t.Helper()
		if err := w.StartApp(); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a header sticks to an instance", func(t *testing.T) {
		sticky := guideExamples(t, "meshloadbalancingstrategy")[0]
		only(t, web, backendURL, both, ann...)
		apply(t, s, sticky)
		var mine string
		await(t, "one instance to answer all of a user's requests", func(c context.Context) error {
			got, err := instances(c, web, backendURL, 16, ann...)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("answered by %v", got)
			}
			for name := range got {
				mine = name
			}
			return err
		})
		all := map[string]bool{}
		for i := range 40 {
			_, seen := get(t, web, backendURL+fmt.Sprintf("?%d", i))
			all[seen.Instance] = true
			user := fmt.Sprintf("x-user: u%d", i)
			got, err := instances(ctx(t), web, backendURL, 2, "--header", user)
			if err != nil || len(got) != 1 {
				t.Errorf("%s is answered by %v: %v", user, got, err)
			}
			for name := range got {
				all[name] = true
			}
		}
		if len(all) != 2 {
			t.Errorf("all users are answered by %v", all)
		}
		only(t, web, backendURL, []string{mine}, ann...)
		apply(t, s, changed(t, sticky, "type: RingHash", "type: Random"))
		only(t, web, backendURL, both, ann...)
		apply(t, s, sticky)
		only(t, web, backendURL, []string{mine}, ann...)
		remove(t, s, "meshloadbalancingstrategy", "sticky")
		only(t, web, backendURL, both, ann...)
	})

	t.Run("a lost instance is left out until it is back", func(t *testing.T) {
		check := guideExamples(t, "meshhealthcheck")[0]
		stop(backends[1])
		someFail(t, web, backendURL)
		apply(t, s, check)
		only(t, web, backendURL, []string{"backend-1"})
		start(backends[1])
		only(t, web, backendURL, both)
		stop(backends[1])
		only(t, web, backendURL, []string{"backend-1"})
		apply(t, s, changed(t, check, "path: /", "disabled: true"))
		someFail(t, web, backendURL)
		apply(t, s, check)
		only(t, web, backendURL, []string{"backend-1"})
		remove(t, s, "meshhealthcheck", "backend-lives")
		someFail(t, web, backendURL)
		start(backends[1])
		only(t, web, backendURL, both)
	})

	t.Run("traffic leaves a zone that has failed", func(t *testing.T) {
		const url = "http://backend-all.mzsvc.mesh.local:8080/"
		failover := guideExamples(t, "meshloadbalancingstrategy")[1]
		apply(t, s, multiZone+"---\n"+ejectAll+"---\n"+fmt.Sprintf(farZone, spare.Host.Addr))
		only(t, web, url, both)
		apply(t, s, changed(t, failover, "zones: [far]", "zones: [elsewhere]"))
		stop(backends[0])
		stop(backends[1])
		awaitStatus(t, web, url, 503)
		apply(t, s, failover)
		only(t, web, url, []string{"spare-1"})
		start(backends[0])
		start(backends[1])
		only(t, web, url, both)
		remove(t, s, "meshloadbalancingstrategy", "failover")
		stop(backends[0])
		stop(backends[1])
		only(t, web, url, []string{"spare-1"}) // another zone is the last resort anyhow
	})
}
