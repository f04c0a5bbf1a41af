package meshloadbalancingstrategy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// clients are in zone here and have tags; the second reaches other zones through an egress.
func clients() []effect.Env {
	tags := map[string][]string{"rack": {"r1", "r2"}, "row": {"w1"}, "kuma.io/zone": {"here"}}
	return []effect.Env{{Zone: "here", Tags: tags}, {Zone: "here", Tags: tags, ThroughEgress: true}}
}

// endpoints are in three zones: one in the rack of the client, one in its row, one in neither, two far away.
func endpoints() *endpointv3.ClusterLoadAssignment {
	endpoint := func(address string, tags ...string) *endpointv3.LbEndpoint {
		fields := map[string]*structpb.Value{}
		for _, t := range tags {
			k, v, _ := strings.Cut(t, "=")
			fields[k] = structpb.NewStringValue(v)
		}
		return &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: effect.SocketAddress(address, 1)}},
			Metadata:       &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {Fields: fields}}},
		}
	}
	zone := func(name string, e ...*endpointv3.LbEndpoint) *endpointv3.LocalityLbEndpoints {
		return &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: name}, LbEndpoints: e}
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: "b", Endpoints: []*endpointv3.LocalityLbEndpoints{
		zone("east", endpoint("east")),
		zone("here", endpoint("rack", "rack=r1", "row=w1"), endpoint("row", "rack=r2", "row=w1"), endpoint("other", "rack=r9")),
		zone("west", endpoint("west", "rack=r1")),
	}}
}

// picture is one line a locality: priority, name, weight, endpoints.
func picture(cla *endpointv3.ClusterLoadAssignment) []string {
	var out []string
	for _, g := range cla.Endpoints {
		line := fmt.Sprintf("%d %s", g.Priority, g.Locality.Zone)
		if g.Locality.SubZone != "" {
			line += "/" + g.Locality.SubZone
		}
		if w := g.LoadBalancingWeight; w != nil {
			line += fmt.Sprintf(" %d", w.Value)
		}
		line += ":"
		for _, e := range g.LbEndpoints {
			line += " " + e.GetEndpoint().Address.GetSocketAddress().Address
		}
		out = append(out, line)
	}
	return out
}

