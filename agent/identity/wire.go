package identity

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// method is the published certificate API (istio.io/api, security/v1alpha1/ca.proto). Its two messages have one field
// each that we use, so they are written by hand: the module's Go types bring a second protobuf runtime with them.
const method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

// certificateRequest is IstioCertificateRequest; field 1 is the request in PEM.
type certificateRequest struct{ csr []byte }

// certificateResponse is IstioCertificateResponse; field 1 is repeated, PEM, leaf first and root last.
type certificateResponse struct{ chain []string }

// wireCodec carries the two messages under protobuf's name.
type wireCodec struct{}

var _ encoding.CodecV2 = wireCodec{}

func (wireCodec) Name() string { return proto.Name }

func (wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	q, ok := v.(*certificateRequest)
	if !ok {
		return nil, fmt.Errorf("encode certificate request: unexpected %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(field(nil, 1, q.csr))}, nil
}

func (wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*certificateResponse)
	if !ok {
		return fmt.Errorf("decode certificate response: unexpected %T", v)
	}
	return a.decode(data.Materialize())
}

func (a *certificateResponse) decode(b []byte) error {
	if err := protofield.At(b, func(text []byte) error {
		a.chain = append(a.chain, string(text))
		return nil
	}, 1); err != nil {
		return fmt.Errorf("decode certificate response: %w", err)
	}
	return nil
}
