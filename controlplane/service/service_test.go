package service

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	exclusive = "{type: Mesh, name: m, meshServices: {mode: Exclusive}, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}}"
	disabled  = "{type: Mesh, name: m, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}}"
	byHand    = "{type: MeshService, mesh: m, name: back, spec: {selector: {dataplaneTags: {app: back}}, ports: [{name: main, port: 80, targetPort: 8080}]}}"
	back1     = "{type: Dataplane, mesh: m, name: back-1, networking: {address: 10.0.0.1, inbound: [{port: 8080, name: main, tags: {kuma.io/service: back, app: back}}]}}"
	identity  = `{type: DataplaneInsight, mesh: m, name: back-1, subscriptions: [{connectTime: "2026-01-01T00:00:00Z"}], mTLS: {issuedBackend: ca}}`
)

// pass lets d go by on the clock of a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func tlsOf(r *resource.Resource) string {
	if st := status(r); st.TLS != nil {
		return st.TLS.Status
	}
	return ""
}

// TestEmptyIsNotReady: a service that is written moments before its proxies must not turn Ready for having none.
func TestEmptyIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		w.yaml(disabled)
		w.yaml(byHand)
		synctest.Wait()
		if got := tlsOf(w.service("back")); got != resource.TLSNotReady {
			t.Fatalf("just written: got %q, want NotReady", got)
		}
		pass(DefaultEmptyReady - time.Millisecond)
		w.yaml(back1)
		pass(time.Minute)
		if got := tlsOf(w.service("back")); got != resource.TLSNotReady {
			t.Errorf("with a proxy without identity: got %q, want NotReady", got)
		}
		// A proxy between two times without any starts the time again.
		w.remove(resource.KindDataplane, "m", "back-1")
		pass(DefaultEmptyReady - time.Millisecond)
		w.yaml(back1)
		synctest.Wait()
		w.remove(resource.KindDataplane, "m", "back-1")
		pass(time.Second)
		if got := tlsOf(w.service("back")); got != resource.TLSNotReady {
			t.Errorf("without proxies for a second: got %q, want NotReady", got)
		}
		pass(DefaultEmptyReady)
		if got := tlsOf(w.service("back")); got != resource.TLSReady {
			t.Errorf("long without proxies: got %q, want Ready", got)
		}
		w.yaml(back1)
		pass(time.Minute)
		if got := tlsOf(w.service("back")); got != resource.TLSReady {
			t.Errorf("readiness was taken back: %q", got)
		}
	})
}

// TestEmptyOverARestart: a control plane that starts waits the whole time again, and each service its own.
func TestEmptyOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.emptyReady = 20 * time.Second
		w.start()
		defer func() { w.stop() }()
		w.yaml(disabled)
		w.yaml(byHand)
		pass(19 * time.Second)
		w.yaml("{type: MeshService, mesh: m, name: later, spec: {selector: {dataplaneTags: {app: later}}, ports: [{port: 80}]}}")
		w.stop()
		w.start()
		pass(19 * time.Second)
		w.remove(resource.KindMeshService, "m", "later")
		w.yaml("{type: MeshService, mesh: m, name: later, spec: {selector: {dataplaneTags: {app: later}}, ports: [{port: 80}]}}")
		synctest.Wait()
		for _, name := range []string{"back", "later"} {
			if got := tlsOf(w.service(name)); got != resource.TLSNotReady {
				t.Errorf("%s, 19 s after the start: got %q, want NotReady", name, got)
			}
		}
		pass(time.Second)
		if got := tlsOf(w.service("back")); got != resource.TLSReady {
			t.Errorf("20 s after the start: got %q, want Ready", got)
		}
		if got := tlsOf(w.service("later")); got != resource.TLSNotReady {
			t.Errorf("written anew a second ago: got %q, want NotReady", got)
		}
		pass(19 * time.Second)
		if got := tlsOf(w.service("later")); got != resource.TLSReady {
			t.Errorf("written anew 20 s ago: got %q, want Ready", got)
		}
	})
}

func TestIdentityMakesReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.yaml(disabled)
		w.yaml(byHand)
		w.yaml(back1)
		w.start()
		defer w.stop()
		synctest.Wait()
		r := w.service("back")
		if got := tlsOf(r); got != resource.TLSNotReady {
			t.Fatalf("got %q, want NotReady", got)
		}
		w.yaml(identity)
		synctest.Wait()
		r = w.service("back")
		if got := *status(r).DataplaneProxies; tlsOf(r) != resource.TLSReady || got != (resource.DataplaneProxyCount{Total: 1, Healthy: 1, Connected: 1}) {
			t.Errorf("got %q, %+v", tlsOf(r), got)
		}
		// mTLS goes off, and on again: then it counts from new.
		w.yaml("{type: Mesh, name: m}")
		synctest.Wait()
		if got := tlsOf(w.service("back")); got != resource.TLSNotReady {
			t.Errorf("mtls off: got %q, want NotReady", got)
		}
		w.yaml(disabled)
		synctest.Wait()
		if got := tlsOf(w.service("back")); got != resource.TLSReady {
			t.Errorf("mtls on: got %q, want Ready", got)
		}
	})
}

func TestServicesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		w.yaml(disabled)
		w.yaml("{type: MeshService, mesh: m, name: far, labels: {kuma.io/origin: global}, spec: {state: Available, ports: [{port: 80}]}}")
		pass(time.Minute)
		r := w.service("far")
		if spec := r.Spec.(*resource.MeshService); spec.State != resource.StateAvailable || tlsOf(r) != "" {
			t.Errorf("the status of another zone's service was computed here: %s %q", spec.State, tlsOf(r))
		}
		if len(status(r).VIPs) != 1 {
			t.Error("it has no address here")
		}
	})
}

// TestGeneration goes through the life of a generated service.
func TestGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer func() { w.stop() }()
		w.yaml(disabled)
		w.yaml(back1)
		synctest.Wait()
		if w.service("back") != nil {
			t.Fatal("generated in mode Disabled")
		}
		w.yaml(exclusive)
		synctest.Wait()
		r := w.service("back")
		if r == nil {
			t.Fatal("not generated")
		}
		st := status(r)
		if len(st.VIPs) != 1 || len(st.Addresses) != 1 || st.Addresses[0].Hostname != "back.svc.mesh.local" || r.Spec.(*resource.MeshService).State != resource.StateAvailable {
			t.Errorf("got %+v", st)
		}
		vip := st.VIPs[0]
		// Without Dataplanes it stays for an hour, across a restart, and comes back as it was.
		w.remove(resource.KindDataplane, "m", "back-1")
		pass(30 * time.Minute)
		if r := w.service("back"); r == nil || r.Labels[resource.LabelGraceStart] == "" {
			t.Fatalf("in the grace period: %v", r)
		}
		w.yaml(back1)
		synctest.Wait()
		if r := w.service("back"); r.Labels[resource.LabelGraceStart] != "" || status(r).VIPs[0] != vip {
			t.Errorf("came back as %v %v", r.Labels, status(r).VIPs)
		}
		w.remove(resource.KindDataplane, "m", "back-1")
		pass(50 * time.Minute)
		w.stop()
		w.start()
		pass(9 * time.Minute)
		if w.service("back") == nil {
			t.Error("deleted before the hour was over")
		}
		pass(time.Minute)
		if w.service("back") != nil {
			t.Error("there after the hour")
		}
		// Somebody deletes it, or damages it.
		w.yaml(back1)
		synctest.Wait()
		w.remove(resource.KindMeshService, "m", "back")
		synctest.Wait()
		r = w.service("back")
		if r == nil {
			t.Fatal("did not come back")
		}
		c := r.Clone()
		c.Spec.(*resource.MeshService).Ports = nil
		w.put(c)
		synctest.Wait()
		if ports := w.service("back").Spec.(*resource.MeshService).Ports; len(ports) != 1 {
			t.Errorf("ports that somebody took away: got %v", ports)
		}
		w.yaml(disabled)
		synctest.Wait()
		if w.service("back") != nil {
			t.Error("there in mode Disabled")
		}
	})
}

func TestGenerationIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		w.yaml(exclusive)
		w.yaml(byHand)
		w.yaml(back1)
		pass(2 * time.Hour)
		if r := w.service("back"); r == nil || managed(r) {
			t.Fatalf("the object that somebody made: got %v", r)
		}
		w.remove(resource.KindMeshService, "m", "back")
		synctest.Wait()
		if r := w.service("back"); r == nil || !managed(r) {
			t.Errorf("when it is gone: got %v", r)
		}
		w.remove(resource.KindMesh, "", "m")
		synctest.Wait()
		if r := w.service("back"); r != nil {
			t.Errorf("in a mesh that is gone: %v", r)
		}
	})
}