// TestLocality follows contract effects-routing.md §10.2 line by line.
func TestLocality(t *testing.T) {
	const egressOf1Any, egressOfNone = "egress_kdKi+4SX", "egress_47DEQpj8"
	for _, tt := range []struct {
		name, conf string
		client     int
		factor     uint32
		want       []string
	}{
		{"an algorithm alone", `{"loadBalancer":{"type":"Random"}}`, 0, 0, []string{"1 east: east", "0 here: rack row other", "1 west: west"}},
		{"nothing about zones", `{"localityAwareness":{}}`, 0, 0, []string{"1 east: east", "0 here: rack row other", "1 west: west"}},
		{"disabled", `{"localityAwareness":{"disabled":true}}`, 0, 0, []string{"0 east: east", "0 here: rack row other", "0 west: west"}},
		{"disabled, with zones", `{"localityAwareness":{"disabled":true,"crossZone":{"failover":[{"to":{"type":"Any"}}]}}}`, 0, 200, []string{"1 east: east", "0 here 1: other rack row", "1 west: west"}},
		{"no failover", `{"localityAwareness":{"crossZone":{}}}`, 0, 200, []string{"0 here 1: other rack row"}},
		{"to none", `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"None"}},{"to":{"type":"Only","zones":["west"]}}]}}}`, 0, 200, []string{"0 here 1: other rack row", "2 west: west"}},
		{"in order", `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"Only","zones":["west"]}},{"to":{"type":"Any"}}]}}}`, 0, 200, []string{"2 east: east", "0 here 1: other rack row", "1 west: west"}},
		{"all but one", `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"AnyExcept","zones":["west"]}}]}}}`, 0, 200, []string{"1 east: east", "0 here 1: other rack row"}},
		{"from elsewhere", `{"localityAwareness":{"crossZone":{"failover":[{"from":{"zones":["x"]},"to":{"type":"Any"}},{"from":{"zones":["x","here"]},"to":{"type":"Only","zones":["east"]}}]}}}`, 0, 200, []string{"2 east: east", "0 here 1: other rack row"}},
		{"a threshold", `{"localityAwareness":{"crossZone":{"failoverThreshold":{"percentage":"33.3"}}}}`, 0, 300, []string{"0 here 1: other rack row"}},
		{"tags", `{"localityAwareness":{"localZone":{"affinityTags":[{"key":"absent"},{"key":"rack"},{"key":"row"}]}}}`, 0, 200, []string{"0 here 1: other", "0 here/rack=r1 90: rack", "0 here/row=w1 9: row"}},
		{"weights", `{"localityAwareness":{"localZone":{"affinityTags":[{"key":"row","weight":7},{"key":"rack","weight":3}]}}}`, 0, 200, []string{"0 here 1: other", "0 here/row=w1 7: rack row"}},
		{"no tags", `{"localityAwareness":{"localZone":{"affinityTags":[]}}}`, 0, 200, []string{"0 here 1: other rack row"}},
		{"egress, any", `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"Any"}}]}}}`, 1, 200, []string{"1 " + egressOf1Any + ": east west", "0 here 1: other rack row"}},
		{"egress, none", `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"None"}}]}}}`, 1, 200, []string{"1 " + egressOfNone + ": east west", "0 here 1: other rack row"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cla := endpoints()
			key, arrange := Endpoints(clients()[tt.client], &effect.Backend{LegacyService: "b"}, forMesh(parse(t, tt.conf)))
			if key != "" {
				arrange(cla)
			}
			if diff := gocmp.Diff(tt.want, picture(cla)); diff != "" {
				t.Errorf("localities (-want +got):\n%s", diff)
			}
			if got := cla.GetPolicy().GetOverprovisioningFactor().GetValue(); got != tt.factor {
				t.Errorf("factor is %d, want %d", got, tt.factor)
			}
		})
	}
}

// TestKeyTellsClientsApart: endpoints are shared between clients with equal keys.
func TestKeyTellsClientsApart(t *testing.T) {
	const conf = `{"localityAwareness":{"localZone":{"affinityTags":[{"key":"rack"}]}}}`
	key := func(env effect.Env, conf string) string {
		k, _ := Endpoints(env, &effect.Backend{LegacyService: "b"}, forMesh(parse(t, conf)))
		return k
	}
	with := func(change func(*effect.Env)) effect.Env {
		env := effect.Env{Zone: "here", Tags: map[string][]string{"rack": {"r1"}, "row": {"w1"}}}
		change(&env)
		return env
	}
	keys := []string{
		key(with(func(*effect.Env) {}), conf),
		key(with(func(e *effect.Env) { e.Tags["rack"] = []string{"r2"} }), conf),
		key(with(func(e *effect.Env) { delete(e.Tags, "rack") }), conf),
		key(with(func(e *effect.Env) { e.Zone = "there" }), conf),
		key(with(func(e *effect.Env) { e.ThroughEgress = true }), conf),
		key(with(func(*effect.Env) {}), `{"localityAwareness":{"localZone":{"affinityTags":[{"key":"rack","weight":5}]}}}`),
		key(with(func(*effect.Env) {}), `{"localityAwareness":{"crossZone":{"failover":[{"to":{"type":"Any"}}]}}}`),
		key(with(func(*effect.Env) {}), `{"loadBalancer":{"type":"Random"}}`),
		key(with(func(*effect.Env) {}), `{"localityAwareness":{"disabled":true}}`),
	}
	slices.Sort(keys)
	if unique := slices.Compact(slices.Clone(keys)); len(unique) != len(keys) {
		t.Errorf("keys are not unlike: %q", keys)
	}
	if a, b := key(with(func(*effect.Env) {}), conf), key(with(func(e *effect.Env) { e.Tags["row"] = nil }), conf); a != b {
		t.Errorf("a tag that does not matter is in the key: %s, %s", a, b)
	}
}
