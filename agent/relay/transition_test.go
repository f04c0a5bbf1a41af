package relay_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

// gauge stands for Envoy's number of warming clusters; each question takes the next of its answers, the last one for ever.
type gauge struct {
	mu      sync.Mutex
	answers []int
	err     error
	asked   int
}

func (g *gauge) ask(context.Context) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	n := g.answers[0]
	if len(g.answers) > 1 {
		g.answers = g.answers[1:]
	}
	return n, g.err
}

// held waits until the relay holds n resources of a type.
func held(t *testing.T, r *relay.Relay, typeURL string, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); r.Status().Types[typeURL].Resources != n; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("relay holds %d of %s, want %d", r.Status().Types[typeURL].Resources, typeURL, n)
		}
	}
}

// serving brings an Envoy to where it has the clusters a and b and the listener in.
func serving(t *testing.T, p *peer, change func(*relay.Config)) (*relay.Relay, *envoy) {
	t.Helper()
	p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1)})
	p.set(endpointType, named(endpointType, "1", "a", "b"))
	p.set(listenerType, named(listenerType, "1", "in"))
	r, path := run(t, p, change)
	e := connectEnvoy(t, path)
	e.subscribe(clusterType)
	e.accept(clusterType)
	e.subscribe(endpointType, "a", "b")
	e.accept(endpointType)
	e.subscribe(listenerType)
	e.accept(listenerType)
	return r, e
}

func TestListenersWaitForNewClusters(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		g := &gauge{answers: []int{2, 1, 0}}
		r, e := serving(t, p, func(c *relay.Config) { c.Warming = g.ask })
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1), "c": edsCluster("c", 1)})
		p.set(endpointType, named(endpointType, "1", "a", "b", "c"))
		p.set(listenerType, named(listenerType, "2", "in", "more"))
		held(t, r, listenerType, 2)
		// Whatever the relay sends keeps its order: a listener that had not waited would come before the endpoints.
		e.accept(clusterType)
		e.subscribe(endpointType, "c")
		if got := namesOf(e.accept(endpointType)); !slices.Equal(got, []string{"c"}) {
			t.Fatalf("endpoints %v, want [c]", got)
		}
		if got := namesOf(e.accept(listenerType)); !slices.Equal(got, []string{"in", "more"}) {
			t.Fatalf("listeners %v, want [in more]", got)
		}
		if g.asked != 3 {
			t.Errorf("envoy was asked %d times, want 3: until nothing is warming", g.asked)
		}

		// What leads to no new cluster waits for nothing.
		p.set(listenerType, named(listenerType, "3", "in", "more"))
		e.accept(listenerType)
		if g.asked != 3 {
			t.Errorf("envoy was asked again without a new cluster")
		}
	})
}

// A changed cluster serves as it was until the change is warm, so nothing need wait for that.
func TestListenersDoNotWaitForChangedClusters(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		g := &gauge{answers: []int{1}}
		_, e := serving(t, p, func(c *relay.Config) { c.Warming = g.ask })
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 2), "b": edsCluster("b", 1)})
		e.accept(clusterType)
		p.set(listenerType, named(listenerType, "2", "in"))
		for got := ""; got != listenerType; { // among the endpoints of the changed cluster, which are not acknowledged
			got = e.next().GetTypeUrl()
		}
		if g.asked != 0 {
			t.Errorf("envoy was asked %d times, want never", g.asked)
		}
	})
}

// What cannot be known does not keep listeners back.
func TestListenersGoOn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		warming *gauge
		nack    string
	}{
		{name: "when nobody can be asked"},
		{name: "when envoy does not answer", warming: &gauge{answers: []int{7}, err: fmt.Errorf("no answer")}},
		{name: "when envoy refuses the cluster", warming: &gauge{answers: []int{0}}, nack: "c: no such thing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, p *peer) {
				_, e := serving(t, p, func(c *relay.Config) {
					if tt.warming != nil {
						c.Warming = tt.warming.ask
					}
				})
				p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1), "c": edsCluster("c", 1)})
				p.set(endpointType, named(endpointType, "1", "a", "b", "c"))
				p.set(listenerType, named(listenerType, "2", "in"))
				e.reply(e.next(), tt.nack)
				if tt.nack == "" {
					e.subscribe(endpointType, "c")
					e.accept(endpointType)
				}
				e.accept(listenerType)
			})
		})
	}
}

// Envoy never says that it has the endpoints, and is told the listeners all the same after LongestWarming.
func TestListenersWaitNoLongerThanAllowed(t *testing.T) {
	p := newPeer(t, false)
	g := &gauge{answers: []int{1}}
	r, e := serving(t, p, func(c *relay.Config) { c.Warming = g.ask })
	p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1), "c": edsCluster("c", 1)})
	p.set(listenerType, named(listenerType, "2", "in", "more"))
	held(t, r, listenerType, 2)
	e.accept(clusterType)
	began := time.Now()
	e.accept(listenerType)
	if took := time.Since(began); took < relay.LongestWarming/2 {
		t.Errorf("listeners came after %s, before the cluster could be warm", took)
	}
}

func TestClustersStayForConnectionsThatLeadToThem(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		r, e := serving(t, p, func(c *relay.Config) { c.Grace = time.Hour })
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1)})
		held(t, r, clusterType, 1)
		p.set(listenerType, named(listenerType, "2", "in"))
		if a := e.accept(listenerType); len(a.GetRemovedResources()) != 0 {
			t.Fatalf("removed %v", a.GetRemovedResources())
		}
		// The control plane has its answer, though Envoy was not bothered.
		p.awaitRequest("an acknowledgement of clusters without b", func(q request) bool { return q.typeURL == clusterType && q.nonce != "" && q.nack == "" })

		// The cluster comes back as it was: Envoy has it.
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1)})
		held(t, r, clusterType, 2)
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1), "b": edsCluster("b", 1), "c": edsCluster("c", 1)})
		if got := namesOf(e.accept(clusterType)); !slices.Equal(got, []string{"c"}) {
			t.Errorf("clusters %v, want [c]", got)
		}
	})
}

func TestClustersAreTakenAwayInTheEnd(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		_, e := serving(t, p, func(c *relay.Config) { c.Grace = 20 * time.Millisecond })
		p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1)})
		if got := e.accept(clusterType).GetRemovedResources(); !slices.Equal(got, []string{"b"}) {
			t.Fatalf("removed %v, want [b]", got)
		}
		// And another one later.
		p.set(clusterType, map[string]*anypb.Any{})
		if got := e.accept(clusterType).GetRemovedResources(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("removed %v, want [a]", got)
		}
	})
}

// An Envoy that comes back without a cluster that it was to keep is not sent it again.
func TestLeavingClustersEndWithTheirEnvoy(t *testing.T) {
	p := newPeer(t, false)
	var path string
	r, e := serving(t, p, func(c *relay.Config) { c.Grace, path = time.Hour, c.SocketPath })
	p.set(clusterType, map[string]*anypb.Any{"a": edsCluster("a", 1)})
	held(t, r, clusterType, 1)
	e.close()
	e = connectEnvoy(t, path)
	e.subscribe(clusterType)
	if got := namesOf(e.accept(clusterType)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("clusters %v, want [a]", got)
	}
}
