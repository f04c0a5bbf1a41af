package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// Watch asks the Workload API on the unix socket at path for X.509 identities and calls took with each answer, until the
// stream or ctx ends; it never returns nil before that. Errors of the server keep their gRPC code.
func Watch(ctx context.Context, path string, took func(*X509Response)) error {
	conn, err := grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel tells the other side who we are
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("prepare connection to %s: %w", path, err)
	}
	defer func() { _ = conn.Close() }() // it has been used up
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, header, headerValue))
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+service+"/FetchX509SVID", grpc.ForceCodecV2(codec{}))
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(&empty{}), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) { // RecvMsg says why
		return err
	}
	for {
		var r X509Response
		if err := stream.RecvMsg(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the workload API ended the stream")
			}
			return err
		}
		took(&r)
	}
}
