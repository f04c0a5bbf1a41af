//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestOlderPolicies applies the examples of the page about policies from before target references, alone and with those that
// took their place.
func TestOlderPolicies(t *testing.T) {
	s := newBareScene(t, "kuma-old")
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	other := add(t, s, scene.WorkloadConfig{Name: "other", Service: "other"})
	sink := newSink(t, s)
	outside := newOutside(t, s)
	examples := guideExamples(t, "older")
	const closed = http.StatusServiceUnavailable // the client's Envoy finds no connection that stays
	answers := func(toWeb, toOther int) {
		t.Helper()
		awaitStatus(t, web, backendURL, toWeb)
		awaitStatus(t, other, backendURL, toOther)
	}

	t.Run("permission", func(t *testing.T) {
		allow := examples[0]
		answers(http.StatusForbidden, http.StatusForbidden)
		apply(t, s, allow)
		answers(http.StatusOK, closed)
		apply(t, s, changed(t, allow, "kuma.io/service: web", "kuma.io/service: other"))
		answers(closed, http.StatusOK)
		apply(t, s, changed(t, allow, "kuma.io/service: web", "kuma.io/service: nobody"))
		answers(closed, closed)
		// The newer policy has the last word, also to deny.
		apply(t, s, allowAll)
		answers(http.StatusOK, http.StatusOK)
		apply(t, s, changed(t, allow, "kuma.io/service: web", "kuma.io/service: '*'"))
		apply(t, s, changed(t, allowAll, "action: Allow", "action: Deny"))
		answers(http.StatusForbidden, http.StatusForbidden)
		remove(t, s, "meshtrafficpermission", "allow-all")
		answers(http.StatusOK, http.StatusOK)
	})

	t.Run("limit", func(t *testing.T) {
		limit := examples[1]
		apply(t, s, limit)
		answers(http.StatusLocked, http.StatusOK)
		apply(t, s, guideExamples(t, "meshratelimit")[0]) // has no say
		awaitStatus(t, other, backendURL, http.StatusOK)
		apply(t, s, changed(t, limit, "requests: 2", "requests: 20000"))
		answers(http.StatusOK, http.StatusOK)
		remove(t, s, "rate-limit", "two-requests")
		answers(http.StatusTooManyRequests, http.StatusTooManyRequests)
		remove(t, s, "meshratelimit", "two-requests")
		answers(http.StatusOK, http.StatusOK)
	})

	t.Run("fault", func(t *testing.T) {
		fault := examples[2]
		apply(t, s, fault)
		answers(http.StatusInternalServerError, http.StatusOK)
		apply(t, s, changed(t, guideExamples(t, "meshfaultinjection")[0], "name: web", "name: other")) // has no say
		answers(http.StatusInternalServerError, http.StatusOK)
		remove(t, s, "fault-injection", "broken-for-web")
		answers(http.StatusOK, http.StatusServiceUnavailable)
		remove(t, s, "meshfaultinjection", "broken-for-web")
		answers(http.StatusOK, http.StatusOK)
	})

	t.Run("logs and traces", func(t *testing.T) {
		backends := changed(t, changed(t, examples[3], "logs.example:6000", sink.at(sinkTCP)), "zipkin.example:9411", sink.at(sinkZipkin))
		apply(t, s, backends)
		awaitConfig(t, web, "goes to", true)
		awaitConfig(t, backend, "ZipkinConfig", true)
		url := fmt.Sprintf("http://%s:%d/", outside.host.Addr, outside.plain)
		awaitStatus(t, web, url, http.StatusOK)
		sink.await(t, "tcp", "web goes to external")
		awaitStatus(t, web, backendURL+"traced", http.StatusOK)
		sink.await(t, "zipkin", "/traced team= user=")
		remove(t, s, "traffic-log", "all-traffic")
		remove(t, s, "traffic-trace", "all-traces")
		awaitConfig(t, web, "goes to", false)
		awaitConfig(t, backend, "ZipkinConfig", false)
	})
}
