//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// twoPorts is a Dataplane that also serves plain TCP.
const twoPorts = `type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ address }}
  inbound:
  - port: 8080
    tags: {kuma.io/service: "{{ service }}", kuma.io/protocol: http}
  - port: 8081
    tags: {kuma.io/service: "{{ service }}-tcp", kuma.io/protocol: tcp}
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
`

const tcpURL = "http://backend-tcp.svc.mesh.local:8081/"

// TestLimitsFaultsAndPatches applies the examples of the pages of MeshRateLimit, MeshFaultInjection and MeshProxyPatch.
func TestLimitsFaultsAndPatches(t *testing.T) {
	s := newBareScene(t, "kuma-flt")
	apply(t, s, allowAll)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend", Dataplane: twoPorts})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	cart := add(t, s, scene.WorkloadConfig{Name: "cart", Service: "cart"})
	serve(t, backend.Host, 8081, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, w := range []*scene.Workload{web, cart} {
		awaitStatus(t, w, backendURL, http.StatusOK)
		awaitStatus(t, w, tcpURL, http.StatusOK)
	}
	// answered waits until requests of a workload are answered with a text among head and body, or are not any more.
	answered := func(w *scene.Workload, text string, want bool) {
		t.Helper()
		await(t, fmt.Sprintf("%q in the answer to %s to be %t", text, w.Name, want), func(c context.Context) error {
			_, body, err := w.Curl(c, backendURL, "--include")
			if err == nil && strings.Contains(body, text) != want {
				err = errors.New(body)
			}
			return err
		})
	}

	t.Run("requests are limited", func(t *testing.T) {
		limit := guideExamples(t, "meshratelimit")[0]
		apply(t, s, limit)
		awaitStatus(t, web, backendURL, http.StatusTooManyRequests)
		answered(web, "x-limited-by: backend", true)
		awaitStatus(t, web, tcpURL, http.StatusOK)
		apply(t, s, changed(t, limit, "num: 2", "num: 20000"))
		awaitStatus(t, web, backendURL, http.StatusOK)
		apply(t, s, limit)
		awaitStatus(t, web, backendURL, http.StatusTooManyRequests)
		remove(t, s, "meshratelimit", "two-requests")
		awaitStatus(t, web, backendURL, http.StatusOK)
	})

	t.Run("connections are limited", func(t *testing.T) {
		limit := guideExamples(t, "meshratelimit")[1]
		awaitClosed := func() {
			t.Helper()
			await(t, "connections to be closed", func(c context.Context) error {
				for range 8 {
					if status, _, err := web.Curl(c, tcpURL); err == nil {
						return fmt.Errorf("got %d", status)
					}
				}
				return nil
			})
		}
		apply(t, s, limit)
		awaitClosed()
		awaitStatus(t, web, backendURL, http.StatusOK)
		apply(t, s, changed(t, limit, "num: 2", "num: 20000"))
		awaitStatus(t, web, tcpURL, http.StatusOK)
		apply(t, s, limit)
		awaitClosed()
		remove(t, s, "meshratelimit", "two-connections")
		awaitStatus(t, web, tcpURL, http.StatusOK)
	})

	t.Run("faults hit the clients that they are for", func(t *testing.T) {
		examples := guideExamples(t, "meshfaultinjection")
		apply(t, s, examples[0])
		awaitStatus(t, web, backendURL, http.StatusServiceUnavailable)
		awaitStatus(t, cart, backendURL, http.StatusOK)
		apply(t, s, changed(t, examples[0], "name: web", "name: cart"))
		awaitStatus(t, cart, backendURL, http.StatusServiceUnavailable)
		awaitStatus(t, web, backendURL, http.StatusOK)

		const delay = time.Second
		awaitTook := func(w *scene.Workload, delayed bool) {
			t.Helper()
			await(t, fmt.Sprintf("delay of %s to be %t", w.Name, delayed), func(c context.Context) error {
				start := time.Now()
				status, body, err := w.Curl(c, backendURL)
				if took := time.Since(start); err == nil && (status != http.StatusOK || (took >= delay) != delayed) {
					err = fmt.Errorf("got %d after %s: %s", status, took, body)
				}
				return err
			})
		}
		apply(t, s, examples[1])
		awaitTook(web, true)
		awaitTook(cart, false)
		replaceApp(t, backend, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 3<<10)) // an error is the client's going away
		}))
		apply(t, s, changed(t, examples[2], "1kbps", "1Gbps"))
		awaitTook(web, false)
		apply(t, s, examples[2])
		awaitTook(web, true)
		awaitTook(cart, false)
		remove(t, s, "meshfaultinjection", "broken-for-web")
		awaitTook(web, false)
	})

	patch := guideExamples(t, "meshproxypatch")[0]
	const stamp = "x-stamp: by-hand"
	t.Run("a patch", func(t *testing.T) {
		answered(web, stamp, false)
		apply(t, s, patch)
		answered(web, stamp, true)
		awaitTimeout(t, backend, "3s")
		apply(t, s, changed(t, changed(t, patch, "value: 3s", "value: 4s"), "by-hand\")", "again\")"))
		awaitTimeout(t, backend, "4s")
		answered(web, "x-stamp: again", true)
		remove(t, s, "meshproxypatch", "by-hand")
		answered(web, "x-stamp", false)
		awaitTimeout(t, backend, "10s")
	})

	t.Run("a modification that cannot be done", func(t *testing.T) {
		apply(t, s, changed(t, patch, "path: /connectTimeout", "path: /lbSubsetConfig/x"))
		answered(web, stamp, true)
		awaitTimeout(t, backend, "10s")
		awaitRules(t, s, "warning: MeshProxyPatch by-hand: appendModifications[1] is left out: cluster localhost:808", true)
		apply(t, s, patch)
		awaitTimeout(t, backend, "3s")
		awaitRules(t, s, "warning:", false)
	})

	t.Run("a patch that Envoy refuses", func(t *testing.T) {
		s.ExpectRefusal("backend-1", "terminal filter named envoy.filters.http.router")
		apply(t, s, changed(t, changed(t, patch, "operation: AddBefore", "operation: AddAfter"), "by-hand\")", "again\")"))
		awaitRules(t, s, "warning: Envoy refuses a Listener and keeps the one it has: ", true)
		awaitRules(t, s, "must be the last filter", true)
		answered(web, stamp, true) // from the listener it has
		await(t, "the insight to count a refusal", func(c context.Context) error {
			out, err := s.Kumactl(c, nil, "get", "dataplane-insight", "backend-1", "-o", "json")
			if err == nil && !strings.Contains(out, `"responsesRejected"`) {
				err = errors.New(out)
			}
			return err
		})
		apply(t, s, changed(t, patch, "by-hand\")", "again\")"))
		answered(web, "x-stamp: again", true)
		awaitRules(t, s, "warning:", false)
	})
}

// awaitTimeout waits until Envoy has this connect timeout for the application's cluster.
func awaitTimeout(t *testing.T, w *scene.Workload, want string) {
	t.Helper()
	await(t, "a connect timeout of "+want, func(context.Context) error {
		status, body := fetch(t, w.Host, "http://127.0.0.1:9901/config_dump?resource=dynamic_active_clusters&name_regex=localhost:8080", nil)
		if status != http.StatusOK || !strings.Contains(body, `"connect_timeout": "`+want+`"`) {
			return fmt.Errorf("got %d: %s", status, body)
		}
		return nil
	})
}

// awaitRules waits until the rules of backend-1, as kumactl shows them, say something, or do not any more.
func awaitRules(t *testing.T, s *scene.Scene, text string, want bool) {
	t.Helper()
	await(t, fmt.Sprintf("%q in the rules to be %t", text, want), func(c context.Context) error {
		out, err := s.Kumactl(c, nil, "inspect", "dataplane", "backend-1", "--type", "rules")
		if err == nil && strings.Contains(out, text) != want {
			err = errors.New(out)
		}
		return err
	})
}
