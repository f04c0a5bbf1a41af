package relay

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/authn"
)

// healthMethod is the only method besides ADS that passes to the control plane (contract agent.md §4.9).
const healthMethod = "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck"

// frame is a message that passes undecoded.
type frame struct{ data []byte }

// frameCodec carries frames as they are, and the messages of the discovery API.
type frameCodec struct{}

func (frameCodec) Name() string { return proto.Name }

func (frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *frame:
		return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
	case wireMessage:
		b, err := m.marshal()
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return encoding.GetCodecV2(proto.Name).Marshal(v)
}

func (frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *frame:
		m.data = data.Materialize()
		return nil
	case wireMessage:
		return m.unmarshal(data.Materialize())
	}
	return encoding.GetCodecV2(proto.Name).Unmarshal(data, v)
}

// pass carries Envoy's health checking stream to the control plane and back, adding the token. It ends when either side
// ends it; Envoy then tries again by itself.
func (r *Relay) pass(_ any, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	if method == accessLogMethod && r.cfg.AccessLog != nil {
		return accessLog(down, r.cfg.AccessLog())
	}
	if method != healthMethod {
		return status.Errorf(codes.Unimplemented, "the relay does not pass %s", method)
	}
	ctx, err := authn.Outgoing(down.Context(), r.cfg.Token)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	up, err := r.cfg.Upstream.NewStream(ctx, desc, method, grpc.ForceCodecV2(frameCodec{}))
	if err != nil {
		return fmt.Errorf("pass health checks to the control plane: %w", err)
	}
	go func() { // ends with ctx, which ends when this handler returns
		for {
			f := &frame{}
			if err := down.RecvMsg(f); err != nil {
				_ = up.CloseSend() // the stream is over either way
				return
			}
			if err := up.SendMsg(f); err != nil {
				return // RecvMsg below tells why
			}
		}
	}()
	for {
		f := &frame{}
		if err := up.RecvMsg(f); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := down.SendMsg(f); err != nil {
			return err
		}
	}
}
