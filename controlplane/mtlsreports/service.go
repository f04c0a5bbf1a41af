package mtlsreports

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Service is mtlsreport.Service.
type Service struct {
	Reports *Reports
	// Authenticate returns the Dataplane of the caller, or an error with a code.
	Authenticate func(ctx context.Context) (*resource.Resource, error)
}

// Register adds the service to a server.
func (s *Service) Register(server grpc.ServiceRegistrar) {
	server.RegisterService(&grpc.ServiceDesc{ServiceName: mtlsreport.Service, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: mtlsreport.Method,
		Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := &wrapperspb.BytesValue{}
			if err := decode(in); err != nil {
				return nil, err
			}
			call := func(ctx context.Context, req any) (any, error) { return s.put(ctx, req.(*wrapperspb.BytesValue)) }
			if intercept == nil {
				return call(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: "/" + mtlsreport.Service + "/" + mtlsreport.Method}, call)
		},
	}}}, s)
}

func (s *Service) put(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	dp, err := s.Authenticate(ctx)
	if err != nil {
		return nil, err
	}
	report, err := mtlsreport.Decode(in.GetValue())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if !s.Reports.take(dp.Key, report, time.Now()) {
		return nil, status.Errorf(codes.ResourceExhausted, "%s reports too often: wait %s", dp.Key, tooSoon)
	}
	return &wrapperspb.BytesValue{}, nil
}
