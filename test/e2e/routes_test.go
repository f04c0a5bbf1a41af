//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// withData is a workload with a second port, for connections to the same application.
const withData = `type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ address }}
  inbound:
  - port: 8080
    tags: {kuma.io/service: "{{ service }}", kuma.io/protocol: http}
  - port: 9000
    servicePort: 8080
    tags: {kuma.io/service: "{{ service }}-data", kuma.io/protocol: tcp}
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
`

const (
	dataURL = "http://backend-data.svc.mesh.local:9000/"
	// byLabels is a service that the control plane made from a Dataplane, as a ref.
	byLabels = "{kind: MeshService, labels: {kuma.io/display-name: %s}, port: 8080, weight: %d}"
)

// requestRoute sends the requests that match to the canary.
func requestRoute(matches, conf string) string {
	return fmt.Sprintf(`type: MeshHTTPRoute
mesh: default
name: backend-canary
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: web}}
  to:
  - targetRef: {kind: MeshService, labels: {kuma.io/display-name: backend}}
    rules:
    - matches: [%s]
      default: {%s}
`, matches, conf)
}

// copies is an application that counts what it gets, and answers as the others do.
type copies struct {
	instance string

	mu   sync.Mutex
	seen map[string]int
}

func (c *copies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.seen[r.URL.Path]++
	c.mu.Unlock()
	w.Header().Set("X-Seen-Added", r.Header.Get("x-added"))
	w.Header().Set("X-Seen-Host", r.Host)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(scene.Seen{Instance: c.instance, Path: r.URL.Path}) // fails when the client has gone
}

func (c *copies) count(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[path]
}

// awaitShare waits until from low to high of n requests are answered by the canary, and all others by the backend.
func awaitShare(t *testing.T, w *scene.Workload, url string, n, low, high int) {
	t.Helper()
	await(t, fmt.Sprintf("the canary to answer %d to %d of %d requests", low, high, n), func(c context.Context) error {
		got, err := instances(c, w, url, n)
		if err == nil && (got["canary-1"] < low || got["canary-1"] > high || got["canary-1"]+got["backend-1"] != n) {
			err = fmt.Errorf("answered by %v", got)
		}
		return err
	})
}

// Bounds of a share of 20 in 100, five standard deviations wide: chance leaves them once in a million times.
const tries, fifthLow, fifthHigh = 200, 12, 68

