// Package spireagent stands in for a SPIRE agent in tests: it serves the X.509 part of the SPIFFE Workload API with go-spiffe's
// own types, so that what we wrote by hand meets what others made.
package spireagent

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Agent serves one identity after the other to whoever asks. Its methods may be called concurrently.
type Agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	server *grpc.Server
	ended  func() error // waits for the end of the server

	mu     sync.Mutex
	answer *workload.X509SVIDResponse
	deny   error
	change chan struct{} // closed and renewed at every change
	asked  chan struct{} // holds a token after a stream was opened
}

// Start serves on a unix socket that every user may connect to.
func Start(path string) (*Agent, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("start workload API: %w", err)
	}
	if err := os.Chmod(path, 0o777); err != nil { //nolint:gosec // as SPIRE's own
		return nil, fmt.Errorf("start workload API: %w", err)
	}
	a := &Agent{server: grpc.NewServer(), change: make(chan struct{}), asked: make(chan struct{}, 1)}
	workload.RegisterSpiffeWorkloadAPIServer(a.server, a)
	done := make(chan error, 1)
	go func() { done <- a.server.Serve(l) }()
	a.ended = sync.OnceValue(func() error { return <-done })
	return a, nil
}

// Close ends all streams and removes the socket. It may be called again.
func (a *Agent) Close() error {
	a.server.Stop()
	return a.ended()
}

// Give answers with these identities from now on, also those who have asked already.
func (a *Agent) Give(svids ...*workload.X509SVID) {
	a.set(&workload.X509SVIDResponse{Svids: svids}, nil)
}

// Deny answers with an error from now on, and ends all streams with it.
func (a *Agent) Deny(err error) { a.set(nil, err) }

func (a *Agent) set(answer *workload.X509SVIDResponse, deny error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.deny = answer, deny
	close(a.change)
	a.change = make(chan struct{})
}

// Asked receives after a stream was opened.
func (a *Agent) Asked() <-chan struct{} { return a.asked }

// FetchX509SVID sends the present identities and then each change.
func (a *Agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if err := checkHeader(stream.Context()); err != nil {
		return err
	}
	select {
	case a.asked <- struct{}{}:
	default:
	}
	for {
		a.mu.Lock()
		answer, deny, change := a.answer, a.deny, a.change
		a.mu.Unlock()
		if deny != nil {
			return deny
		}
		if answer != nil {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		select {
		case <-change:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("workload.spiffe.io"); len(got) != 1 || got[0] != "true" {
		return status.Errorf(codes.InvalidArgument, "security header missing from request: %v", got)
	}
	return nil
}
