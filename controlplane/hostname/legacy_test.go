package hostname

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

// tagged makes a Dataplane of mesh m with an inbound for each service.
func tagged(name string, services ...string) *resource.Resource {
	dp := &resource.Dataplane{Networking: &resource.Networking{Address: "10.0.0.1"}}
	for i, s := range services {
		dp.Networking.Inbound = append(dp.Networking.Inbound, &resource.Inbound{
			Port: uint32(80 + i), Tags: map[string]string{resource.TagService: s},
		})
	}
	return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: name}}, Spec: dp}
}

func inMode(mode string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}},
		Spec: &resource.Mesh{MeshServices: &resource.MeshServicesConf{Mode: mode}},
	}
}

// addresses are those of the stored record, by service.
func addresses(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	r, err := s.Get(configKey("m"))
	if err != nil {
		return nil
	}
	v, err := resource.ParseServiceVIPs(resource.SpecOf[*resource.Config](r))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for key, entry := range v {
		service, _ := resource.ServiceOfVIPKey(key)
		out[service] = entry.Address
	}
	return out
}

// TestLegacyAddresses drives one assigner step by step, and another as after a restart.
func TestLegacyAddresses(t *testing.T) {
	s := open(t)
	var l *legacy
	var w store.Watcher
	restart := func() {
		stored, next := s.Watch()
		if w != nil {
			w.Close()
		}
		w = next
		l = newLegacy(s, "zone-a", netip.MustParsePrefix("240.0.0.0/30"), DefaultLegacyPort, newAssigner(t, s).log)
		for _, r := range stored {
			l.take(nil, r)
		}
		if err := l.write(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	defer func() { w.Close() }()
	do := func(action store.Action, r *resource.Resource) {
		t.Helper()
		if _, err := s.Commit(t.Context(), store.Op{Action: action, Resource: r}); err != nil {
			t.Fatal(err)
		}
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			l.take(ev.Old, ev.New)
		}
		if err := l.write(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, addresses(t, s)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	expect("nothing to address", nil)
	do(store.Create, tagged("d1", "a", "b"))
	expect("two services", map[string]string{"a": "240.0.0.0", "b": "240.0.0.1"})
	record, err := s.Get(configKey("m"))
	if err != nil {
		t.Fatal(err)
	}
	const entry = `{"0:a":{"address":"240.0.0.0","outbounds":[{"Port":80,"TagSet":{"kuma.io/service":"a"},"Origin":"service"}]},`
	if got := resource.SpecOf[*resource.Config](record).Config; got[:len(entry)] != entry {
		t.Errorf("record: %s", got)
	}

	do(store.Create, tagged("d2", "b"))
	do(store.Update, tagged("d1", "a"))
	expect("b has another proxy", map[string]string{"a": "240.0.0.0", "b": "240.0.0.1"})
	do(store.Delete, tagged("d1"))
	expect("released", map[string]string{"b": "240.0.0.1"})
	do(store.Create, tagged("d3", "c"))
	expect("a free address is used as late as possible", map[string]string{"b": "240.0.0.1", "c": "240.0.0.2"})
	restart()
	expect("after a restart", map[string]string{"b": "240.0.0.1", "c": "240.0.0.2"})
	do(store.Create, tagged("d4", "d", "e", "f"))
	expect("the range is full", map[string]string{"b": "240.0.0.1", "c": "240.0.0.2", "d": "240.0.0.0", "e": "240.0.0.3"})
	do(store.Delete, tagged("d2"))
	expect("f gets what b had", map[string]string{"c": "240.0.0.2", "d": "240.0.0.0", "e": "240.0.0.3", "f": "240.0.0.1"})

	do(store.Update, inMode(resource.MeshServicesExclusive))
	do(store.Delete, tagged("d3"))
	before := addresses(t, s)
	expect("left alone in mode Exclusive", before)
	do(store.Update, inMode(resource.MeshServicesEverywhere))
	expect("the way back", map[string]string{"d": "240.0.0.0", "e": "240.0.0.3", "f": "240.0.0.1"})

	do(store.Update, tagged("d4", "d"))
	silent := tagged("d5", "ignored", "no-port")
	silent.Spec.(*resource.Dataplane).Networking.Inbound[0].State = resource.InboundIgnored
	silent.Spec.(*resource.Dataplane).Networking.Inbound[1].Port = serviceless
	do(store.Create, silent)
	expect("neither ignored nor without a port", map[string]string{"d": "240.0.0.0"})
	do(store.Create, &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindZoneIngress, Name: "far"}},
		Spec: &resource.ZoneIngress{Zone: "zone-b", AvailableServices: []resource.AvailableService{
			{Mesh: "m", Tags: map[string]string{resource.TagService: "remote"}}, {Mesh: "other", Tags: map[string]string{resource.TagService: "x"}},
		}},
	})
	expect("of another zone", map[string]string{"d": "240.0.0.0", "remote": "240.0.0.2"})

	// What somebody broke is made anew.
	for _, text := range []string{"{", `{"0:d":{"address":"240.0.0.1"},"0:remote":{"address":"240.0.0.1"},"0:gone":{"address":"240.0.0.0"}}`} {
		broken := &resource.Resource{Meta: resource.Meta{Key: configKey("m")}, Spec: &resource.Config{Config: text}}
		do(store.Update, broken)
		if got := addresses(t, s); len(got) != 2 || got["d"] == got["remote"] || got["d"] == "" || got["remote"] == "" {
			t.Errorf("after %s: %v", text, got)
		}
	}
	do(store.Delete, inMode(""))
	expect("with the mesh", nil)
}

