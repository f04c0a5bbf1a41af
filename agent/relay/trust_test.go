package relay_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

const (
	identitySecret = "identity_cert:secret:default"
	trustSecret    = "mesh_ca:secret:default"
)

// bundle is a trust bundle with this content.
func bundle(content string) map[string]*anypb.Any {
	body := field(4, field(1, field(2, []byte(content))))
	return map[string]*anypb.Any{trustSecret: {TypeUrl: secretType, Value: slices.Concat(field(1, []byte(trustSecret)), body)}}
}

// TestBundleIsAcknowledgedWithItsCertificate: the control plane hears that Envoy has a bundle when Envoy has a certificate of
// the authority that signs, too; also over a reconnect.
func TestBundleIsAcknowledgedWithItsCertificate(t *testing.T) {
	p := newPeer(t, false)
	p.set(clusterType, named(clusterType, "1", "a"))
	p.set(secretType, bundle("old"))
	var signer atomic.Value // of the certificate
	signer.Store("")
	asked := make(chan string, 100)
	r, path := run(t, p, func(c *relay.Config) {
		c.IdentitySecret, c.TrustSecret = identitySecret, trustSecret
		c.Signer = func(bundle []byte) bool {
			asked <- string(bundle)
			return string(bundle) == signer.Load()
		}
	})
	certify := func(by string) {
		signer.Store(by)
		r.SetIdentity(resource(secretType, identitySecret, "of "+by))
	}
	acknowledged := func(q request) bool { return q.typeURL == secretType && q.nonce != "" && q.nack == "" }
	e := connectEnvoy(t, path)
	e.subscribe(secretType, identitySecret, trustSecret)
	e.accept(secretType)
	if got := <-asked; got != "old" {
		t.Errorf("asked about the bundle %q", got)
	}
	// silent brings something else to the control plane's ear, behind which an acknowledgement would have been before.
	silent := func(when string) {
		t.Helper()
		count := func(got []request) (n int) {
			for _, q := range got {
				if q.typeURL == clusterType && q.nonce != "" {
					n++
				}
			}
			return n
		}
		p.mu.Lock()
		before := count(p.got)
		p.mu.Unlock()
		p.set(clusterType, named(clusterType, when, "a"))
		e.accept(clusterType)
		p.await("the clusters' acknowledgement", func(got []request, _ int) bool { return count(got) > before })
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.ContainsFunc(p.got, acknowledged) {
			t.Errorf("%s: the bundle is acknowledged", when)
		}
	}
	e.subscribe(clusterType)
	e.accept(clusterType)
	p.awaitRequest("the clusters' first acknowledgement", func(q request) bool { return q.typeURL == clusterType && q.nonce != "" })
	silent("before the first certificate")
	certify("old")
	e.accept(secretType)
	p.awaitRequest("the acknowledgement with the first certificate", acknowledged)

	p.forget()
	p.set(secretType, bundle("new, old"))
	e.accept(secretType)
	silent("before the renewed certificate")
	p.net.drop()
	back := p.awaitRequest("the secrets' subscription of the next stream", func(q request) bool { return q.typeURL == secretType && q.nonce == "" })
	if _, ok := back.initial[trustSecret]; ok {
		t.Error("the next stream begins with the bundle as one that Envoy has")
	}
	certify("new, old")
	e.accept(secretType)
	p.awaitRequest("the acknowledgement with the renewed certificate", acknowledged)
}

// TestTrustIsExtended: Envoy gets what Trust makes of the mesh's authorities, also when it changes its mind; the control plane's
// acknowledgement is not affected, and what stands beside the authorities stays.
func TestTrustIsExtended(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a"))
		beside := field(3, []byte("beside"))
		secret := func(content string) map[string]*anypb.Any {
			body := field(4, slices.Concat(field(1, field(2, []byte(content))), beside))
			return map[string]*anypb.Any{trustSecret: {TypeUrl: secretType, Value: slices.Concat(field(1, []byte(trustSecret)), body)}}
		}
		p.set(secretType, secret("mesh"))
		var extra atomic.Value
		extra.Store("")
		r, path := run(t, p, func(c *relay.Config) {
			c.IdentitySecret, c.TrustSecret = identitySecret, trustSecret
			c.Trust = func(bundle []byte) []byte { return append(slices.Clone(bundle), extra.Load().(string)...) }
		})
		r.TrustChanged() // before there is anything to change
		e := connectEnvoy(t, path)
		e.subscribe(secretType, trustSecret)
		expect := func(when, content string) {
			t.Helper()
			a := e.accept(secretType)
			if len(a.GetResources()) != 1 {
				t.Fatalf("%s: %d resources", when, len(a.GetResources()))
			}
			want := slices.Concat(field(1, []byte(trustSecret)), field(4, slices.Concat(beside, field(1, field(2, []byte(content))))))
			if content == "mesh" {
				want = secret("mesh")[trustSecret].GetValue()
			}
			if got := a.GetResources()[0].GetResource().GetValue(); string(got) != string(want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		expect("without more", "mesh")
		extra.Store(" and spire")
		r.TrustChanged()
		expect("with more", "mesh and spire")
		r.TrustChanged() // the same: nothing is sent, or what follows would fail
		p.set(secretType, secret("other"))
		expect("another bundle", "other and spire")
	})
}
