package xds

import (
	"errors"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

func TestInspect(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	r.put(timeout("short", "2s"))
	p := r.sotw(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next() // everything before is known to the topology now
	for _, name := range []string{"backend-1", "client-1"} {
		cfg, err := r.srv.ConfigOf("default", name, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cfg[TypeSecret]["identity_cert:secret:default"]); !strings.Contains(got, `"S0VZ"`) {
			t.Errorf("%s: secret is %s, want a placeholder", name, got)
		}
		if cfg[TypeListener][adminName] != nil {
			t.Errorf("%s: the configuration has what only metadata tells", name)
		}
	}
	rules, err := r.srv.Rules("default", "client-1", false)
	if err != nil || len(rules) != 1 || rules[0].Kind != resource.Kind("MeshTimeout") {
		t.Errorf("rules are %v, %v", rules, err)
	}
	if _, err := r.srv.ConfigOf("default", "nobody", false); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
	if _, err := r.srv.Rules("nowhere", "client-1", false); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
}

func TestConfigOfEveryProtocol(t *testing.T) {
	r := newRig(t)
	r.put(`
type: Dataplane
mesh: default
name: all-1
networking:
  address: 10.0.0.7
  inbound:
  - {port: 7001, tags: {kuma.io/service: a, kuma.io/protocol: kafka}}
  - {port: 7002, tags: {kuma.io/service: b, kuma.io/protocol: grpc}}
`)
	r.awaitDataplane("all-1")
	cfg, err := r.srv.ConfigOf("default", "all-1", false)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cfg[TypeListener]["inbound:10.0.0.7:7001"]); !strings.Contains(got, "KafkaBroker") {
		t.Errorf("listener is %s", got)
	}
}

func TestAdminEndpoint(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	if _, err := r.srv.AdminEndpoint("default", "nobody"); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
	p := r.sotw(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next()
	if _, err := r.srv.AdminEndpoint("default", "backend-1"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("error is %v", err)
	}
	connected := func(address string, port uint32) {
		r.srv.mu.Lock()
		defer r.srv.mu.Unlock()
		for _, p := range r.srv.proxies {
			p.meta.AdminAddress, p.meta.AdminPort = address, port
		}
	}
	connected("127.0.0.1", 9901)
	got, err := r.srv.AdminEndpoint("default", "client-1")
	if err != nil || !got.Secure || got.Port != 9901 || got.Address == "" {
		t.Errorf("endpoint is %+v, %v", got, err)
	}
	connected("127.0.0.1", 0)
	if _, err := r.srv.AdminEndpoint("default", "client-1"); err == nil || errors.Is(err, ErrNotConnected) {
		t.Errorf("an admin interface that is off: %v", err)
	}
}