// TestLegacyRun follows a store, and keeps addresses over a restart of everything.
func TestLegacyRun(t *testing.T) {
	s := open(t)
	stop := start(t, s, "241.0.0.0/8")
	commit(t, s, store.Create, tagged("d1", "a"))
	got := awaitRecord(t, s)
	stop()
	defer start(t, s, "241.0.0.0/8")()
	commit(t, s, store.Create, service("x", 0)) // once it has its address, the assigner is up
	await(t, s, service("x", 0).Key, hasAll)
	r, err := s.Get(configKey("m"))
	if err != nil || r.Version != got.Version {
		t.Errorf("the record was written again: %v, %v", r, err)
	}
}

func awaitRecord(t *testing.T, s store.Store) *resource.Resource {
	t.Helper()
	_, w := s.Watch()
	defer w.Close()
	for {
		if r, err := s.Get(configKey("m")); err == nil {
			return r
		}
		if _, err := w.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func newAssigner(t *testing.T, s store.Store) *Assigner {
	t.Helper()
	a, err := New(Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNewLegacy(t *testing.T) {
	if a := newAssigner(t, memory.Open(resource.NewRegistry())); a.legacy.prefix.String() != DefaultLegacyCIDR || a.legacy.port != 80 {
		t.Errorf("range %s, port %d", a.legacy.prefix, a.legacy.port)
	}
	if a, err := New(Config{NoLegacy: true}); err != nil || a.legacy != nil {
		t.Errorf("switched off: %v, %v", a, err)
	}
	for _, cidr := range []string{"241.0.0.0/8", "243.7.0.0/16", "240.0.0.0/3"} {
		_, err := New(Config{LegacyCIDR: netip.MustParsePrefix(cidr)})
		if refused := err != nil; refused != (cidr != "240.0.0.0/3") {
			t.Errorf("%s: %v", cidr, err)
		}
	}
}

// BenchmarkLegacy is one value of kuma.io/service more, and one less, among ten thousand.
func BenchmarkLegacy(b *testing.B) {
	l := newLegacy(nil, "z", netip.MustParsePrefix(DefaultLegacyCIDR), 80, slog.New(slog.DiscardHandler))
	m := l.mesh("m")
	m.mode = resource.MeshServicesDisabled
	owner := map[resource.Key]bool{service("a", 0).Key: true}
	for i := range 10_000 {
		m.owners[fmt.Sprint("service-", i)] = owner
	}
	stored := l.decide("m", nil).Resource
	for i := 0; b.Loop(); i++ {
		m.owners[fmt.Sprint("new-", i)] = owner
		delete(m.owners, fmt.Sprint("new-", i-1))
		op := l.decide("m", stored)
		if op.Resource == nil {
			b.Fatal("nothing is to be written")
		}
		stored = op.Resource
	}
}
