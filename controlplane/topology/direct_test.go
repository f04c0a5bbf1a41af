package topology

import (
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
)

const directWorld = `
{type: Mesh, name: m, meshServices: {mode: Exclusive}}
---
{type: Dataplane, mesh: m, name: client, networking: {address: 10.0.0.9, inbound: [{port: 8080, tags: {kuma.io/service: back}}], transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001, directAccessServices: [back]}}}
---
{type: Dataplane, mesh: m, name: other, networking: {address: 10.0.0.8, inbound: [{port: 8080, tags: {kuma.io/service: other}}, {port: 8081, tags: {kuma.io/service: back}}, {port: 8081, tags: {kuma.io/service: back}}]}}
---
{type: Dataplane, mesh: m, name: named, networking: {address: host.example, inbound: [{port: 8080, tags: {kuma.io/service: back}}]}}
`

// TestDirectEndpoints: an instance can be reached by its address whether or not it gets calls of the service.
func TestDirectEndpoints(t *testing.T) {
	s := memory.Open(registry())
	defer s.Close()
	for _, r := range yaml(t, directWorld) {
		put1(t, s, r)
	}
	tr, stop := start(t, s)
	defer stop()
	touched := make(chan Scope, 8)
	defer tr.Subscribe(func(c Change) { touched <- c.Proxies[ProxyID{"m", "client"}] })()
	want := func(places string) {
		t.Helper()
		m := tr.Current().Meshes["m"]
		if got := fmt.Sprint(m.DirectEndpoints(m.Dataplane("client"))); got != places {
			t.Errorf("got %s, want %s", got, places)
		}
	}
	want("[10.0.0.8:8081]")
	for _, tt := range []struct {
		dataplane, places string
		scope             Scope
	}{
		{
			`{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.1, inbound: [{port: 9000, state: NotReady, tags: {kuma.io/service: back}}]}}`,
			"[10.0.0.1:9000 10.0.0.8:8081]", ScopeFull,
		},
		{
			`{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.1, inbound: [{port: 9000, state: Ignored, tags: {kuma.io/service: back}}]}}`,
			"[10.0.0.1:9000 10.0.0.8:8081]", 0,
		},
		{
			`{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.1, inbound: [{port: 9001, state: Ignored, tags: {kuma.io/service: back}}]}}`,
			"[10.0.0.1:9001 10.0.0.8:8081]", ScopeFull,
		},
		{
			`{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.1, inbound: [{port: 9001, tags: {kuma.io/service: other}}]}}`,
			"[10.0.0.8:8081]", ScopeFull,
		},
	} {
		put1(t, s, yaml(t, tt.dataplane)[0])
		if got := <-touched; got != tt.scope {
			t.Errorf("after %s the client is touched as %d, want %d", tt.dataplane, got, tt.scope)
		}
		want(tt.places)
	}
}
