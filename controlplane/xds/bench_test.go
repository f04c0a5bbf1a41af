package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
)

// bigWorld has services with ten proxies each; every proxy reaches ten services.
func bigWorld(b *testing.B, services, replicas int) *topology.World {
	b.Helper()
	s := &scene{zone: "zone-1"}
	var docs strings.Builder
	docs.WriteString(meshYAML)
	for i := range services {
		var refs strings.Builder
		for k := range 10 {
			fmt.Fprintf(&refs, "{kind: MeshService, name: s-%d}, ", (i+k)%services)
		}
		for k := range replicas {
			fmt.Fprintf(&docs, `
---
type: Dataplane
mesh: default
name: s-%d-%d
networking:
  address: 10.%d.%d.1
  inbound: [{port: 8080, tags: {kuma.io/service: s-%d, kuma.io/protocol: http}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001, reachableBackends: {refs: [%s]}}
`, i, k, i, k, i, refs.String())
		}
	}
	if skipped := s.add(b, []byte(docs.String())); skipped != nil {
		b.Fatal(skipped)
	}
	s.resources = append(s.resources, all.DefaultPolicies("default", nil)...)
	for i, r := range s.resources {
		r.Version = uint64(i + 1)
	}
	s.generateServices()
	return s.world(b, func(i int, _ string) string { return fmt.Sprintf("241.0.%d.%d", i/250, i%250) }, nil)
}

func benchmarkGenerate(b *testing.B, fresh bool) {
	b.Helper()
	w := bigWorld(b, 100, 10)
	m := w.Meshes["default"]
	g, book := NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-1")
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n%len(m.Dataplanes) == 0 && fresh {
			g, book = NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-1")
		}
		dp := m.Dataplanes[n%len(m.Dataplanes)]
		n++
		rules, err := book.rules(w, m, dp, false)
		if err != nil {
			b.Fatal(err)
		}
		_, err = g.Generate(Input{
			Mesh: m, Dataplane: dp, Zone: "zone-1", Rules: rules, TrustBundle: []byte("CA"), Identity: &KeyPair{Cert: []byte("C"), Key: []byte("K")},
			Meta: Meta{AdminPort: 9901, ReadinessPort: 9902, DNSPort: 15053},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoin is one proxy of a thousand that join a fresh control plane.
func BenchmarkJoin(b *testing.B) { benchmarkGenerate(b, true) }

// BenchmarkAgain is one proxy whose inputs were seen before.
func BenchmarkAgain(b *testing.B) { benchmarkGenerate(b, false) }

// BenchmarkPutToPush is the time from a PUT to the response that a connected proxy gets, without Envoy's share.
func BenchmarkPutToPush(b *testing.B) {
	r := newRig(b)
	p := r.delta(b.Context(), node("client-1"), nil)
	p.subscribe(TypeCluster)
	p.ack(p.next())
	spans := []string{"2s", "3s"}
	i := 0
	for b.Loop() {
		// An isolated change: the window of the debounce must have closed.
		b.StopTimer()
		<-time.After(3 * quiet)
		b.StartTimer()
		r.put(timeout("short", spans[i%2]))
		i++
		p.ack(p.next())
	}
}
