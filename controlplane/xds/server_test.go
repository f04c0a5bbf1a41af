package xds

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

const cluster = "default_backend___msvc_80"

// both runs a test in both protocols.
func both(t *testing.T, f func(t *testing.T, connect func(r *rig, ctx context.Context, n *corev3.Node) peer)) {
	t.Helper()
	t.Run("sotw", func(t *testing.T) {
		f(t, func(r *rig, ctx context.Context, n *corev3.Node) peer { return r.sotw(ctx, n, nil) })
	})
	t.Run("delta", func(t *testing.T) {
		f(t, func(r *rig, ctx context.Context, n *corev3.Node) peer { return r.delta(ctx, n, nil) })
	})
}

// expect takes the next response, checks type and names, and accepts it.
func expect(t *testing.T, p peer, typeURL string, names ...string) answer {
	t.Helper()
	a := p.next()
	if a.typ != typeURL {
		t.Fatalf("got a response of type %s with %v, want %s", a.typ, a.names(), typeURL)
	}
	if diff := gocmp.Diff(names, a.names()); diff != "" {
		t.Fatalf("%s: names differ (-want +got):\n%s", typeURL, diff)
	}
	p.ack(a)
	return a
}

func TestFirstConfigurationAndChanges(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		r.backend("backend-1", "10.0.0.1")
		p := connect(r, r.ctx(), node("client-1"))
		clusters := []string{
			cluster, "inbound:passthrough:ipv4", "inbound:passthrough:ipv6", "localhost:9080",
			"outbound:passthrough:ipv4", "outbound:passthrough:ipv6",
		}
		listeners := []string{
			"inbound:10.0.0.9:9080", "inbound:passthrough:ipv4", "inbound:passthrough:ipv6", "outbound:241.0.0.1:80",
			"outbound:passthrough:ipv4", "outbound:passthrough:ipv6",
		}
		p.subscribe(TypeCluster)
		expect(t, p, TypeCluster, clusters...)
		p.subscribe(TypeEndpoint, cluster)
		expect(t, p, TypeEndpoint, cluster)
		p.subscribe(TypeListener)
		expect(t, p, TypeListener, listeners...)
		p.subscribe(TypeSecret, "identity_cert:secret:default", "mesh_ca:secret:default")
		expect(t, p, TypeSecret, "identity_cert:secret:default", "mesh_ca:secret:default")

		// One endpoint more: nothing but endpoints moves.
		r.backend("backend-2", "10.0.0.2")
		a := expect(t, p, TypeEndpoint, cluster)
		if got := string(a.resources[cluster].Any.Value); !strings.Contains(got, "10.0.0.1") || !strings.Contains(got, "10.0.0.2") {
			t.Errorf("endpoints are %q, want both addresses", got)
		}

		// A policy changes the clusters; their endpoints follow although they are the same.
		r.put(timeout("short", "2s"))
		a = p.next()
		if a.typ != TypeCluster || a.resources[cluster] == nil {
			t.Fatalf("got %s %v, want the cluster", a.typ, a.names())
		}
		p.ack(a)
		expect(t, p, TypeEndpoint, cluster)
		if a = p.next(); a.typ != TypeListener || a.resources["outbound:241.0.0.1:80"] == nil {
			t.Fatalf("got %s %v, want the listener", a.typ, a.names())
		}
		p.ack(a)

		r.await("the counts of the insight", func() bool {
			s := r.insight("client-1").Subscriptions
			return len(s) == 1 && s[0].Status.Total.ResponsesSent == 8 && s[0].Status.Total.ResponsesAcknowledged == 8 &&
				s[0].Status.EDS.ResponsesAcknowledged == 3 && s[0].DisconnectTime == "" && s[0].Version.KumaDp.KumaCpCompatible
		})
	})
}

// TestOvertaken: what is answered after the next response was sent counts too.
func TestOvertaken(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		r.backend("backend-1", "10.0.0.1")
		p := connect(r, r.ctx(), node("client-1"))
		p.subscribe(TypeCluster)
		first := p.next()
		r.put(timeout("short", "2s"))
		second := p.next()
		p.ack(first)
		p.ack(second)
		r.await("both answers to count", func() bool {
			s := r.insight("client-1").Subscriptions
			return len(s) == 1 && s[0].Status.CDS.ResponsesSent == 2 && s[0].Status.CDS.ResponsesAcknowledged == 2
		})
	})
}

