package insight

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/bolt"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var kinds = resource.NewRegistry(resource.Core()...)

func put(t *testing.T, s store.Store, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		r, err := kinds.Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
			t.Fatal(err)
		}
	}
}

func drop(t *testing.T, s store.Store, k resource.Key) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: k}}}); err != nil {
		t.Fatal(err)
	}
}

func dataplane(name, networking string) string {
	return `{"type":"Dataplane","mesh":"default","name":"` + name + `","networking":{"address":"192.0.2.1",` + networking + `}}`
}

func service(name string) string {
	return `"inbound":[{"port":8080,"tags":{"kuma.io/service":"` + name + `","kuma.io/zone":"zone-1"}}]`
}

func connected(name, end string) string {
	return `{"type":"DataplaneInsight","mesh":"default","name":"` + name + `","subscriptions":[{"id":"1","connectTime":"2026-01-01T00:00:00Z"` + end +
		`,"version":{"kumaDp":{"version":"unknown"},"envoy":{"version":"1.40.0"}}}],"mTLS":{"issuedBackend":"ca-1","supportedBackends":["ca-1"]}}`
}

const gone = `,"disconnectTime":"2026-01-01T00:00:01Z"`

// fill makes the mesh of the captured bodies, as far as the core kinds go.
func fill(t *testing.T, s store.Store) {
	t.Helper()
	put(t, s, `{"type":"Mesh","name":"default"}`,
		dataplane("backend-1", service("backend")), connected("backend-1", ""),
		dataplane("frontend-1", service("frontend")), connected("frontend-1", ""))
}

// TestCaptured compares with what 2.9.13 answered (contract controlplane.md, appendix A).
func TestCaptured(t *testing.T) {
	s := memory.Open(kinds)
	defer s.Close()
	fill(t, s)
	equal(t, OfMesh(s, kinds, "default"), `{"dataplanes":{"total":2,"online":2},
		"dpVersions":{"kumaDp":{"unknown":{"total":2,"online":2}},"envoy":{"1.40.0":{"total":2,"online":2}}},
		"mTLS":{"issuedBackends":{"ca-1":{"total":2,"online":2}},"supportedBackends":{"ca-1":{"total":2,"online":2}}},
		"services":{"total":2,"internal":2},
		"dataplanesByType":{"standard":{"total":2,"online":2},"gateway":{},"gatewayBuiltin":{},"gatewayDelegated":{}},
		"resources":{"Dataplane":{"total":2}}}`)
	equal(t, New(Config{Store: s, Registry: kinds}).services("default"), `{
		"backend":{"status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"backend.mesh:80","zones":["zone-1"]},
		"frontend":{"status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"frontend.mesh:80","zones":["zone-1"]}}`)
}

func equal(t *testing.T, got any, want string) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAddresses(t *testing.T) {
	s := memory.Open(kinds)
	defer s.Close()
	fill(t, s)
	if got := New(Config{Store: s, Registry: kinds, Domain: "x.y", Port: 81}).services("default")["backend"].AddressPort; got != "backend.x.y:81" {
		t.Errorf("got %s", got)
	}
}

func TestStates(t *testing.T) {
	s := memory.Open(kinds)
	defer s.Close()
	put(t, s, `{"type":"Mesh","name":"default"}`,
		dataplane("off", service("a")), connected("off", gone),
		dataplane("never", service("a")),
		dataplane("half", `"inbound":[{"port":1,"tags":{"kuma.io/service":"a"}},{"port":2,"state":"NotReady","tags":{"kuma.io/service":"b"}}]`), connected("half", ""),
		dataplane("ill", `"inbound":[{"port":1,"state":"NotReady","tags":{"kuma.io/service":"b"}},{"port":2,"state":"Ignored","tags":{"kuma.io/service":"c"}}]`), connected("ill", ""),
		dataplane("both", `"inbound":[{"port":1,"tags":{"kuma.io/service":"d"}},{"port":2,"tags":{"kuma.io/service":"d"}}]`), connected("both", ""),
		dataplane("own", `"gateway":{"tags":{"kuma.io/service":"gw"}}`), connected("own", ""),
		dataplane("built", `"gateway":{"type":"BUILTIN","tags":{"kuma.io/service":"edge"}}`), connected("built", gone),
		`{"type":"ExternalService","mesh":"default","name":"x","tags":{"kuma.io/service":"out","kuma.io/zone":"zone-9"},"networking":{"address":"192.0.2.9:80"}}`)
	m := OfMesh(s, kinds, "default")
	equal(t, m.Dataplanes, `{"total":7,"online":2,"offline":4,"partiallyDegraded":1}`)
	equal(t, m.DataplanesByType, `{"standard":{"total":5,"online":1,"offline":3,"partiallyDegraded":1},"gateway":{"total":2,"online":1,"offline":1},
		"gatewayBuiltin":{"total":1,"offline":1},"gatewayDelegated":{"total":1,"online":1}}`)
	equal(t, m.DPVersions.Envoy, `{"1.40.0":{"total":6,"online":2,"offline":3,"partiallyDegraded":1},"unknown":{"total":1,"offline":1}}`)
	got := map[string][2]string{}
	for name, sum := range Services(s, "default") {
		got[name] = [2]string{sum.Status, sum.ServiceType}
	}
	want := map[string][2]string{
		"a": {Degraded, ""}, "b": {Offline, ""}, "d": {Online, ""}, "gw": {Online, TypeGatewayDelegated}, "edge": {Offline, TypeGatewayBuiltin},
		"out": {NotAvailable, TypeExternal},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services: -want +got:\n%s", diff)
	}
	equal(t, m.Services, `{"total":6,"internal":5,"external":1}`)
	if d := Services(s, "default")["d"].Dataplanes; d.Total != 1 {
		t.Errorf("a proxy with two inbounds of a service counts as %d", d.Total)
	}
}