// TestEndToEnd is a service from PUT to deletion, on the real clock, and prints how long it took.
func TestEndToEnd(t *testing.T) {
	w := newWorld(t)
	w.start()
	defer w.stop()
	w.yaml(disabled)
	for i := range 5 {
		w.yaml(fmt.Sprintf("{type: Dataplane, mesh: m, name: back-%d, networking: {address: 10.0.0.%d, inbound: [{port: 8080, name: main, tags: {kuma.io/service: back, app: back}}]}}", i, i+1))
	}
	complete := func(r *resource.Resource) bool {
		st := status(r)
		return len(st.VIPs) == 1 && len(st.Addresses) == 1 && st.DataplaneProxies != nil && st.DataplaneProxies.Healthy == 5
	}
	begin := time.Now()
	w.yaml(byHand)
	vip := status(w.await("back", complete)).VIPs[0]
	t.Logf("from PUT of a MeshService to its whole status: %s", time.Since(begin))
	w.remove(resource.KindMeshService, "m", "back")
	begin = time.Now()
	w.yaml(byHand)
	if again := status(w.await("back", complete)).VIPs[0]; again == vip {
		t.Errorf("the address %s of a deleted service was given away at once", vip.IP)
	}
	t.Logf("and once more: %s", time.Since(begin))
}

// await waits until a service of mesh m is as it should be.
func (w *world) await(name string, ok func(*resource.Resource) bool) *resource.Resource {
	w.Helper()
	_, watcher := w.Watch()
	defer watcher.Close()
	for {
		if r := w.service(name); r != nil && ok(r) {
			return r
		}
		if _, err := watcher.Next(w.Context()); err != nil {
			w.Fatalf("wait for %s: %v", name, err)
		}
	}
}

// TestCrowd edits Dataplanes, insights, modes and services from several goroutines and then compares every service with
// what follows from the rest of the store.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		w.yaml(exclusive)
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(7, uint64(worker)))
				for range 150 {
					_, err := w.Commit(t.Context(), anyEdit(rnd))
					_ = err // what is to be deleted may be gone
				}
			})
		}
		wg.Wait()
		pass(2 * time.Hour)
		stored, watcher := w.Watch()
		watcher.Close()
		m := topology.Build("zone-a", stored...).Meshes["m"]
		vips := map[string]string{}
		want := map[string]bool{"byhand": m.Service("byhand") != nil}
		for _, d := range m.Dataplanes {
			for tag := range membersOf(d.Resource) {
				want[tag] = true
			}
		}
		for _, s := range m.Services {
			if next := derive(m, s, true).apply(s.Resource); next != nil {
				t.Errorf("%s: got %+v, want %+v", s.Name, status(s.Resource), status(next))
			}
			if len(s.Status.VIPs) != 1 || vips[s.Status.VIPs[0].IP] != "" {
				t.Fatalf("%s has addresses %v", s.Name, s.Status.VIPs)
			}
			vips[s.Status.VIPs[0].IP] = s.Name
			if !want[s.Name] {
				t.Errorf("%s is there without Dataplanes", s.Name)
			}
			delete(want, s.Name)
		}
		delete(want, "byhand")
		if len(want) > 0 {
			t.Errorf("not generated: %v", want)
		}
	})
}

func anyEdit(rnd *rand.Rand) store.Op {
	r := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Mesh: "m", Name: fmt.Sprint("d", rnd.IntN(12))}}}
	switch rnd.IntN(5) {
	case 0:
		r.Kind = resource.KindDataplaneInsight
		in := &resource.DataplaneInsight{Subscriptions: []*resource.Subscription{{ConnectTime: "x"}}}
		if rnd.IntN(2) == 0 {
			in.MTLS = &resource.InsightMTLS{IssuedBackend: "ca"}
		}
		r.Spec = in
	case 1:
		r.Kind, r.Name = resource.KindMeshService, "byhand"
		r.Spec = &resource.MeshService{
			Selector: &resource.ServiceSelector{DataplaneTags: map[string]string{"app": fmt.Sprint("a", rnd.IntN(3))}},
			Ports:    []resource.ServicePort{{Name: "main", Port: uint32(80 + rnd.IntN(2))}},
		}
	default:
		r.Kind = resource.KindDataplane
		r.Spec = &resource.Dataplane{Networking: &resource.Networking{Address: "10.0.0.1", Inbound: []*resource.Inbound{{
			Port: uint32(80 + rnd.IntN(2)), Name: "main", State: []string{"Ready", "NotReady"}[rnd.IntN(2)],
			Tags: map[string]string{resource.TagService: fmt.Sprint("s", rnd.IntN(4)), "app": fmt.Sprint("a", rnd.IntN(3))},
		}}}}
	}
	if rnd.IntN(4) == 0 {
		return store.Op{Action: store.Delete, Resource: r}
	}
	return store.Op{Action: store.Upsert, Resource: r}
}