func TestRemovedService(t *testing.T) {
	r := newRig(t)
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeCluster)
	p.ack(p.next())
	p.subscribe(TypeEndpoint, cluster)
	p.ack(p.next())
	p.subscribe(TypeListener)
	p.ack(p.next())
	r.delete(resource.KindMeshService, "backend")
	want := []struct{ typ, name string }{
		{TypeEndpoint, cluster}, {TypeListener, "outbound:241.0.0.1:80"}, {TypeCluster, cluster},
	}
	for _, w := range want {
		a := p.next()
		if a.typ != w.typ || !slices.Equal(a.removed, []string{w.name}) || len(a.resources) != 0 {
			t.Fatalf("got %s removed %v changed %v, want only %s removed from %s", a.typ, a.removed, a.names(), w.name, w.typ)
		}
		p.ack(a)
	}
}

// TestReconnectUnchangedSendsNothing reconnects a peer that has everything: it gets no resource again, but hears that it is
// served, as one that waits for an answer would else wait until the next change.
func TestReconnectUnchangedSendsNothing(t *testing.T) {
	t.Run("delta", func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(r.ctx())
		p := r.delta(ctx, node("client-1"), nil)
		subscribeAll := func(p *deltaPeer) {
			p.subscribe(TypeCluster)
			p.subscribe(TypeEndpoint, cluster)
			p.subscribe(TypeListener)
			p.subscribe(TypeSecret, "mesh_ca:secret:default")
		}
		subscribeAll(p)
		for range 4 {
			p.ack(p.next())
		}
		cancel()
		// Something that is gone, and something that is old.
		p.known[TypeCluster]["outbound:gone"] = "x"
		p.known[TypeCluster]["localhost:9080"] = "x"
		p = r.delta(r.ctx(), node("client-1"), p.known)
		subscribeAll(p)
		unchanged := 0
		next := func() answer {
			a := p.next()
			for a.typ == TypeListener && len(a.resources) == 0 && len(a.removed) == 0 {
				unchanged++
				p.ack(a)
				a = p.next()
			}
			return a
		}
		a := next()
		if a.typ != TypeCluster || !slices.Equal(a.names(), []string{"localhost:9080"}) {
			t.Fatalf("got %s %v, want only the old cluster", a.typ, a.names())
		}
		p.ack(a)
		if a = next(); a.typ != TypeCluster || !slices.Equal(a.removed, []string{"outbound:gone"}) {
			t.Fatalf("got %s removed %v, want the gone cluster", a.typ, a.removed)
		}
		p.ack(a)
		// The next response is about the next change: there was no other.
		r.backend("backend-1", "10.0.0.1")
		for {
			a = next()
			p.ack(a)
			if a.typ == TypeEndpoint {
				break
			}
			if a.typ != TypeCluster || !slices.Equal(a.names(), []string{cluster}) {
				t.Fatalf("got %s %v after a reconnect without changes", a.typ, a.names())
			}
		}
		if unchanged == 0 { // it may come last
			if a = p.next(); a.typ == TypeListener && len(a.resources) == 0 && len(a.removed) == 0 {
				unchanged++
			}
		}
		if unchanged != 1 {
			t.Errorf("heard %d times that no listener changed, want once", unchanged)
		}
	})
	t.Run("sotw", func(t *testing.T) {
		r := newRig(t)
		r.backend("backend-1", "10.0.0.1")
		ctx, cancel := context.WithCancel(r.ctx())
		p := r.sotw(ctx, node("client-1"), nil)
		subscribeAll := func(p *sotwPeer) {
			p.subscribe(TypeCluster)
			p.subscribe(TypeEndpoint, cluster)
			p.subscribe(TypeListener)
		}
		subscribeAll(p)
		for range 3 {
			p.ack(p.next())
		}
		cancel()
		p = r.sotw(r.ctx(), node("client-1"), p.versions)
		subscribeAll(p)
		r.backend("backend-2", "10.0.0.2")
		expect(t, p, TypeEndpoint, cluster)
	})
}