// run keeps insights until stop is called.
func run(t *testing.T, s store.Store, interval time.Duration) (stop func()) {
	t.Helper()
	w := New(Config{Store: s, Registry: kinds, Interval: interval})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// await waits for an insight that ok accepts.
func await(t *testing.T, s store.Store, key resource.Key, ok func(*resource.Resource) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, w := s.Watch()
	defer w.Close()
	for {
		if r, err := s.Get(key); err == nil && ok(r) {
			return
		}
		if _, err := w.Next(ctx); err != nil {
			t.Fatalf("wait for %s: %v", key, err)
		}
	}
}

var (
	meshKey     = resource.Key{Kind: resource.KindMeshInsight, Name: "default"}
	servicesKey = resource.Key{Kind: resource.KindServiceInsight, Mesh: "default", Name: "all-services-default"}
)

func online(want uint32) func(*resource.Resource) bool {
	return func(r *resource.Resource) bool {
		return resource.SpecOf[*resource.MeshInsight](r).Dataplanes.Online == want
	}
}

func TestFollows(t *testing.T) {
	s := memory.Open(kinds)
	defer s.Close()
	defer run(t, s, time.Millisecond)()
	fill(t, s)
	await(t, s, meshKey, online(2))
	await(t, s, servicesKey, func(r *resource.Resource) bool {
		return resource.SpecOf[*resource.ServiceInsight](r).Services["frontend"].Status == Online
	})
	put(t, s, connected("frontend-1", gone))
	await(t, s, meshKey, online(1))
	await(t, s, servicesKey, func(r *resource.Resource) bool {
		return resource.SpecOf[*resource.ServiceInsight](r).Services["frontend"].Status == Offline
	})
	drop(t, s, resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "frontend-1"})
	await(t, s, servicesKey, func(r *resource.Resource) bool {
		return len(resource.SpecOf[*resource.ServiceInsight](r).Services) == 1
	})
	drop(t, s, resource.Key{Kind: resource.KindMesh, Name: "default"})
	for _, k := range []resource.Key{meshKey, servicesKey} {
		if _, err := s.Get(k); err == nil {
			t.Errorf("%s outlived its mesh", k)
		}
	}
}

// TestGathers: what changes often is summed up at intervals, and counters of streams are no change.
func TestGathers(t *testing.T) {
	s := memory.Open(kinds)
	defer s.Close()
	defer run(t, s, time.Hour)()
	fill(t, s)
	await(t, s, meshKey, func(*resource.Resource) bool { return true })
	before, err := s.Get(meshKey)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, dataplane("third", service("backend")))
	w := New(Config{Store: s, Registry: kinds})
	old, err := s.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: "backend-1"})
	if err != nil {
		t.Fatal(err)
	}
	next := old.Clone()
	resource.SpecOf[*resource.DataplaneInsight](next).Subscriptions[0].Status = &resource.SubscriptionStatus{Total: resource.ServiceStats{ResponsesSent: 9}}
	w.note(store.Event{Action: store.Update, Old: old, New: next})
	if len(w.dirty) != 0 {
		t.Error("counters of a stream made a mesh dirty")
	}
	resource.SpecOf[*resource.DataplaneInsight](next).Subscriptions[0].DisconnectTime = "2026-01-01T00:00:01Z"
	w.note(store.Event{Action: store.Update, Old: old, New: next})
	if !w.dirty["default"] {
		t.Error("the end of a stream did not make its mesh dirty")
	}
	for i := range 3 {
		w.last = time.Now()
		w.due, w.dirty = time.Time{}, map[string]bool{}
		w.mark("default")
		if left := time.Until(w.due); left < DefaultInterval/2 {
			t.Errorf("%d: due in %s, before the interval is over", i, left)
		}
	}
	after, err := s.Get(meshKey)
	if err != nil || after.Version != before.Version {
		t.Errorf("summed up again within the interval: %v", err)
	}
}

// TestRestart: insights of an earlier life are corrected, those of now are left alone.
func TestRestart(t *testing.T) {
	path := t.TempDir() + "/store.db"
	open := func() store.Store {
		s, err := bolt.Open(path, kinds)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	stop := run(t, s, time.Millisecond)
	fill(t, s)
	await(t, s, meshKey, online(2))
	stop()
	put(t, s, connected("backend-1", gone)) // nobody sums up
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	defer run(t, s, time.Millisecond)()
	await(t, s, meshKey, online(1))
}

func TestClosedStore(t *testing.T) {
	s := memory.Open(kinds)
	fill(t, s)
	done := make(chan error, 1)
	go func() { done <- New(Config{Store: s, Registry: kinds}).Run(t.Context()) }()
	s.Close()
	if err := <-done; err == nil {
		t.Error("a closed store was not reported")
	}
}
