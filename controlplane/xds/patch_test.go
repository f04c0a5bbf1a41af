package xds

import (
	"context"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

const badPatch = `
type: MeshProxyPatch
mesh: default
name: bad
spec:
  default:
    appendModifications:
    - cluster: {operation: Patch, jsonPatches: [{op: replace, path: /lbSubsetConfig/x, value: 3s}]}
    - listener: {operation: Patch, match: {origin: inbound}, value: 'tcpBacklogSize: 7'}
`

// TestPatchWarnings: what a patch cannot do, or Envoy does not take, is shown with the rules, connected or not.
func TestPatchWarnings(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		r.backend("backend-1", "10.0.0.1")
		r.put(timeout("short", "2s"), badPatch)
		p := connect(r, r.ctx(), node("client-1"))
		p.subscribe(TypeListener)
		answer := p.next()
		var l listenerv3.Listener
		if err := answer.resources["inbound:10.0.0.9:9080"].Any.UnmarshalTo(&l); err != nil || l.TcpBacklogSize.GetValue() != 7 {
			t.Fatalf("the other modification did nothing: %v %v", &l, err)
		}
		const left = "MeshProxyPatch bad: appendModifications[0] is left out: "
		warnings := func(proxy string) []string {
			t.Helper()
			rules, err := r.srv.Rules("default", proxy, false)
			if err != nil || len(rules) != 2 || rules[0].Kind != "MeshTimeout" || len(rules[0].Warnings) > 0 {
				t.Fatalf("rules are %v, %v", rules, err)
			}
			return rules[1].Warnings
		}
		for _, proxy := range []string{"backend-1", "client-1"} {
			if w := warnings(proxy); len(w) != 1 || !strings.HasPrefix(w[0], left) {
				t.Errorf("warnings of %s are %q", proxy, w)
			}
		}
		if n := strings.Count(r.log.String(), left); n != 1 {
			t.Errorf("the log has it %d times, want once for the connected proxy", n)
		}
		p.nack(answer)
		r.await("the refusal", func() bool {
			s := r.insight("client-1").Subscriptions
			return len(s) == 1 && s[0].Status.LDS.ResponsesRejected == 1
		})
		if w := warnings("client-1"); len(w) != 2 || w[1] != "Envoy refuses a Listener and keeps the one it has: cannot use this" {
			t.Errorf("warnings after the refusal are %q", w)
		}
		if w := warnings("backend-1"); len(w) != 1 {
			t.Errorf("warnings of the other proxy are %q", w)
		}
		r.put(strings.Replace(badPatch, "tcpBacklogSize: 7", "tcpBacklogSize: 8", 1))
		p.ack(p.next())
		r.await("the acknowledgement", func() bool { return r.insight("client-1").Subscriptions[0].Status.LDS.ResponsesAcknowledged == 1 })
		if w := warnings("client-1"); len(w) != 1 {
			t.Errorf("warnings after the acknowledgement are %q", w)
		}
	})
}
