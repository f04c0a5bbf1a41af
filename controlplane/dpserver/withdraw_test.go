package dpserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// streamOf opens a stream with a token and waits until it is served.
func (f *fixture) streamOf(raw string) health.HealthDiscoveryService_StreamHealthCheckClient {
	f.t.Helper()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(f.t.Context(), "authorization", raw))
	f.t.Cleanup(cancel)
	s, err := health.NewHealthDiscoveryServiceClient(f.dial()).StreamHealthCheck(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.Send(node("default.web-1")); err != nil {
		f.t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func idOf(t *testing.T, raw string) string {
	t.Helper()
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ JTI string }
	if err := json.Unmarshal(body, &c); err != nil || c.JTI == "" {
		t.Fatalf("claims %s, %v", body, err)
	}
	return c.JTI
}

// TestTokenThatNobodyAsksFor is ignored, whatever becomes of keys, where sidecars need none.
func TestTokenThatNobodyAsksFor(t *testing.T) {
	f := start(t)
	s := &Server{cfg: Config{ZoneTokens: f.validator(t)}}
	calm := &quiet{ctx: metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "junk"))}
	err := s.guardStream(nil, calm, func(_ any, stream grpc.ServerStream) error {
		if n, _ := s.withdrawals.look(s.validator().Withdrawn); n != 0 {
			t.Errorf("%d streams ended", n)
		}
		return stream.Context().Err()
	})
	if err != nil {
		t.Error(err)
	}
}

// quiet is a stream on which nothing happens.
type quiet struct {
	grpc.ServerStream
	ctx context.Context
}

func (q *quiet) Context() context.Context { return q.ctx }

func (f *fixture) validator(t *testing.T) *token.Validator {
	t.Helper()
	v, err := token.NewValidator(f.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f *fixture) secret(name string) resource.Meta {
	return resource.Meta{Key: resource.Key{Kind: resource.KindSecret, Mesh: "default", Name: name}}
}

// TestWithdrawnTokens: revoking a token ends what was opened with it, and nothing else (demands.md, assertion 27); so does
// deleting the key that signed it.
func TestWithdrawnTokens(t *testing.T) {
	f := start(t)
	f.put(webDataplane())
	bad, good := f.token(token.Dataplane{Name: "web-1"}), f.token(token.Dataplane{Name: "web-1"})
	first, second, other := f.streamOf(bad), f.streamOf(bad), f.streamOf(good)
	f.put(&resource.Resource{
		Meta: f.secret("dataplane-token-revocations-default"), Spec: &resource.Secret{Data: []byte("x, " + idOf(t, bad))},
	})
	for _, s := range []health.HealthDiscoveryService_StreamHealthCheckClient{first, second} {
		if _, err := s.Recv(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "it is revoked") {
			t.Errorf("a stream whose token is revoked: %v", err)
		}
	}
	// The other one goes on: it hears of a change.
	changed := webDataplane()
	changed.Spec.(*resource.Dataplane).Networking.Admin.Port = 9998
	f.put(changed)
	if m, err := other.Recv(); err != nil || m.GetClusterHealthChecks()[0].LocalityEndpoints[0].Endpoints[0].Address.GetSocketAddress().GetPortValue() != 9998 {
		t.Errorf("a stream whose token is not revoked: %v, %v", m, err)
	}
	for _, r := range f.store.List(resource.KindSecret, "default") {
		if strings.HasPrefix(r.Name, "dataplane-token-signing-key") {
			if _, err := f.store.Commit(t.Context(), store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: r.Key}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := other.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stream whose key is gone: %v", err)
	}
}
