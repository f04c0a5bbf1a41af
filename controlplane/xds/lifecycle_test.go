package xds

import (
	"context"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

func (r *rig) has(kind resource.Kind, name string) bool {
	_, err := r.store.Get(resource.Key{Kind: kind, Mesh: "default", Name: name})
	return err == nil
}

func TestDataplaneGoesWithItsProxy(t *testing.T) {
	r := newRig(t, func(_ *Config, lc *LifecycleConfig) { lc.Deregistration = time.Millisecond })
	ctx, cancel := context.WithCancel(r.ctx())
	p := r.delta(ctx, node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next()
	res, err := r.store.Get(resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "client-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Labels[resource.LabelZone]; got != "zone-1" {
		t.Errorf("zone label is %q", got)
	}
	if !r.insight("client-1").Online() {
		t.Error("the proxy is not online")
	}
	cancel()
	r.await("the dataplane to go", func() bool { return !r.has(resource.KindDataplane, "client-1") })
	if r.has(resource.KindDataplaneInsight, "client-1") {
		t.Error("the insight stays behind")
	}
}

func TestDataplaneStays(t *testing.T) {
	t.Run("when it was there before", func(t *testing.T) {
		r := newRig(t, func(_ *Config, lc *LifecycleConfig) { lc.Deregistration = time.Millisecond })
		r.backend("backend-1", "10.0.0.1")
		ctx, cancel := context.WithCancel(r.ctx())
		n := node("backend-1")
		delete(n.Metadata.Fields, "dataplane.resource")
		p := r.delta(ctx, n, nil)
		p.subscribe(TypeListener)
		p.next()
		cancel()
		r.await("the end of the subscription", func() bool {
			i := r.insight("backend-1")
			return len(i.Subscriptions) == 1 && !i.Online()
		})
		r.life.mu.Lock()
		defer r.life.mu.Unlock()
		if len(r.life.proxies) != 0 || !r.has(resource.KindDataplane, "backend-1") {
			t.Error("a dataplane that was made by hand goes with its proxy")
		}
	})
	t.Run("when the proxy is back in time", func(t *testing.T) {
		r := newRig(t, func(_ *Config, lc *LifecycleConfig) { lc.Deregistration = time.Hour })
		ctx, cancel := context.WithCancel(r.ctx())
		p := r.delta(ctx, node("client-1"), nil)
		p.subscribe(TypeListener)
		p.next()
		cancel()
		r.await("the end of the subscription", func() bool { return !r.insight("client-1").Online() })
		for range 2 { // only the newest two subscriptions are kept
			p = r.delta(r.ctx(), node("client-1"), nil)
			p.subscribe(TypeListener)
			p.next()
		}
		r.await("the new subscriptions", func() bool {
			i := r.insight("client-1")
			return i.Online() && len(i.Subscriptions) == 2
		})
		r.life.mu.Lock()
		defer r.life.mu.Unlock()
		for id, p := range r.life.proxies {
			if p.leave != nil {
				t.Errorf("%v is still to be removed", id)
			}
		}
	})
	t.Run("when the control plane stops", func(t *testing.T) {
		r := newRig(t, func(_ *Config, lc *LifecycleConfig) { lc.Deregistration = time.Millisecond })
		p := r.sotw(r.ctx(), node("client-1"), nil)
		p.subscribe(TypeListener)
		p.next()
		r.stop()
		if !r.has(resource.KindDataplane, "client-1") {
			t.Error("the dataplane is gone")
		}
		if r.insight("client-1").Online() {
			t.Errorf("the subscription is still open: %s", r.log)
		}
	})
}

func TestStaleSubscriptionsAreEnded(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	r.put(`
type: DataplaneInsight
mesh: default
name: backend-1
subscriptions: [{id: old, controlPlaneInstanceId: cp-0, connectTime: "2026-01-01T00:00:00Z"}]
`)
	NewLifecycle(LifecycleConfig{Store: r.store, InstanceID: "cp-1"}).closeStale(t.Context())
	if r.insight("backend-1").Online() {
		t.Error("a subscription of an earlier life is still open")
	}
}
