package relay

import (
	"bytes"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// Each message goes from Envoy's own type through ours and back without a loss.
func TestWireAgreesWithEnvoysTypes(t *testing.T) {
	body := &anypb.Any{TypeUrl: "type.googleapis.com/x", Value: []byte{0, 1, 2}}
	detail := &rpc.Status{Code: 13, Message: "no", Details: []*anypb.Any{body}}
	node := &core.Node{Id: "default.demo", Cluster: "demo"}
	for _, tc := range []struct {
		name string
		want proto.Message
		ours wireMessage
	}{
		{"delta request", &discovery.DeltaDiscoveryRequest{
			Node: node, TypeUrl: "t", ResourceNamesSubscribe: []string{"a", "*"}, ResourceNamesUnsubscribe: []string{"b"},
			InitialResourceVersions: map[string]string{"a": "1", "b": ""}, ResponseNonce: "n", ErrorDetail: detail,
		}, &deltaRequest{}},
		{"delta response", &discovery.DeltaDiscoveryResponse{
			SystemVersionInfo: "v", TypeUrl: "t", Nonce: "n", RemovedResources: []string{"x", "y"},
			Resources: []*discovery.Resource{{Name: "a", Version: "1", Resource: body}, {Name: "heartbeat", Version: "2"}},
		}, &deltaResponse{}},
		{"state request", &discovery.DiscoveryRequest{
			VersionInfo: "v", Node: node, ResourceNames: []string{"a", "b"}, TypeUrl: "t", ResponseNonce: "n", ErrorDetail: detail,
		}, &stateRequest{}},
		{"state response", &discovery.DiscoveryResponse{
			VersionInfo: "v", Resources: []*anypb.Any{body, {TypeUrl: "t"}}, TypeUrl: "t", Nonce: "n",
		}, &stateResponse{}},
		{"empty", &discovery.DeltaDiscoveryResponse{}, &deltaResponse{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := proto.Marshal(tc.want)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.ours.unmarshal(b); err != nil {
				t.Fatal(err)
			}
			clear(b) // what is kept must not point into the message
			back, err := tc.ours.marshal()
			if err != nil {
				t.Fatal(err)
			}
			got := tc.want.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(back, got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, protocmp.Transform()); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
		})
	}
}

func FuzzWire(f *testing.F) {
	b, err := proto.Marshal(&discovery.DeltaDiscoveryResponse{
		SystemVersionInfo: "v", TypeUrl: "t", Nonce: "n", RemovedResources: []string{"x"},
		Resources: []*discovery.Resource{{Name: "a", Version: "1", Resource: &anypb.Any{TypeUrl: "t", Value: []byte("v")}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint8(1))
	f.Add([]byte{0x3a, 0x02, 0x08, 0x0d}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		makers := []func() wireMessage{
			func() wireMessage { return &deltaRequest{} }, func() wireMessage { return &deltaResponse{} },
			func() wireMessage { return &stateRequest{} }, func() wireMessage { return &stateResponse{} },
		}
		m := makers[int(kind)%len(makers)]()
		if m.unmarshal(b) != nil {
			return
		}
		once, err := m.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again := makers[int(kind)%len(makers)]()
		if err := again.unmarshal(once); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		twice, err := again.marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("written %x, then %x, %v", once, twice, err)
		}
	})
}
