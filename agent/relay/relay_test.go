package relay_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

// both runs a test before a control plane of either generation.
func both(t *testing.T, f func(t *testing.T, p *peer)) {
	t.Helper()
	for _, state := range []bool{true, false} {
		t.Run(map[bool]string{true: "state of the world", false: "delta"}[state], func(t *testing.T) { f(t, newPeer(t, state)) })
	}
}

func TestConfigurationReachesEnvoyAndAcknowledgementsTheControlPlane(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a", "b"))
		p.set(endpointType, named(endpointType, "1", "a", "b"))
		p.set(listenerType, named(listenerType, "1", "in"))
		r, path := run(t, p, func(c *relay.Config) { c.Token = func() (string, error) { return "raw-token", nil } })
		e := connectEnvoy(t, path)

		e.subscribe(clusterType)
		if got, want := namesOf(e.accept(clusterType)), []string{"a", "b"}; !slices.Equal(got, want) {
			t.Fatalf("clusters %v, want %v", got, want)
		}
		e.subscribe(endpointType, "a")
		if got, want := namesOf(e.accept(endpointType)), []string{"a"}; !slices.Equal(got, want) {
			t.Fatalf("endpoints %v, want %v", got, want)
		}
		e.subscribe(listenerType)
		e.accept(listenerType)
		p.awaitRequest("the node with the first request", func(q request) bool { return q.node == "default.demo" && q.typeURL == clusterType })
		p.awaitRequest("an acknowledgement of listeners", func(q request) bool { return q.typeURL == listenerType && q.nonce != "" && q.nack == "" })
		if got := p.tokens[0]; got != "[raw-token]" {
			t.Errorf("authorization %s, want the raw token", got)
		}
		if missing := r.Missing(); len(missing) != 0 {
			t.Errorf("missing %v after the first configuration", missing)
		}

		p.set(clusterType, map[string]*anypb.Any{"a": resource(clusterType, "a", "1"), "c": resource(clusterType, "c", "1")})
		a := e.accept(clusterType)
		if got := fmt.Sprint(namesOf(a), a.GetRemovedResources()); got != "[[c] [b]]" && got != "[c] [b]" {
			t.Errorf("change of clusters arrived as %s, want [c] [b]: only what changed", got)
		}
	})
}

func TestRefusalIsToldOnceAndWithItsReason(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "good", "bad"))
		r, path := run(t, p, nil)
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.reply(e.next(), "cluster bad: no such thing")
		p.awaitRequest("the refusal", func(q request) bool { return q.nack == "cluster bad: no such thing" && q.nonce != "" })

		// The same content again: Envoy is not bothered, the control plane hears the same verdict.
		p.forget()
		p.set(clusterType, named(clusterType, "1", "good", "bad"))
		p.awaitRequest("the verdict again", func(q request) bool { return q.nack == "cluster bad: no such thing" })
		st := r.Status().Types[clusterType]
		if st.Acknowledged || st.LastNACK == nil || st.LastNACK.Detail != "cluster bad: no such thing" {
			t.Errorf("status %+v does not show the refusal", st)
		}

		p.forget()
		p.set(clusterType, map[string]*anypb.Any{"good": resource(clusterType, "good", "1"), "bad": resource(clusterType, "bad", "2")})
		if got := namesOf(e.accept(clusterType)); !slices.Equal(got, []string{"bad"}) {
			t.Errorf("repaired clusters %v, want [bad]", got)
		}
		p.awaitRequest("the acceptance", func(q request) bool { return q.nonce != "" && q.nack == "" })
		if st := r.Status().Types[clusterType]; !st.Acknowledged {
			t.Errorf("status %+v still shows a refusal", st)
		}
	})
}

func TestSilentControlPlaneIsAnsweredFor(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a"))
		_, path := run(t, p, nil)
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.accept(clusterType)
		e.subscribe(endpointType, "a", "nobody")
		a := e.accept(endpointType)
		if got := a.GetRemovedResources(); !slices.Equal(got, []string{"a", "nobody"}) || len(a.GetResources()) != 0 {
			t.Fatalf("silence became %v, want both names told absent", a)
		}
		p.set(endpointType, named(endpointType, "1", "a"))
		if got := namesOf(e.accept(endpointType)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("late endpoints %v, want [a]", got)
		}
		e.subscribe(listenerType) // there are none: an empty answer, so that Envoy goes on
		if a := e.accept(listenerType); len(a.GetResources())+len(a.GetRemovedResources()) != 0 {
			t.Errorf("listeners %v, want an empty answer", a)
		}
	})
}

