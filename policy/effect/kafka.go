package effect

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/kuma-dp/kuma-dp/policy/effect/seldom"
)

// kafkaType is Envoy's KafkaBroker message with the one field that is used. The generated Go type lives in a module of
// contributed extensions that is too large to depend on for one string.
var kafkaType = sync.OnceValue(func() protoreflect.MessageType {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:    proto.String("contrib/envoy/extensions/filters/network/kafka_broker/v3/kafka_broker.proto"),
		Package: proto.String("envoy.extensions.filters.network.kafka_broker.v3"),
		Syntax:  proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("KafkaBroker"),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name: proto.String("stat_prefix"), JsonName: proto.String("statPrefix"), Number: proto.Int32(1),
				Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
	}, nil)
	if err != nil {
		panic("kafka broker descriptor is wrong: " + err.Error()) // a constant of this file
	}
	return dynamicpb.NewMessageType(file.Messages().Get(0))
})

func kafkaBroker(statPrefix string) *Filter {
	m := kafkaType().New()
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfString(statPrefix))
	return &Filter{Name: FilterKafka, Config: m.Interface()}
}

// Types resolves every message that can be inside an Any of ours, for protojson. It is safe for concurrent use.
type Types struct{}

// FindMessageByName implements protoregistry.MessageTypeResolver.
func (Types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if name == kafkaType().Descriptor().FullName() {
		return kafkaType(), nil
	}
	return seldom.FindMessageByName(name)
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (t Types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return t.FindMessageByName(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (Types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (Types) FindExtensionByNumber(m protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(m, n)
}
