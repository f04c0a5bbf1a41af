package xds

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"
)

// snapshotOf draws clusters and endpoints with a few names and contents.
func snapshotOf(t *rapid.T) *Snapshot {
	b := &builder{}
	for _, typeURL := range []string{TypeCluster, TypeEndpoint} {
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(t, "names") {
			content := rapid.StringOfN(rapid.RuneFrom([]rune("xyz")), 1, 1, -1).Draw(t, "content")
			b.add(typeURL, &Resource{
				Name: name, Version: hash([]byte(content)),
				Any: &anypb.Any{TypeUrl: typeURL, Value: []byte(fmt.Sprintf("\n\x01%s%s", name, content))},
			})
		}
	}
	return b.snapshot(nil)
}

// TestDeltaConverges plays a peer that subscribes, unsubscribes, refuses, reconnects and sees snapshots change: after each
// push it has exactly what it asks for, in the version of the snapshot.
func TestDeltaConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := map[string]map[string]string{TypeCluster: {}, TypeEndpoint: {}}
		wants := map[string]map[string]bool{TypeCluster: {}, TypeEndpoint: {}}
		all, subscribed := map[string]bool{}, map[string]bool{}
		var d *delta
		connect := func() {
			d = &delta{stream: newTestStream(), subs: map[string]*deltaSub{}, open: map[string]unanswered{}}
			d.send = func(r *discoveryv3.DeltaDiscoveryResponse) error {
				for _, res := range r.Resources {
					have[r.TypeUrl][res.Name] = res.Version
				}
				for _, n := range r.RemovedResources {
					delete(have[r.TypeUrl], n)
				}
				return nil
			}
		}
		connect()
		snap := snapshotOf(t)
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		typ := rapid.SampledFrom([]string{TypeCluster, TypeEndpoint})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				sent := 0
				inner := d.send
				if err := d.push(snap); err != nil {
					t.Fatal(err)
				}
				d.send = func(r *discoveryv3.DeltaDiscoveryResponse) error { sent++; return inner(r) }
				if err := d.push(snap); err != nil || sent > 0 {
					t.Fatalf("a second push of the same snapshot sends %d responses, %v", sent, err)
				}
				d.send = inner
				for typeURL := range subscribed {
					want := map[string]string{}
					for n, r := range snap.Resources(typeURL) {
						if all[typeURL] || wants[typeURL][n] {
							want[n] = r.Version
						}
					}
					if diff := gocmp.Diff(want, have[typeURL]); diff != "" {
						t.Fatalf("%s: the peer has (-want +got):\n%s", typeURL, diff)
					}
				}
			},
			"change": func(t *rapid.T) { snap = snapshotOf(t) },
			"subscribe": func(t *rapid.T) {
				typeURL, n := typ.Draw(t, "type"), name.Draw(t, "name")
				if all[typeURL] {
					return
				}
				subscribed[typeURL], wants[typeURL][n] = true, true
				d.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{n}})
			},
			"everything": func(t *rapid.T) {
				typeURL := typ.Draw(t, "type")
				subscribed[typeURL], all[typeURL] = true, true
				d.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}})
			},
			"unsubscribe": func(t *rapid.T) {
				typeURL, n := typ.Draw(t, "type"), name.Draw(t, "name")
				if !subscribed[typeURL] || all[typeURL] {
					return
				}
				delete(wants[typeURL], n)
				delete(have[typeURL], n) // who unsubscribes forgets
				d.request(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesUnsubscribe: []string{n}})
			},
			"refuse": func(*rapid.T) {
				for n := range d.open {
					d.request(&discoveryv3.DeltaDiscoveryRequest{
						TypeUrl: TypeCluster, ResponseNonce: n, ResourceNamesSubscribe: nil, ErrorDetail: &status.Status{Message: "no"},
					})
					if !subscribed[TypeCluster] {
						subscribed[TypeCluster], all[TypeCluster] = true, true // a first request without names
					}
					return
				}
			},
			"reconnect": func(*rapid.T) {
				connect()
				for typeURL := range subscribed {
					var names []string
					for n := range wants[typeURL] {
						names = append(names, n)
					}
					if all[typeURL] {
						names = append(names, "*")
					}
					if len(names) == 0 {
						delete(subscribed, typeURL)
						clear(have[typeURL])
						continue
					}
					d.request(&discoveryv3.DeltaDiscoveryRequest{
						TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: maps.Clone(have[typeURL]),
					})
				}
			},
		})
	})
}

// TestSotwConverges is the same for the state of the world, where a response is the whole of what was asked for.
func TestSotwConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, versions, nonces := map[string]string{}, "", ""
		var names []string
		var p *sotw
		sent := 0
		connect := func() {
			nonces = ""
			p = &sotw{stream: newTestStream(), subs: map[string]*sotwSub{}}
			p.send = func(r *discoveryv3.DiscoveryResponse) error {
				sent++
				clear(have)
				for _, a := range r.Resources {
					have[string(a.Value[2:3])] = hash(a.Value[3:])
				}
				versions, nonces = r.VersionInfo, r.Nonce
				return nil
			}
		}
		request := func(detail *status.Status) {
			p.request(&discoveryv3.DiscoveryRequest{
				TypeUrl: TypeEndpoint, ResourceNames: names, VersionInfo: versions, ResponseNonce: nonces, ErrorDetail: detail,
			})
		}
		connect()
		snap := snapshotOf(t)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if err := p.push(snap); err != nil {
					t.Fatal(err)
				}
				if len(names) == 0 {
					return
				}
				sent = 0
				request(nil)
				if err := p.push(snap); err != nil || sent > 0 {
					t.Fatalf("an acknowledged snapshot is sent again: %v", err)
				}
				want := map[string]string{}
				for _, n := range names {
					if r := snap.Resources(TypeEndpoint)[n]; r != nil {
						want[n] = r.Version
					}
				}
				if diff := gocmp.Diff(want, have); diff != "" {
					t.Fatalf("the peer has (-want +got):\n%s", diff)
				}
			},
			"change": func(t *rapid.T) { snap = snapshotOf(t) },
			"names": func(t *rapid.T) {
				names = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 1, 5, rapid.ID).Draw(t, "names")
				request(nil)
			},
			"refuse": func(*rapid.T) { request(&status.Status{Message: strings.Repeat("no", 2)}) },
			"stale": func(*rapid.T) {
				p.request(&discoveryv3.DiscoveryRequest{TypeUrl: TypeEndpoint, ResourceNames: []string{"stale"}, ResponseNonce: "old"})
			},
			"reconnect": func(*rapid.T) { connect(); request(nil) },
		})
	})
}

func newTestStream() *stream {
	s := New(Config{})
	return &stream{wake: make(chan struct{}, 1), log: s.log, sub: nobody{}}
}
