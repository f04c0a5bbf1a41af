package xds

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

const fieldsFile = "testdata/envoy132/fields.txt"

// knownFields are, for every message and enumeration that we send, the names that Envoy 1.32 knows: the oldest one that
// agents of the reference bring along. One that it does not know makes it refuse the whole resource.
var knownFields = sync.OnceValues(func() (map[string][]string, error) {
	b, err := os.ReadFile(fieldsFile)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		name, fields, _ := strings.Cut(strings.TrimSpace(line), ":")
		out[name] = strings.Fields(fields)
	}
	return out, nil
})

// unknownFields names what is set in a message and Envoy 1.32 does not know.
func unknownFields(m proto.Message) ([]string, error) {
	known, err := knownFields()
	if err != nil {
		return nil, err
	}
	var bad []string
	var walk func(m protoreflect.Message) error
	check := func(full protoreflect.FullName, name protoreflect.Name) {
		if one := fmt.Sprintf("%s.%s", full, name); !slices.Contains(known[string(full)], string(name)) && !slices.Contains(bad, one) {
			bad = append(bad, one)
		}
	}
	value := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
		switch {
		case fd.Message() != nil:
			return walk(v.Message())
		case fd.Enum() != nil:
			e := fd.Enum().Values().ByNumber(v.Enum())
			if e == nil {
				return nil // a status that has no name: the reference sends the number (contract effects-security.md §8)
			}
			check(fd.Enum().FullName(), e.Name())
		}
		return nil
	}
	walk = func(m protoreflect.Message) error {
		if a, ok := m.Interface().(*anypb.Any); ok {
			typ, err := (effect.Types{}).FindMessageByURL(a.TypeUrl)
			if err != nil {
				return err
			}
			inner := typ.New()
			if err := proto.Unmarshal(a.Value, inner.Interface()); err != nil {
				return err
			}
			return walk(inner)
		}
		full := m.Descriptor().FullName()
		if strings.HasPrefix(string(full), "google.protobuf.") {
			return nil
		}
		if known[string(full)] == nil {
			bad = append(bad, string(full)) // also a message without fields must be listed
		}
		var err error
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			check(full, fd.Name())
			switch {
			case fd.IsMap():
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = value(fd.MapValue(), v)
					return err == nil
				})
			case fd.IsList():
				for i := 0; i < v.List().Len() && err == nil; i++ {
					err = value(fd, v.List().Get(i))
				}
			default:
				err = value(fd, v)
			}
			return err == nil
		})
		return err
	}
	if err := walk(m.ProtoReflect()); err != nil {
		return nil, err
	}
	slices.Sort(bad)
	return slices.Compact(bad), nil
}

// checkFields is called for every resource that a golden test looks at.
func checkFields(t testing.TB, name string, m proto.Message) {
	t.Helper()
	bad, err := unknownFields(m)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(bad) > 0 {
		t.Errorf("%s: Envoy 1.32 does not know %s, or %s lacks the line (see main.go beside it)", name, strings.Join(bad, ", "), filepath.Base(fieldsFile))
	}
}

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
	known, err := knownFields()
	if err != nil {
		t.Fatal(err)
	}
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
