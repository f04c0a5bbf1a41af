package xds

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

const securedMeshYAML = `
type: Mesh
name: default
mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}
`

// TestSecured: a proxy is secure with a bundle when it has said so, in both protocols.
func TestSecured(t *testing.T) {
	id := topology.ProxyID{Mesh: "default", Name: "client-1"}
	trust, identity := effect.TrustSecret("default"), effect.IdentitySecret("default")
	for _, protocol := range []string{"delta", "state of the world"} {
		t.Run(protocol, func(t *testing.T) {
			var bundle atomic.Pointer[string]
			set := func(text string) { bundle.Store(&text) }
			set("old")
			r := newRig(t, func(c *Config, _ *LifecycleConfig) {
				c.TrustBundle = func(string) ([]byte, error) { return []byte(*bundle.Load()), nil }
			})
			expect := func(when, text string, connected, secured bool) {
				t.Helper()
				c, s, err := r.srv.Secured(id, "default", []byte(text))
				if err != nil || c != connected || s != secured {
					t.Errorf("%s: connected %v, secured %v, %v, want %v, %v", when, c, s, err, connected, secured)
				}
			}
			open := func(known map[string]map[string]string, n string) peer {
				if protocol == "delta" {
					return r.delta(r.ctx(), node(n), known)
				}
				return r.sotw(r.ctx(), node(n), nil)
			}
			expect("before it connects", "old", false, false)
			r.put(securedMeshYAML)
			p := open(nil, "client-1")
			p.subscribe(TypeSecret, trust, identity)
			a := p.next()
			expect("before the acknowledgement", "old", true, false)
			p.ack(a)
			r.await("the acknowledgement of the bundle", func() bool { _, s, _ := r.srv.Secured(id, "default", []byte("old")); return s })
			expect("of a bundle that is not sent yet", "new", true, false)

			set("refused")
			r.put(securedMeshYAML + "routing: {localityAwareLoadBalancing: true}\n")
			p.nack(p.next())
			r.await("the refusal", func() bool { s, err := r.srv.Status("default", "client-1"); return err == nil && len(s.Refusals) > 0 })
			expect("after a refusal", "refused", true, false)

			set("new")
			r.put(securedMeshYAML)
			a = p.next()
			expect("before the second acknowledgement", "new", true, false)
			p.ack(a)
			r.await("the acknowledgement of the new bundle", func() bool { _, s, _ := r.srv.Secured(id, "default", []byte("new")); return s })
			expect("of the old bundle", "old", true, false)

			t.Run("without secrets", func(t *testing.T) {
				id := topology.ProxyID{Mesh: "default", Name: "client-2"}
				p := open(nil, "client-2")
				p.subscribe(TypeListener)
				a := p.next()
				if _, s, err := r.srv.Secured(id, "default", []byte("new")); s || err != nil {
					t.Errorf("a proxy that may ask for secrets yet is secured: %v, %v", s, err)
				}
				p.ack(a)
				r.await("the acknowledgement of listeners", func() bool { _, s, _ := r.srv.Secured(id, "default", []byte("new")); return s })
			})
		})
	}
	t.Run("a stream that goes on with what it has", func(t *testing.T) {
		r := newRig(t)
		r.put(securedMeshYAML)
		c := r.ctx()
		p := r.delta(c, node("client-1"), nil)
		p.subscribe(TypeSecret, trust, identity)
		p.ack(p.next())
		next := r.delta(r.ctx(), node("client-1"), p.known)
		if err := p.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		next.subscribe(TypeSecret, trust, identity)
		r.await("the second stream", func() bool { _, s, _ := r.srv.Secured(id, "default", []byte("CA")); return s })
	})
}

func TestOwnIdentityIsNotedWithTheAcknowledgement(t *testing.T) {
	trust := effect.TrustSecret("default")
	var bundle atomic.Pointer[string]
	set := func(text string) { bundle.Store(&text) }
	set("old")
	noted := make(chan topology.ProxyID, 10)
	r := newRig(t, func(c *Config, _ *LifecycleConfig) {
		c.TrustBundle = func(string) ([]byte, error) { return []byte(*bundle.Load()), nil }
		c.OwnIdentity = func(_ context.Context, id topology.ProxyID) { noted <- id }
	})
	r.put(securedMeshYAML)
	p := r.delta(r.ctx(), node("client-1", FeatureIdentityCSR, FeatureIdentityOwn), nil)
	p.subscribe(TypeSecret, trust)
	a := p.next()
	if len(noted) > 0 {
		t.Error("noted before the acknowledgement")
	}
	want := topology.ProxyID{Mesh: "default", Name: "client-1"}
	p.ack(a)
	if got := <-noted; got != want {
		t.Errorf("noted %v", got)
	}
	set("new")
	r.put(securedMeshYAML + "routing: {localityAwareLoadBalancing: true}\n")
	p.ack(p.next())
	if got := <-noted; got != want {
		t.Errorf("noted %v", got)
	}
	other := r.delta(r.ctx(), node("client-2", FeatureIdentityCSR), nil)
	other.subscribe(TypeSecret, trust)
	other.ack(other.next())
	r.await("the other's acknowledgement", func() bool {
		_, s, _ := r.srv.Secured(topology.ProxyID{Mesh: "default", Name: "client-2"}, "default", []byte("new"))
		return s
	})
	if len(noted) > 0 {
		t.Errorf("%v is noted, which asks for certificates", <-noted)
	}
}
