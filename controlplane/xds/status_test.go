package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// refuse answers as an Envoy that says what it does not take.
func refuse(p peer, a answer, reason string) {
	detail := &status.Status{Code: 13, Message: reason}
	switch p := p.(type) {
	case *deltaPeer:
		p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: a.typ, ResponseNonce: a.nonce, ErrorDetail: detail})
	case *sotwPeer:
		p.nonces[a.typ] = a.nonce
		p.send(a.typ, detail)
	}
}

func patchOf(name, service, value string) string {
	return fmt.Sprintf(`
type: MeshProxyPatch
mesh: default
name: %s
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: %s}}
  default:
    appendModifications:
    - listener: {operation: Patch, match: {origin: inbound}, value: '%s'}
`, name, service, value)
}

// shown is a Status without its times.
func (r *rig) shown(name string, only resource.Kind) []string {
	r.t.Helper()
	s, err := r.srv.Blame("default", name, only)
	if err != nil || !s.Connected || s.Failure != "" {
		r.t.Fatalf("status of %s: %+v, %v", name, s, err)
	}
	var out []string
	for _, f := range s.Refusals {
		out = append(out, fmt.Sprint(f.Kind(), " ", f.Resources, " ", f.Reason, " ", keysOf(f.Policies)))
	}
	return out
}

func keysOf(list []*resource.Resource) []string {
	out := []string{}
	for _, p := range list {
		out = append(out, string(p.Kind)+"/"+p.Name)
	}
	return out
}

// TestStatus follows a patch that an Envoy refuses: it is told of that proxy and blamed on that patch until it is mended, and
// another proxy, and what else the same proxy is told, go on.
func TestStatus(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		r.backend("backend-1", "10.0.0.1")
		const inbound = "inbound:10.0.0.9:9080"
		r.put(timeout("short", "2s"), patchOf("good", "client", "perConnectionBufferLimitBytes: 1000"), patchOf("bad", "client", "tcpBacklogSize: 7"),
			patchOf("other", "nobody", "tcpBacklogSize: 9"))
		p := connect(r, r.ctx(), node("client-1"))
		other := connect(r, r.ctx(), node("client-2"))
		other.subscribe(TypeCluster)
		other.ack(other.next())
		p.subscribe(TypeCluster)
		p.ack(p.next())
		p.subscribe(TypeListener)
		if _, err := r.srv.Status("default", "nobody"); !errors.Is(err, ErrUnknownProxy) {
			t.Errorf("unknown proxy: %v", err)
		}
		if s, err := r.srv.Status("default", "backend-1"); err != nil || s.Connected {
			t.Errorf("a proxy that is not connected: %+v, %v", s, err)
		}
		const reason = "Error adding/updating listener(s) " + inbound + ": not like this"
		refuse(p, p.next(), reason)
		rejected := func(n uint64) func() bool {
			return func() bool {
				s := r.insight("client-1").Subscriptions
				return len(s) == 1 && s[0].Status.LDS.ResponsesRejected == n
			}
		}
		r.await("the refusal", rejected(1))
		want := []string{"Listener [" + inbound + "] " + reason + " [MeshProxyPatch/good MeshProxyPatch/bad]"}
		if got := r.shown("client-1", ""); !gocmp.Equal(want, got) {
			t.Errorf("status is %q, want %q", got, want)
		}
		if got := r.shown("client-2", ""); got != nil {
			t.Errorf("status of the other is %q", got)
		}

		// Clusters of both change, and the refusal stays.
		r.put(timeout("short", "3s"))
		for _, one := range []peer{p, other} {
			a := one.next()
			if a.typ != TypeCluster {
				t.Fatalf("got %s %v", a.typ, a.names())
			}
			one.ack(a)
		}
		if got := r.shown("client-1", ""); !gocmp.Equal(want, got) {
			t.Errorf("status after other answers is %q, want %q", got, want)
		}

		// The next try is refused for another reason, the one after it is taken.
		r.delete("MeshProxyPatch", "good")
		refuse(p, p.next(), inbound+": never")
		r.await("the second refusal", rejected(2))
		want = []string{"Listener [" + inbound + "] " + inbound + ": never [MeshProxyPatch/bad]"}
		if got := r.shown("client-1", ""); !gocmp.Equal(want, got) {
			t.Errorf("status is %q, want %q", got, want)
		}
		r.put(patchOf("bad", "client", "tcpBacklogSize: 8"))
		p.ack(p.next())
		r.await("the acknowledgement", func() bool { return r.insight("client-1").Subscriptions[0].Status.LDS.ResponsesAcknowledged == 1 })
		if got := r.shown("client-1", ""); got != nil {
			t.Errorf("status of the mended one is %q", got)
		}
	})
}