func TestEndpointsFollowAChangedCluster(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a", "b"))
		p.set(endpointType, named(endpointType, "1", "a", "b"))
		_, path := run(t, p, nil)
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.accept(clusterType)
		e.subscribe(endpointType, "a", "b")
		e.accept(endpointType)
		p.set(clusterType, map[string]*anypb.Any{"a": resource(clusterType, "a", "2"), "b": resource(clusterType, "b", "1")})
		e.accept(clusterType)
		if got := namesOf(e.accept(endpointType)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("endpoints %v were sent again, want [a]: Envoy warms a changed cluster until it hears them", got)
		}
	})
}

func TestLossOfTheControlPlaneIsNotEnvoys(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a", "b"))
		var n atomic.Int32
		r, path := run(t, p, func(c *relay.Config) {
			c.Token = func() (string, error) { return fmt.Sprintf("token-%d", n.Add(1)), nil }
		})
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.accept(clusterType)
		p.stop()
		p.mu.Lock()
		opened, last := p.opened, p.tokens[len(p.tokens)-1]
		p.mu.Unlock()
		p.forget()
		p.start()
		p.await("a new stream", func(_ []request, n int) bool { return n > opened })
		p.awaitRequest("the node on the new stream", func(q request) bool { return q.node == "default.demo" })
		if !p.state {
			q := p.awaitRequest("the versions held", func(q request) bool { return q.typeURL == clusterType && len(q.initial) == 2 })
			if !strings.HasPrefix(q.initial["a"], "up-") {
				t.Errorf("initial versions %v, want the control plane's own", q.initial)
			}
		}
		p.mu.Lock()
		if now := p.tokens[len(p.tokens)-1]; now == last {
			t.Errorf("reconnected with %s, want a token read anew", now)
		}
		p.mu.Unlock()
		p.set(clusterType, named(clusterType, "1", "a", "b", "c"))
		if got := namesOf(e.accept(clusterType)); !slices.Equal(got, []string{"c"}) {
			t.Errorf("after the restart Envoy got %v on its old stream, want [c]", got)
		}
		if st := r.Status(); !st.Connected || st.Streams < 2 {
			t.Errorf("status %+v, want connected on a second stream", st)
		}
	})
}

func TestEnvoyComingBackIsServedWithoutTheControlPlane(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a", "b"))
		p.set(endpointType, named(endpointType, "1", "a"))
		_, path := run(t, p, nil)
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		first := e.accept(clusterType)
		e.subscribe(endpointType, "a")
		e.accept(endpointType)
		p.stop()
		e.close()

		again := connectEnvoy(t, path)
		again.subscribe(clusterType)
		if got := namesOf(again.accept(clusterType)); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("a restarted Envoy got %v, want [a b]", got)
		}
		again.subscribe(endpointType, "a")
		again.accept(endpointType)
		again.close()

		third := connectEnvoy(t, path)
		have := map[string]string{"gone": "x"}
		for _, r := range first.GetResources() {
			have[r.GetName()] = r.GetVersion()
		}
		third.send(&discovery.DeltaDiscoveryRequest{TypeUrl: clusterType, InitialResourceVersions: have})
		if a := third.accept(clusterType); len(a.GetResources()) != 0 || !slices.Equal(a.GetRemovedResources(), []string{"gone"}) {
			t.Errorf("a reconnected Envoy got %v, want only the removal of what it should not hold", a)
		}
		p.start()
	})
}

