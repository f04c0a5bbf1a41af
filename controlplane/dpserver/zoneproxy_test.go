package dpserver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestZoneProxyBootstrap(t *testing.T) {
	f := start(t)
	f.put(&resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindZoneIngress, Name: "in"}},
		Spec: &resource.ZoneIngress{Networking: &resource.ZoneIngressNetworking{Address: "10.0.0.1", Port: 10001, Admin: &resource.Admin{Port: 9998}}},
	})
	cfg := bootstrap.Config{URL: "https://" + f.addr, CACert: f.ca, Backoff: time.Millisecond, MaxDuration: 20 * time.Millisecond}
	issue := func(zone string, scope ...string) string {
		raw, err := f.issuer.Zone(token.Zone{Zone: zone, Scope: scope}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	egress := "{type: ZoneEgress, name: out, networking: {address: 10.0.0.2, port: 10002, admin: {port: 9997}}}"
	for _, tt := range []struct {
		name, proxyType, proxy, token, resource string
		want                                    []string // in the bootstrap
		refusal                                 string
	}{
		{"registered", "ingress", "in", issue("", "ingress"), "", []string{"id: .in", "cluster: ingress", "dataplane.proxyType: ingress", "portValue: 9998"}, ""},
		{"brings its own", "egress", "out", issue("default", "ingress", "egress"), egress, []string{"id: .out", "cluster: egress", `"type":"ZoneEgress"`, "portValue: 9997"}, ""},
		{"not registered", "egress", "none", issue("", "egress"), "", nil, "not found"},
		{"other scope", "egress", "out", issue("", "ingress"), egress, nil, `token scope "ingress" does not contain "egress"`},
		{"other zone", "egress", "out", issue("far", "egress"), egress, nil, "zone of the control plane: default is different than in token: far"},
		{"of a dataplane", "egress", "out", f.token(token.Dataplane{Name: "out"}), egress, nil, "authentication failed"},
		{"no token", "egress", "out", "", egress, nil, "Zone Token is required"},
		{"other name", "egress", "in", issue("", "egress"), egress, nil, "name: the resource is out, the request is for in"},
		{"other kind", "ingress", "out", issue("", "ingress"), egress, nil, "type: the resource is a ZoneEgress, the request is for a ZoneIngress"},
		{"not valid", "egress", "out", issue("", "egress"), "{type: ZoneEgress, name: out, networking: {address: 0.0.0.0, port: 10002}}", nil, "networking.address"},
		{"no resource", "egress", "out", issue("", "egress"), "{]", nil, "dataplane resource: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The mesh that an agent names by mistake changes nothing: a zone proxy has none.
			resp, err := bootstrap.Fetch(t.Context(), cfg, bootstrap.Request{
				Mesh: "default", Name: tt.proxy, ProxyType: tt.proxyType, DataplaneToken: tt.token, DataplaneResource: tt.resource,
			})
			switch {
			case tt.refusal == "not found":
				if !errors.Is(err, bootstrap.ErrNotFound) {
					t.Errorf("got %v", err)
				}
				return
			case tt.refusal != "":
				if err == nil || !strings.Contains(err.Error(), tt.refusal) {
					t.Errorf("got %v, want %q", err, tt.refusal)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(resp.Bootstrap), want) {
					t.Errorf("no %q in\n%s", want, resp.Bootstrap)
				}
			}
			if strings.Contains(string(resp.Bootstrap), "hdsConfig") {
				t.Error("a zone proxy is to check the health of workloads")
			}
		})
	}
}