// Where no patch has a hand in it, all policies that have are named, or the one that was asked for if it has.
func TestBlameWithoutPatches(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	r.put(timeout("short", "2s"), patchOf("innocent", "client", "tcpBacklogSize: 7"), `
type: MeshTrafficPermission
mesh: default
name: all
spec: {from: [{targetRef: {kind: Mesh}, default: {action: Allow}}]}
`)
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeCluster)
	const cluster = "default_backend__zone-1_msvc_80"
	a := p.next()
	name := ""
	for _, n := range a.names() {
		if strings.Contains(n, "backend") {
			name = n
		}
	}
	if name == "" {
		t.Fatalf("no cluster such as %s in %v", cluster, a.names())
	}
	refuse(p, a, name+": no")
	r.await("the refusal", func() bool {
		s := r.insight("client-1").Subscriptions
		return len(s) == 1 && s[0].Status.CDS.ResponsesRejected == 1
	})
	if got, want := r.shown("client-1", ""), []string{"Cluster [" + name + "] " + name + ": no [MeshTimeout/short]"}; !gocmp.Equal(want, got) {
		t.Errorf("status is %q, want %q", got, want)
	}
	for kind, want := range map[resource.Kind]string{"MeshTimeout": "MeshTimeout/short", "MeshTrafficPermission": "", "MeshProxyPatch": ""} {
		if got := r.shown("client-1", kind); !strings.HasSuffix(got[0], "["+want+"]") {
			t.Errorf("asked for %s: %q, want %q", kind, got, want)
		}
	}
	// Where each does what the other does too, both are named.
	r.put(timeout("shorter", "2s"))
	r.backend("backend-2", "10.0.0.2")
	r.awaitDataplane("backend-2")
	if got, want := r.shown("client-1", ""), "[MeshTimeout/shorter MeshTimeout/short]"; !strings.HasSuffix(got[0], want) {
		t.Errorf("status is %q, want %s", got, want)
	}
}

// TestBlameKnowsWhatIsBroken: of several policies in a refused listener, the one that breaks a rule of Envoy's fields is
// named alone.
func TestBlameKnowsWhatIsBroken(t *testing.T) {
	expectRefused(t, unknownStatus)
	r := newRig(t)
	r.put(limited("odd", "client", 420), limited("zeal", "client", 429), timeout("short", "2s"), `
type: MeshTimeout
mesh: default
name: idle
spec:
  targetRef: {kind: Mesh, proxyTypes: [Sidecar]}
  from: [{targetRef: {kind: Mesh}, default: {http: {streamIdleTimeout: 7s}}}]
`)
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	a := p.next()
	refuse(p, a, "inbound:10.0.0.9:9080: no, outbound:241.0.0.1:80: no")
	r.await("the refusal", func() bool {
		s := r.insight("client-1").Subscriptions
		return len(s) == 1 && s[0].Status.LDS.ResponsesRejected == 1
	})
	if got := r.shown("client-1", ""); len(got) != 1 || !strings.HasSuffix(got[0], "[MeshRateLimit/odd]") {
		t.Errorf("status is %q", got)
	}
	if got := r.shown("client-1", "MeshTimeout"); len(got) != 1 || !strings.HasSuffix(got[0], "[]") {
		t.Errorf("status is %q", got)
	}
	r.delete("MeshRateLimit", "odd")
	a = p.next()
	refuse(p, a, "inbound:10.0.0.9:9080: no")
	r.await("the second refusal", func() bool { return r.insight("client-1").Subscriptions[0].Status.LDS.ResponsesRejected == 2 })
	if got := r.shown("client-1", ""); len(got) != 2 || !strings.HasSuffix(got[1], "[MeshRateLimit/zeal MeshTimeout/idle]") {
		t.Errorf("status is %q", got)
	}
}