// TestRoutes sees where requests and connections go under a MeshHTTPRoute and a MeshTCPRoute: the examples of their pages.
func TestRoutes(t *testing.T) {
	s := newBareScene(t, "kuma-routes")
	apply(t, s, allowAll)
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend", Dataplane: withData})
	canary := add(t, s, scene.WorkloadConfig{Name: "canary-1", Service: "canary", Dataplane: withData})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	seen := &copies{instance: "canary-1", seen: map[string]int{}}
	replaceApp(t, canary, seen)
	none := func() {
		t.Helper()
		remove(t, s, "meshhttproute", "backend-canary")
		only(t, web, backendURL, []string{"backend-1"})
	}
	toCanary := "backendRefs: [" + fmt.Sprintf(byLabels, "canary", 1) + "]"
	only(t, web, backendURL, []string{"backend-1"})

	t.Run("the example", func(t *testing.T) {
		example := guideExamples(t, "meshhttproute")[0]
		apply(t, s, example)
		awaitShare(t, web, backendURL, tries, fifthLow, fifthHigh)
		only(t, web, backendURL, []string{"canary-1"}, "--header", "x-canary: yes")
		redirected(t, web, backendURL+"old/page", "http://backend.svc.mesh.local:8080/new/page")
		redirected(t, web, backendURL+"old", "http://backend.svc.mesh.local:8080/new/")
		apply(t, s, changed(t, changed(t, example, "weight: 80", "weight: 0"), "weight: 20", "weight: 1"))
		only(t, web, backendURL, []string{"canary-1"})
		none()
	})

	t.Run("matches", func(t *testing.T) {
		for _, tt := range []struct {
			name, match string
			yes, no     []string
		}{
			{"a prefix", "{path: {type: PathPrefix, value: /api}}", []string{backendURL + "api/x"}, []string{backendURL + "apix"}},
			{"an exact path", "{path: {type: Exact, value: /api}}", []string{backendURL + "api"}, []string{backendURL + "api/"}},
			{"an expression", "{path: {type: RegularExpression, value: '/v[0-9]+/.*'}}", []string{backendURL + "v12/x"}, []string{backendURL + "vx/x"}},
			{"a header", "{headers: [{name: x-kind, value: new}]}", []string{backendURL, "--header", "x-kind: new"}, []string{backendURL, "--header", "x-kind: old"}},
			{"no header", "{headers: [{type: Absent, name: x-kind}]}", []string{backendURL}, []string{backendURL, "--header", "x-kind: old"}},
			{"a parameter", "{queryParams: [{type: Exact, name: v, value: '2'}]}", []string{backendURL + "?v=2"}, []string{backendURL + "?v=1"}},
			{"a method", "{method: PUT}", []string{backendURL, "--request", "PUT"}, []string{backendURL}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				apply(t, s, requestRoute(tt.match, toCanary))
				only(t, web, tt.yes[0], []string{"canary-1"}, tt.yes[1:]...)
				only(t, web, tt.no[0], []string{"backend-1"}, tt.no[1:]...)
			})
		}
		none()
	})

	t.Run("changes on the way", func(t *testing.T) {
		apply(t, s, requestRoute("{path: {type: PathPrefix, value: /api}}",
			`filters: [{type: URLRewrite, urlRewrite: {hostname: other.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2/}}},
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-added, value: 100%}]}},
        {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-answer, value: changed}]}}], `+toCanary))
		await(t, "a changed request and answer", func(c context.Context) error {
			status, body, err := web.Curl(c, backendURL+"api/x", "--include")
			for _, want := range []string{"x-seen-added: 100%", "x-seen-host: other.example", "x-answer: changed", `"path":"/v2/x"`} {
				if err == nil && !strings.Contains(strings.ToLower(body), want) {
					err = fmt.Errorf("no %q in the answer, %d:\n%s", want, status, body)
				}
			}
			return err
		})
		none()
	})

	t.Run("copies", func(t *testing.T) {
		mirror := "filters: [{type: RequestMirror, requestMirror: {backendRef: {kind: MeshService, labels: {kuma.io/display-name: canary}, port: 8080}}}]"
		apply(t, s, requestRoute("{path: {type: PathPrefix, value: /copied}}", mirror))
		await(t, "a copy", func(c context.Context) error {
			got, err := instances(c, web, backendURL+"copied", 1)
			if err == nil && (seen.count("/copied") == 0 || got["backend-1"] != 1) {
				err = fmt.Errorf("%d copies, answered by %v", seen.count("/copied"), got)
			}
			return err
		})
		none()
		before := seen.count("/copied")
		only(t, web, backendURL+"copied", []string{"backend-1"})
		if after := seen.count("/copied"); after != before {
			t.Errorf("%d copies after the route was deleted", after-before)
		}
	})

	t.Run("what leads nowhere is as if it were not there", func(t *testing.T) {
		apply(t, s, requestRoute("{path: {type: PathPrefix, value: /}}", toCanary))
		only(t, web, backendURL, []string{"canary-1"})
		apply(t, s, requestRoute("{path: {type: PathPrefix, value: /api}}, {path: {type: RegularExpression, value: '/('}}", "backendRefs: [{kind: MeshService, name: nobody, port: 80}]"))
		only(t, web, backendURL+"api", []string{"backend-1"})
		none()
	})

	t.Run("connections", func(t *testing.T) {
		example := guideExamples(t, "meshtcproute")[0]
		only(t, web, dataURL, []string{"backend-1"})
		apply(t, s, example)
		awaitShare(t, web, dataURL, tries, fifthLow, fifthHigh)
		apply(t, s, changed(t, example, "weight: 80", "weight: 0"))
		only(t, web, dataURL, []string{"canary-1"})
		remove(t, s, "meshtcproute", "data-canary")
		only(t, web, dataURL, []string{"backend-1"})
	})

	t.Run("a canary takes over without a lost request", func(t *testing.T) {
		load := scenetest.StartLoad(t, web)
		load.AwaitMore(50)
		split := func(old, next int) string {
			return requestRoute("{path: {type: PathPrefix, value: /}}",
				"backendRefs: ["+fmt.Sprintf(byLabels, "backend", old)+", "+fmt.Sprintf(byLabels, "canary", next)+"]")
		}
		for _, step := range []struct{ old, next, low, high int }{{100, 0, 0, 0}, {80, 20, 2, 40}, {50, 50, 25, 75}, {0, 100, 100, 100}, {100, 0, 0, 0}, {0, 100, 100, 100}} {
			apply(t, s, split(step.old, step.next))
			awaitShare(t, web, backendURL, 100, step.low, step.high)
			load.AwaitMore(50)
		}
		none()
		load.AwaitMore(50)
		load.Unharmed()
		t.Logf("%d requests", load.Sent.Load())
	})
}

// redirected waits until url is answered with another place.
func redirected(t *testing.T, w *scene.Workload, url, want string) {
	t.Helper()
	await(t, url+" to be redirected", func(c context.Context) error {
		status, body, err := w.Curl(c, url, "--include")
		if err == nil && (status != http.StatusFound || !strings.Contains(body, "location: "+want+"\r\n")) {
			err = fmt.Errorf("got %d: %s", status, body)
		}
		return err
	})
}
