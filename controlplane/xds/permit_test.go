package xds

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TestRegisteredMeanwhile: somebody else's Dataplane appears under the name between the look at what is stored and the write.
// It is neither replaced nor taken away, and the proxy is refused.
func TestRegisteredMeanwhile(t *testing.T) {
	both(t, func(t *testing.T, connect func(*rig, context.Context, *corev3.Node) peer) {
		asked := 0
		var r *rig
		r = newRig(t, func(c *Config, _ *LifecycleConfig) {
			c.Authenticate = func(_ context.Context, _ string, n *Node) error {
				n.Permit = func(d *resource.Dataplane) error { //nolint:contextcheck // it is the test that writes
					if asked++; asked == 1 { // about the one that it brings: nothing is stored yet
						r.put(strings.ReplaceAll(foreignYAML, "NAME", "client-1"))
					}
					if got := d.Networking.Inbound; len(got) > 0 && got[0].Tags[resource.TagService] == "db" {
						return errors.New("tags of another")
					}
					return nil
				}
				return nil
			}
		})
		p := connect(r, r.ctx(), node("client-1"))
		p.subscribe(TypeListener)
		err := recvError(p)
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "tags of another") {
			t.Errorf("got %v", err)
		}
		stored, err := r.store.Get(resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "client-1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := resource.SpecOf[*resource.Dataplane](stored).Networking.Address; got != "10.0.0.66" {
			t.Errorf("it was replaced: its address is %s", got)
		}
		r.life.mu.Lock()
		defer r.life.mu.Unlock()
		if len(r.life.proxies)+len(r.life.joining) != 0 {
			t.Errorf("the refused proxy is still known: %v %v", r.life.proxies, r.life.joining)
		}
	})
}

const foreignYAML = `
type: Dataplane
mesh: default
name: NAME
networking:
  address: 10.0.0.66
  inbound: [{port: 5432, tags: {kuma.io/service: db}}]
`