func TestRefusedVersionIsNotSentAgain(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		p := connect(r, r.ctx(), node("client-1"))
		p.subscribe(TypeListener)
		p.nack(p.next())
		r.await("the refusal in the insight", func() bool {
			s := r.insight("client-1").Subscriptions
			return len(s) == 1 && s[0].Status.LDS.ResponsesRejected == 1
		})
		if n := strings.Count(r.log.String(), "cannot use this"); n != 1 {
			t.Errorf("the refusal is logged %d times, want once", n)
		}
		// Only new content comes next, not what was refused.
		r.put(timeout("short", "2s"))
		a := p.next()
		if a.typ != TypeListener || a.resources["outbound:241.0.0.1:80"] == nil {
			t.Fatalf("got %s %v, want the changed listener", a.typ, a.names())
		}
		p.ack(a)
	})
}

func TestSubscriptions(t *testing.T) {
	t.Run("delta by name", func(t *testing.T) {
		r := newRig(t)
		p := r.delta(r.ctx(), node("client-1"), nil)
		p.subscribe(TypeCluster, "localhost:9080")
		expect(t, p, TypeCluster, "localhost:9080")
		p.subscribe(TypeCluster, "missing", cluster)
		a := p.next()
		if !slices.Equal(a.names(), []string{cluster}) {
			t.Fatalf("got %v", a.names())
		}
		p.ack(a)
		if a = p.next(); !slices.Equal(a.removed, []string{"missing"}) {
			t.Fatalf("a name that is not there is answered by %v", a.removed)
		}
		p.ack(a)
		// Who subscribes again gets it again.
		p.subscribe(TypeCluster, "localhost:9080")
		expect(t, p, TypeCluster, "localhost:9080")
		p.unsubscribe(TypeCluster, cluster)
		p.subscribe(TypeListener, "outbound:241.0.0.1:80")
		expect(t, p, TypeListener, "outbound:241.0.0.1:80")
		r.put(timeout("short", "2s"))
		expect(t, p, TypeCluster, "localhost:9080") // the other one is not ours any more
		expect(t, p, TypeListener, "outbound:241.0.0.1:80")
	})
	t.Run("sotw adds names", func(t *testing.T) {
		r := newRig(t)
		p := r.sotw(r.ctx(), node("client-1"), nil)
		p.subscribe(TypeSecret, "identity_cert:secret:default")
		expect(t, p, TypeSecret, "identity_cert:secret:default")
		p.subscribe(TypeSecret, "mesh_ca:secret:default", "identity_cert:secret:default")
		expect(t, p, TypeSecret, "identity_cert:secret:default", "mesh_ca:secret:default")
	})
	t.Run("own key", func(t *testing.T) {
		r := newRig(t, func(c *Config, _ *LifecycleConfig) {
			c.Identity = func(context.Context, topology.ProxyID, *resource.Dataplane) ([]byte, []byte, time.Time, error) {
				t.Error("an identity was made for a proxy that has its own")
				return nil, nil, time.Time{}, errors.New("no")
			}
		})
		p := r.delta(r.ctx(), node("client-1", FeatureIdentityCSR), nil)
		p.subscribe(TypeSecret)
		expect(t, p, TypeSecret, "mesh_ca:secret:default")
	})
}

