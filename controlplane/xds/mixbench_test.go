package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/bigmesh"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The mesh of the budgets: one proxy, 500 services and 100 policies of every kind that all apply to it.
var mixSize = bigmesh.Size{Zone: "zone-1", Services: 500, Replicas: 1, Reach: 1}

const mixPolicies = 100

// mixMeta is what a connected proxy of ours tells.
func mixMeta() Meta {
	return Meta{AdminPort: 9901, ReadinessPort: 9902, DNSPort: 15053, WorkDir: "/tmp/kuma", IPv6: true, Features: []string{FeatureIdentityCSR}}
}

func mixResources(tb testing.TB) []*resource.Resource {
	tb.Helper()
	documents := bigmesh.Documents(mixSize)
	for _, p := range bigmesh.Policies(mixPolicies, mixSize) {
		documents = append(documents, p.Document(0))
	}
	return decodeAll(tb, mixSize.Zone, documents)
}

// decodeAll gives each resource a version.
func decodeAll(tb testing.TB, zone string, documents []string) []*resource.Resource {
	tb.Helper()
	s := &scene{zone: zone}
	for _, d := range documents {
		for _, fault := range s.add(tb, []byte(d)) {
			tb.Error(fault)
		}
	}
	for i, r := range s.resources {
		r.Version = uint64(i + 1)
	}
	return s.resources
}

func mixInput(tb testing.TB, w *topology.World, book *rulebook) Input {
	tb.Helper()
	m := w.Meshes[bigmesh.Mesh]
	dp := m.Dataplane(bigmesh.Client)
	rules, err := book.rules(w, m, dp, false)
	if err != nil {
		tb.Fatal(err)
	}
	return Input{
		Mesh: m, Dataplane: dp, Zone: mixSize.Zone, Meta: mixMeta(), Rules: rules, TrustBundle: []byte("CA"),
		Admin: &AdminTLS{KeyPair: KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")}, ClientCA: []byte("CA")},
	}
}

// BenchmarkMixCold is the rules and the configuration of the proxy with nothing remembered.
func BenchmarkMixCold(b *testing.B) {
	w := topology.Build(mixSize.Zone, mixResources(b)...)
	b.ReportAllocs()
	for b.Loop() {
		snap, err := NewGenerator(all.Effects()).Generate(mixInput(b, w, newRulebook(all.Kinds(), mixSize.Zone)))
		if err != nil {
			b.Fatal(err)
		}
		if n := len(snap.Resources(TypeListener)); n < mixSize.Services || len(snap.Warnings()) > 0 {
			b.Fatalf("%d listeners, warnings %v", n, snap.Warnings())
		}
	}
}

// BenchmarkMixChange is a change of one policy, from its commit until the answer to the proxy is made: event, picture,
// touched proxies, rules, snapshot, delta. It leaves out the debounce, gRPC and Envoy.
func BenchmarkMixChange(b *testing.B) {
	seen := map[string]bool{}
	for _, p := range bigmesh.Policies(mixPolicies, mixSize) {
		name := fmt.Sprintf("%s/%s", map[bool]string{true: "service", false: "everybody"}[p.Service], p.Kind)
		if seen[name] {
			continue
		}
		seen[name] = true
		b.Run(name, func(b *testing.B) { benchmarkMixChange(b, p) })
	}
}

func benchmarkMixChange(b *testing.B, p bigmesh.Policy) {
	b.Helper()
	live := follow(b, mixSize.Zone)
	live.take(mixResources(b))
	srv := New(Config{
		Topology: live.tracker, Zone: mixSize.Zone, Kinds: all.Kinds(), Effects: all.Effects(), Registry: live.registry,
		TrustBundle: func(string) ([]byte, error) { return []byte("CA"), nil },
	})
	id := topology.ProxyID{Mesh: bigmesh.Mesh, Name: bigmesh.Client}
	sent := 0
	d := &delta{
		stream: &stream{sub: nobody{}}, subs: map[string]*deltaSub{}, open: map[string]unanswered{},
		send: func(r *discoveryv3.DeltaDiscoveryResponse) error { sent += len(r.Resources); return nil },
	}
	for _, typeURL := range []string{TypeCluster, TypeEndpoint, TypeListener, TypeSecret} {
		d.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}})
	}
	var snap *Snapshot
	serve := func() {
		next, _, err := srv.compute(b.Context(), id, topology.ScopeFull, mixMeta(), snap)
		if err != nil {
			b.Fatal(err)
		}
		snap = next
		if err := d.push(snap); err != nil {
			b.Fatal(err)
		}
	}
	serve()
	if sent < 3*mixSize.Services {
		b.Fatalf("%d resources at first", sent)
	}
	var times []time.Duration
	sent = 0
	version := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		version++
		r := live.decode(p.Document(version))
		b.StartTimer()
		since := time.Now()
		if _, err := live.store.Commit(b.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
			b.Fatal(err)
		}
		if c := <-live.changes; !c.All[id.Mesh] && c.Proxies[id] == 0 {
			b.Fatal("the proxy is not touched")
		}
		serve()
		times = append(times, time.Since(since))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "median-ns")
	b.ReportMetric(float64(sent)/float64(version), "resources/op")
}
