//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// allowAll lets everybody of the mesh in.
const allowAll = `type: MeshTrafficPermission
mesh: default
name: allow-all
spec:
  from:
  - targetRef: {kind: Mesh}
    default: {action: Allow}
`

// newBareScene has a mesh without the policies that a mesh begins with, whose retries would hide failures.
func newBareScene(t *testing.T, prefix string) *scene.Scene {
	t.Helper()
	return newBareSceneOf(t, prefix, scene.Mesh)
}

// newBareSceneOf is newBareScene with another mesh than scene.Mesh.
func newBareSceneOf(t *testing.T, prefix, mesh string) *scene.Scene {
	t.Helper()
	s := newScene(t, prefix)
	apply(t, s, mesh)
	for kind, name := range map[string]string{
		"meshretry": "mesh-retry-all-default", "meshcircuitbreaker": "mesh-circuit-breaker-all-default", "meshtimeout": "mesh-timeout-all-default",
	} {
		remove(t, s, kind, name)
	}
	return s
}

var yamlFence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// guideExamples are the YAML blocks of docs/guides/policies/<page>.md.
func guideExamples(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/guides/policies", page+".md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range yamlFence.FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("page %s has no example", page)
	}
	return out
}

// changed replaces a part of an example, which must be there.
func changed(t *testing.T, example, old, next string) string {
	t.Helper()
	if !strings.Contains(example, old) {
		t.Fatalf("no %q in %s", old, example)
	}
	return strings.Replace(example, old, next, 1)
}

// remove deletes a policy.
func remove(t *testing.T, s *scene.Scene, kind, name string) {
	t.Helper()
	if _, err := s.Kumactl(ctx(t), nil, "delete", kind, name); err != nil {
		t.Fatal(err)
	}
}

// instances asks url n times and counts who answers; all must answer 200.
func instances(c context.Context, w *scene.Workload, url string, n int, args ...string) (map[string]int, error) {
	out := map[string]int{}
	for range n {
		status, body, err := w.Curl(c, url, args...)
		if err != nil {
			return nil, err
		}
		var seen scene.Seen
		if status != http.StatusOK {
			return nil, fmt.Errorf("got %d: %s", status, body)
		}
		if err := json.Unmarshal([]byte(body), &seen); err != nil {
			return nil, fmt.Errorf("%q: %w", body, err)
		}
		out[seen.Instance]++
	}
	return out, nil
}

// only asks that exactly these instances answer many requests in a row.
func only(t *testing.T, w *scene.Workload, url string, names []string, args ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to be answered by %v", url, names), func(c context.Context) error {
		got, err := instances(c, w, url, 16, args...)
		if err != nil {
			return err
		}
		for _, n := range names {
			if got[n] == 0 {
				return fmt.Errorf("answered by %v", got)
			}
		}
		if len(got) != len(names) {
			return fmt.Errorf("answered by %v", got)
		}
		return nil
	})
}

// someFail waits for a request that is answered 503.
func someFail(t *testing.T, w *scene.Workload, url string) {
	t.Helper()
	got := map[int]int{}
	await(t, url+" to fail", func(c context.Context) error {
		status, _, err := w.Curl(c, url)
		if got[status]++; err != nil || status != http.StatusServiceUnavailable {
			return errors.Join(fmt.Errorf("got %v", got), err)
		}
		return nil
	})
}
