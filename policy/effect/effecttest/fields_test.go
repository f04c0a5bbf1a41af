package effecttest

import (
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestUnknownFields: later Envoys know more.
func TestUnknownFields(t *testing.T) {
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, tt := range []struct {
		m    proto.Message
		want string
	}{
		{&clusterv3.Cluster{Name: "a", DnsLookupFamily: clusterv3.Cluster_V4_ONLY}, ""},
		{later(t, &hcmv3.HttpConnectionManager{}), "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager." + laterField(t, &hcmv3.HttpConnectionManager{})},
		{&clusterv3.Cluster{TypedExtensionProtocolOptions: map[string]*anypb.Any{"a": pack(later(t, &corev3.Http2ProtocolOptions{}))}}, "envoy.config.core.v3.Http2ProtocolOptions." + laterField(t, &corev3.Http2ProtocolOptions{})},
		{&clusterv3.Cluster{TypedExtensionProtocolOptions: map[string]*anypb.Any{"a": pack(&durationpb.Duration{Seconds: 1})}}, ""},
	} {
		got, err := unknownFields(tt.m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%v: got %v, want %s", tt.m, got, tt.want)
		}
	}
}

// laterField names a field of a message that the list does not have.
func laterField(t *testing.T, m proto.Message) string {
	t.Helper()
	known := knownFields()
	d := m.ProtoReflect().Descriptor()
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if !slices.Contains(known[string(d.FullName())], string(f.Name())) && f.Message() != nil && !f.IsList() && !f.IsMap() {
			return string(f.Name())
		}
	}
	t.Fatalf("no field of %s is new", d.FullName())
	return ""
}

func later(t *testing.T, m proto.Message) proto.Message {
	t.Helper()
	f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(laterField(t, m)))
	m.ProtoReflect().Set(f, m.ProtoReflect().NewField(f))
	return m
}
