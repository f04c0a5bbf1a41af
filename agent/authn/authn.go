// Package authn lets calls to the control plane show the dataplane token.
package authn

import (
	"context"
	"fmt"

	"google.golang.org/grpc/metadata"
)

// NodeID is the metadata that names the caller, <mesh>.<name>, on calls whose messages do not.
const NodeID = "kuma-node-id"

// Outgoing adds the token and further pairs of keys and values to the metadata of a call. The token is raw, without "Bearer"
// (contract agent.md §5), and read now, since it may be replaced on disk; a nil source, or "", is none.
func Outgoing(ctx context.Context, source func() (string, error), pairs ...string) (context.Context, error) {
	token := ""
	if source != nil {
		var err error
		if token, err = source(); err != nil {
			return nil, fmt.Errorf("read dataplane token: %w", err)
		}
	}
	if token != "" {
		pairs = append([]string{"authorization", token}, pairs...)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...), nil
}
