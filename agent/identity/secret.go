package identity

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// secret writes Secret{name=1, tls_certificate=2{certificate_chain=1, private_key=2: DataSource{inline_bytes=2}}} by hand:
// linking Envoy's TLS types would cost more than they are worth here.
func secret(name string, chain, key []byte) *anypb.Any {
	certificate := field(field(nil, 1, field(nil, 2, chain)), 2, field(nil, 2, key))
	return &anypb.Any{TypeUrl: secretType, Value: field(field(nil, 1, []byte(name)), 2, certificate)}
}

func field(to []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), content)
}
