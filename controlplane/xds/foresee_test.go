package xds

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TestForesee: what a patch cannot do at the proxies that there are is known before it is stored, and nothing is told twice.
func TestForesee(t *testing.T) {
	r := newRig(t)
	for i := range 30 {
		r.backend(fmt.Sprintf("backend-%d", i), fmt.Sprintf("10.0.1.%d", i+1))
	}
	r.put(patchOf("other", "backend", "tcpBacklogSize: 9"), strings.Replace(badPatch, "name: bad", "name: stored", 1))
	r.awaitDataplane("backend-29")
	decode := func(text string) *resource.Resource {
		t.Helper()
		p, err := r.reg.DecodeYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const left = "appendModifications[0] is left out: cluster "
	if got := r.srv.Foresee(decode(badPatch)); len(got) != 1 || !strings.HasPrefix(got[0], "on backend-0: "+left) {
		t.Errorf("a bad one: %q", got)
	}
	// A proxy that differs is tried too; what is said of both is said once.
	r.put(`
type: Dataplane
mesh: default
name: other-1
networking: {address: 10.0.0.7, inbound: [{port: 8080, tags: {kuma.io/service: other, kuma.io/protocol: http}}]}
`)
	r.awaitDataplane("other-1")
	if got := r.srv.Foresee(decode(badPatch)); len(got) != 1 || !strings.HasPrefix(got[0], "on backend-0 and other proxies: "+left) {
		t.Errorf("a bad one at two kinds of proxies: %q", got)
	}
	for what, text := range map[string]string{
		"a good one":        patchOf("good", "backend", "tcpBacklogSize: 9"),
		"a repaired one":    strings.ReplaceAll(strings.Replace(badPatch, "name: bad", "name: stored", 1), "/lbSubsetConfig/x", "/connectTimeout"),
		"one for nobody":    strings.Replace(badPatch, "  default:", "  targetRef: {kind: MeshSubset, tags: {kuma.io/service: nobody}}\n  default:", 1),
		"a shadow":          strings.Replace(badPatch, "name: bad", "name: bad\nlabels: {kuma.io/effect: shadow}", 1),
		"another mesh":      strings.Replace(badPatch, "mesh: default", "mesh: nowhere", 1),
		"another kind":      timeout("short", "2s"),
		"what is no policy": backendYAML,
	} {
		if got := r.srv.Foresee(decode(text)); got != nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}