func TestUnsubscribedNamesAreForgotten(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a"))
		p.set(endpointType, named(endpointType, "1", "a", "b"))
		r, path := run(t, p, nil)
		e := connectEnvoy(t, path)
		e.subscribe(endpointType, "a", "b")
		e.accept(endpointType)
		e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: endpointType, ResourceNamesUnsubscribe: []string{"b"}})
		p.awaitRequest("the smaller subscription", func(q request) bool {
			return slices.Equal(q.unsubscribe, []string{"b"}) || p.state && slices.Equal(q.names, []string{"a"})
		})
		p.set(endpointType, named(endpointType, "2", "a", "b"))
		if got := namesOf(e.accept(endpointType)); !slices.Equal(got, []string{"a"}) {
			t.Errorf("endpoints %v, want [a]", got)
		}
		if n := r.Status().Types[endpointType].Resources; n != 1 {
			t.Errorf("the relay holds %d, want 1", n)
		}
	})
}

func TestRefusedCredentialIsNotTriedInAHurry(t *testing.T) {
	p := newPeer(t, true)
	p.deny = errDenied
	r, path := run(t, p, nil)
	e := connectEnvoy(t, path)
	e.subscribe(clusterType)
	p.await("a stream", func(_ []request, opened int) bool { return opened == 1 })
	deadline := time.After(patience)
	for r.Status().LastError == "" {
		select {
		case <-deadline:
			t.Fatal("the refusal never showed")
		case <-time.After(time.Millisecond):
		}
	}
	if got := r.Status().LastError; got != "authentication failed: token is expired" {
		t.Errorf("last error %q, want what the control plane said", got)
	}
	select {
	case <-time.After(300 * time.Millisecond): // dozens of tries at the configured backoff
	case <-t.Context().Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened != 1 {
		t.Errorf("%d streams within 300 ms of a refusal, want 1", p.opened)
	}
}

func TestIdentity(t *testing.T) {
	const name = "identity_cert:secret:default"
	both(t, func(t *testing.T, p *peer) {
		t.Run("local", func(t *testing.T) {
			p.set(clusterType, named(clusterType, "1", "a"))
			p.set(secretType, named(secretType, "from control plane", name, "mesh_ca:secret:default"))
			wanted := make(chan struct{}, 1)
			r, path := run(t, p, func(c *relay.Config) {
				c.IdentitySecret = name
				c.IdentityWanted = func() { wanted <- struct{}{} }
			})
			e := connectEnvoy(t, path)
			p.forget()
			e.subscribe(secretType, name, "mesh_ca:secret:default")
			<-wanted
			if got := namesOf(e.accept(secretType)); !slices.Equal(got, []string{"mesh_ca:secret:default"}) {
				t.Fatalf("first secrets %v, want only the trust bundle", got)
			}
			local := resource(secretType, name, "made here")
			r.SetIdentity(local)
			a := e.accept(secretType)
			if len(a.GetResources()) != 1 || string(a.GetResources()[0].GetResource().GetValue()) != string(local.GetValue()) {
				t.Fatalf("identity %v, want the local one", a)
			}
			r.SetIdentity(resource(secretType, name, "renewed"))
			e.accept(secretType)
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, q := range p.got {
				if slices.Contains(q.names, name) {
					t.Errorf("the control plane was asked for %s", name)
				}
			}
		})
		t.Run("from the control plane", func(t *testing.T) {
			r, path := run(t, p, func(c *relay.Config) { c.IdentitySecret = name })
			e := connectEnvoy(t, path)
			e.subscribe(secretType, name)
			r.IdentityFromControlPlane()
			if got := namesOf(e.accept(secretType)); !slices.Equal(got, []string{name}) {
				t.Fatalf("secrets %v, want [%s]", got, name)
			}
		})
	})
}

func TestDNSTableNeverReachesEnvoy(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		tables := make(chan []relay.DNSRecord, 10)
		r, path := run(t, p, func(c *relay.Config) { c.DNS = func(rs []relay.DNSRecord) { tables <- rs } })
		p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", "1"), "kuma:dns": dnsListener("backend.svc.mesh.local", "241.0.0.1", "::ffff:f100:1")})
		e := connectEnvoy(t, path)
		e.subscribe(listenerType)
		if got := namesOf(e.accept(listenerType)); !slices.Equal(got, []string{"in"}) {
			t.Fatalf("listeners %v, want [in]", got)
		}
		if got := fmt.Sprint(<-tables); got != "[{backend.svc.mesh.local [241.0.0.1 ::ffff:241.0.0.1] 30s}]" {
			t.Errorf("table %s", got)
		}
		// Only the table changes: Envoy hears nothing, the control plane its acknowledgement.
		p.forget()
		p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", "1"), "kuma:dns": dnsListener("other.svc.mesh.local", "241.0.0.2")})
		if got := fmt.Sprint(<-tables); got != "[{other.svc.mesh.local [241.0.0.2] 30s}]" {
			t.Errorf("second table %s", got)
		}
		p.awaitRequest("an acknowledgement", func(q request) bool { return q.nonce != "" && q.nack == "" })
		p.set(listenerType, named(listenerType, "2", "in"))
		if got := <-tables; len(got) != 0 {
			t.Errorf("table %v after its listener went, want none", got)
		}
		e.accept(listenerType)
		p.forget()
		p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", "2"), "kuma:dns": resource(listenerType, "kuma:dns", "no filter")})
		p.awaitRequest("a refusal of the broken table", func(q request) bool { return strings.Contains(q.nack, "kuma:dns") })
		if !r.Status().DNSLoaded {
			t.Error("a broken table unloaded the last one")
		}
	})
}

