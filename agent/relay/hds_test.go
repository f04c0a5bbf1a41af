package relay_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

// Health checks pass both ways, whatever they are, with the token added; nothing else does.
func TestHealthChecksPass(t *testing.T) {
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.health.v3.HealthDiscoveryService", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "StreamHealthCheck", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(s.Context())
			for {
				var in wrapperspb.StringValue
				if err := s.RecvMsg(&in); err != nil {
					return status.Error(codes.ResourceExhausted, "enough")
				}
				if err := s.SendMsg(wrapperspb.String(in.GetValue() + " for " + md.Get("authorization")[0])); err != nil {
					return err
				}
			}
		}}},
	}, struct{}{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-served })
	_, path := run(t, &peer{addr: l.Addr().String()}, func(c *relay.Config) { c.Token = func() (string, error) { return "raw", nil } })

	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	s, err := conn.NewStream(ctx, desc, "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck", grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := s.SendMsg(wrapperspb.String(text)); err != nil {
			t.Fatal(err)
		}
		var got wrapperspb.StringValue
		if err := s.RecvMsg(&got); err != nil || got.GetValue() != text+" for raw" {
			t.Fatalf("got %q, %v", got.GetValue(), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the stream ended with %v, want the control plane's status", err)
	}
	for _, method := range []string{"/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats", "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"} {
		other, err := conn.NewStream(ctx, desc, method)
		if err == nil {
			err = other.RecvMsg(&wrapperspb.StringValue{})
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want Unimplemented", method, err)
		}
	}
}