func TestRefusedStreams(t *testing.T) {
	deny := func(c *Config, _ *LifecycleConfig) {
		c.Authenticate = func(_ context.Context, token string, n *Node) error {
			if token != "good" {
				return errors.New("proxy name from requestor: " + n.ID.Name + " is different than in token: other")
			}
			return nil
		}
	}
	foreign := node("client-1")
	foreign.Id = "default.other"
	bare := &corev3.Node{Id: "default.nobody"}
	invalid := node("client-1")
	invalid.Metadata.Fields["dataplane.resource"] = structpb.NewStringValue(strings.ReplaceAll(clientJSON, "10.0.0.9", ""))
	broken := node("client-1")
	broken.Metadata.Fields["dataplane.resource"] = structpb.NewStringValue("{")
	port := node("client-1")
	port.Metadata.Fields["dataplane.admin.port"] = structpb.NewStringValue("many")
	for _, tt := range []struct {
		name   string
		node   *corev3.Node
		tokens []string
		code   codes.Code
		text   string
	}{
		{
			"wrong token", node("client-1"),
			[]string{"bad"},
			codes.Unauthenticated,
			"authentication failed: proxy name from requestor: client-1 is different than in token: other",
		},
		{"no token", node("client-1"), nil, codes.Unauthenticated, "authentication failed: "},
		{
			"two tokens", node("client-1"),
			[]string{"good", "good"},
			codes.Unauthenticated,
			`authentication failed: request must have exactly 1 "authorization" header, got 2`,
		},
		{"no node", nil, []string{"good"}, codes.InvalidArgument, `node id "" is not <mesh>.<name>`},
		{"somebody else's dataplane", foreign, []string{"good"}, codes.Unknown, "node default.other brought another resource along"},
		{"invalid dataplane", invalid, []string{"good"}, codes.Unknown, "the Dataplane of the node metadata is not valid: networking"},
		{"broken dataplane", broken, []string{"good"}, codes.Unknown, "read the Dataplane of the node metadata: "},
		{"broken metadata", port, []string{"good"}, codes.InvalidArgument, "read node metadata dataplane.admin.port: "},
		{
			"no dataplane", bare,
			[]string{"good"},
			codes.Unknown,
			`resource "default.nobody" not found; create a Dataplane in Kuma CP first or pass it as an argument to kuma-dp`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
				r := newRig(t, deny)
				p := connect(r, r.ctx(tt.tokens...), tt.node)
				p.subscribe(TypeCluster)
				err := recvError(p)
				if status.Code(err) != tt.code || !strings.HasPrefix(status.Convert(err).Message(), tt.text) {
					t.Errorf("got %v, want %s %q", err, tt.code, tt.text)
				}
				if r.srv.Connected() != 0 {
					t.Error("a refused proxy is connected")
				}
			})
		})
	}
}

func recvError(p peer) error {
	var err error
	switch p := p.(type) {
	case *sotwPeer:
		_, err = p.stream.Recv()
	case *deltaPeer:
		_, err = p.stream.Recv()
	}
	return err
}

func TestNodeCannotChange(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		p := connect(r, r.ctx(), node("client-1"))
		p.subscribe(TypeSecret, "mesh_ca:secret:default")
		expect(t, p, TypeSecret, "mesh_ca:secret:default")
		switch p := p.(type) {
		case *sotwPeer:
			p.node = node("client-2")
		case *deltaPeer:
			p.node = node("client-2")
		}
		p.subscribe(TypeListener)
		want := "stream was authenticated for ID default.client-1. Received request is for node with ID default.client-2. " +
			"Node ID cannot be changed after stream is initialized"
		if err := recvError(p); status.Convert(err).Message() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	})
}

func TestSlowReaderHoldsNobodyUp(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		r := newRig(t)
		slow := connect(r, r.ctx(), node("client-1"))
		slow.subscribe(TypeEndpoint, cluster)
		quick := connect(r, r.ctx(), node("client-2"))
		quick.subscribe(TypeEndpoint, cluster)
		expect(t, quick, TypeEndpoint, cluster)
		var last string
		for i := range 20 {
			last = "10.0.1." + strings.Repeat("1", 1+i%2) + string(rune('0'+i%10))
			r.backend("backend-"+strings.Repeat("x", i+1), last)
			a := quick.next()
			for !strings.Contains(string(a.resources[cluster].Any.Value), last) {
				quick.ack(a)
				a = quick.next()
			}
			quick.ack(a)
		}
		for {
			a := slow.next()
			slow.ack(a)
			if strings.Contains(string(a.resources[cluster].Any.Value), last) {
				break
			}
		}
	})
}

func TestIdentityIsRenewedAndRetried(t *testing.T) {
	calls := make(chan int, 16)
	n := 0
	r := newRig(t, func(c *Config, _ *LifecycleConfig) {
		c.Workers = 1
		c.Identity = func(context.Context, topology.ProxyID, *resource.Dataplane) ([]byte, []byte, time.Time, error) {
			n++
			calls <- n
			if n == 1 {
				return nil, nil, time.Time{}, errors.New("authority is not ready")
			}
			return []byte{'c', byte('0' + n)}, []byte("k"), time.Now(), nil
		}
	})
	p := r.sotw(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeSecret, "identity_cert:secret:default")
	first := expect(t, p, TypeSecret, "identity_cert:secret:default")
	second := expect(t, p, TypeSecret, "identity_cert:secret:default")
	if first.version == second.version {
		t.Error("the renewed certificate has the version of the old one")
	}
	if !strings.Contains(r.log.String(), "authority is not ready") {
		t.Error("the failure is not logged")
	}
	if got := <-calls; got != 1 {
		t.Errorf("call %d", got)
	}
}
