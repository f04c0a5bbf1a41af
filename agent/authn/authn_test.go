package authn_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/kuma-dp/kuma-dp/agent/authn"
)

func TestOutgoing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		source func() (string, error)
		want   metadata.MD
	}{
		{"no source", nil, metadata.Pairs("kuma-node-id", "default.web")},
		{"no token", func() (string, error) { return "", nil }, metadata.Pairs("kuma-node-id", "default.web")},
		{"token", func() (string, error) { return "t", nil }, metadata.Pairs("authorization", "t", "kuma-node-id", "default.web")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, err := authn.Outgoing(context.Background(), tt.source, authn.NodeID, "default.web")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := metadata.FromOutgoingContext(ctx); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	gone := errors.New("gone")
	if _, err := authn.Outgoing(context.Background(), func() (string, error) { return "", gone }); !errors.Is(err, gone) || !strings.Contains(err.Error(), "read dataplane token") {
		t.Errorf("got %v", err)
	}
}