// TestMetricsConfigurationIsTold reads the body of the listener, whichever control plane sends it; Envoy gets the listener too.
func TestMetricsConfigurationIsTold(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		var log lines
		told := make(chan string, 10)
		_, path := run(t, p, func(c *relay.Config) {
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
			c.Observability = func(body []byte) { told <- fmt.Sprintf("%t %s", body != nil, body) }
		})
		const name = "_kuma:dynamicconfig:observability"
		p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", "1"), name: directListener(t, name, `{"a":1}`)})
		e := connectEnvoy(t, path)
		e.subscribe(listenerType)
		if got := namesOf(e.accept(listenerType)); !slices.Equal(got, []string{name, "in"}) {
			t.Fatalf("listeners are %v", got)
		}
		for i, step := range []struct {
			listener *anypb.Any
			want     string
		}{
			{nil, `true {"a":1}`},
			{directListener(t, name, `{"a":2}`), `true {"a":2}`},
			{resource(listenerType, name, "no route"), "true "},
			{directListener(t, name, `{"a":2}`), `true {"a":2}`},
		} {
			if step.listener != nil {
				p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", fmt.Sprint(i)), name: step.listener})
				e.accept(listenerType)
			}
			if got := <-told; got != step.want {
				t.Errorf("step %d: told %s, want %s", i, got, step.want)
			}
		}
		p.set(listenerType, map[string]*anypb.Any{"in": resource(listenerType, "in", "other"), name: directListener(t, name, `{"a":2}`)})
		e.accept(listenerType)
		p.set(listenerType, named(listenerType, "last", "in"))
		e.accept(listenerType)
		if got := <-told; got != "false " {
			t.Errorf("told %s after the listener went: an equal one is not told again", got)
		}
	})
}

// directListener answers every request with a body.
func directListener(t *testing.T, name, body string) *anypb.Any {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	answer := &route.DirectResponseAction{Status: 200, Body: &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: body}}}
	return pack(&listener.Listener{Name: name, FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
		ConfigType: &listener.Filter_TypedConfig{TypedConfig: pack(&hcm.HttpConnectionManager{
			StatPrefix: "x", RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{
				VirtualHosts: []*route.VirtualHost{{Name: name, Routes: []*route.Route{{
					Action: &route.Route_DirectResponse{DirectResponse: answer},
				}}}},
			}},
		})},
	}}}}})
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestSecondEnvoyTakesOver(t *testing.T) {
	p := newPeer(t, false)
	p.set(clusterType, named(clusterType, "1", "a"))
	_, path := run(t, p, nil)
	old := connectEnvoy(t, path)
	old.subscribe(clusterType)
	old.accept(clusterType)
	young := connectEnvoy(t, path)
	young.subscribe(clusterType)
	young.accept(clusterType)
	select {
	case a, ok := <-old.got:
		if ok {
			t.Errorf("the old stream got %v", a)
		}
	case <-time.After(patience):
		t.Error("the old stream goes on")
	}
}