// limited is a rate limit with an answer.
func limited(name, service string, status int) string {
	return fmt.Sprintf(`
type: MeshRateLimit
mesh: default
name: %s
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: %s}}
  from:
  - targetRef: {kind: Mesh}
    default: {local: {http: {requestRate: {num: 1, interval: 1s}, onRateLimit: {status: %d}}}}
`, name, service, status)
}

// TestWarningsHaveAnAuthor: of several policies of a kind, those are named without which a part would not be left out.
func TestWarningsHaveAnAuthor(t *testing.T) {
	expectRefused(t, unknownStatus)
	r := newRig(t)
	r.put(limited("odd", "client", 420), limited("zeal", "client", 429), badPatch, patchOf("good", "client", "tcpBacklogSize: 7"), `
type: MeshTimeout
mesh: default
name: nowhere
spec: {targetRef: {kind: MeshHTTPRoute, name: missing}, to: [{targetRef: {kind: Mesh}, default: {http: {requestTimeout: 2s}}}]}
`, timeout("short", "2s"))
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	p.ack(p.next())
	for kind, want := range map[resource.Kind][]string{
		"":               {"MeshRateLimit/odd", "MeshProxyPatch/bad", "MeshTimeout/nowhere"},
		"MeshRateLimit":  {"MeshRateLimit/odd", "", ""},
		"MeshProxyPatch": {"", "MeshProxyPatch/bad", ""},
	} {
		s, err := r.srv.Blame("default", "client-1", kind)
		if err != nil || len(s.Warnings) != len(want) {
			t.Fatalf("status is %+v, %v", s, err)
		}
		for i, w := range s.Warnings {
			about := []resource.Kind{"MeshRateLimit", "MeshProxyPatch", "MeshTimeout"}[i]
			if got := strings.Join(keysOf(w.Policies), " "); got != want[i] || !w.About(about) || w.About("Mesh") {
				t.Errorf("asked for %q, warning %q is about %q, want %q", kind, w.Text, got, want[i])
			}
		}
	}
}

// TestStatusOfAFailure: when no configuration can be made, the proxy keeps what it has, and the reason and the policy are told.
func TestStatusOfAFailure(t *testing.T) {
	broken := errors.New("this cannot be made")
	tries := make(chan struct{}, 100)
	r := newRig(t, func(c *Config, _ *LifecycleConfig) {
		c.Effects = slices.Clone(c.Effects)
		for i, e := range c.Effects {
			if e.Kind == "MeshTimeout" {
				c.Effects[i].Apply = func(p *effect.Proxy, rules *policy.Rules) error {
					if !effect.Effective(rules) {
						return e.Apply(p, rules)
					}
					select {
					case tries <- struct{}{}:
					default:
					}
					return broken
				}
			}
		}
	})
	r.backend("backend-1", "10.0.0.1")
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeCluster)
	p.ack(p.next())
	r.put(timeout("short", "2s"))
	for range 2 { // with the second, the first is over
		<-tries
	}
	status := func() *Status {
		s, err := r.srv.Blame("default", "client-1", "")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(); !strings.Contains(s.Failure, broken.Error()) || !gocmp.Equal(keysOf(s.Suspects), []string{"MeshTimeout/short"}) {
		t.Errorf("status is %+v", s)
	}
	r.put("{type: MeshCircuitBreaker, mesh: default, name: b, spec: {to: [{targetRef: {kind: Mesh}, default: {connectionLimits: {maxConnections: 7}}}]}}")
	r.delete("MeshTimeout", "short")
	p.ack(p.next())
	if s := status(); s.Failure != "" || s.Suspects != nil {
		t.Errorf("status of the mended one is %+v", s)
	}
}
