package mtlsreports

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "web"}

// serve runs the service for callers that name a Dataplane of mesh m in kuma-node-id.
func serve(t *testing.T, r *Reports) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	(&Service{Reports: r, Authenticate: func(ctx context.Context) (*resource.Resource, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md.Get("kuma-node-id")) != 1 {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: md.Get("kuma-node-id")[0]}}}, nil
	}}).Register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func put(t *testing.T, c *grpc.ClientConn, name string, body []byte) error {
	t.Helper()
	ctx := t.Context()
	if name != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "kuma-node-id", name)
	}
	return c.Invoke(ctx, "/"+mtlsreport.Service+"/"+mtlsreport.Method, wrapperspb.Bytes(body), &wrapperspb.BytesValue{})
}

func report(t *testing.T, port uint16) []byte {
	t.Helper()
	b, err := (&mtlsreport.Report{At: time.Now(), Inbounds: []mtlsreport.Inbound{{
		Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port), Mode: mtlsreport.Permissive,
	}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReports(t *testing.T) {
	r := New(memory.Open(resource.NewRegistry(resource.Core()...)))
	c := serve(t, r)
	if err := put(t, c, "web", report(t, 80)); err != nil {
		t.Fatal(err)
	}
	if got := r.Of(web); got == nil || got.Inbounds[0].Address.Port() != 80 || time.Since(got.At) > time.Minute {
		t.Fatalf("kept %+v", got)
	}
	for _, tt := range []struct {
		name string
		body []byte
		code codes.Code
		want string
	}{
		{"", report(t, 81), codes.Unauthenticated, "who are you?"},
		{"web", report(t, 81), codes.ResourceExhausted, "too often"},
		{"other", []byte("junk"), codes.InvalidArgument, "read mTLS report"},
		{"other", []byte(strings.Repeat(" ", mtlsreport.MaxBytes+1)), codes.InvalidArgument, "more than"},
	} {
		if err := put(t, c, tt.name, tt.body); status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s: %s", tt.name, err, tt.code, tt.want)
		}
	}
	if got := r.Of(web); got.Inbounds[0].Address.Port() != 80 {
		t.Error("a refused report was kept")
	}
	if r.Of(resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "other"}) != nil {
		t.Error("a malformed report was kept")
	}
	now := r.Of(web).At.Add(tooSoon)
	if !r.take(web, &mtlsreport.Report{}, now) || r.Of(web).At != now {
		t.Error("a later report is not kept")
	}
}

func TestClocks(t *testing.T) {
	ours := time.Now()
	r := &Received{At: ours, Report: &mtlsreport.Report{At: ours.Add(-time.Hour)}}
	if got := r.Now(ours.Add(time.Minute)); !got.Equal(ours.Add(-59 * time.Minute)) {
		t.Errorf("their clock shows %s", got)
	}
	if got := r.Ours(ours.Add(-61 * time.Minute)); !got.Equal(ours.Add(-time.Minute)) {
		t.Errorf("by our clock it was %s", got)
	}
}

// TestGoneDataplane: what is kept goes with its Dataplane.
func TestGoneDataplane(t *testing.T) {
	st := memory.Open(resource.NewRegistry(resource.Core()...))
	r := New(st)
	commit := func(action store.Action, res *resource.Resource) {
		t.Helper()
		if _, err := st.Commit(t.Context(), store.Op{Action: action, Resource: res}); err != nil {
			t.Fatal(err)
		}
	}
	commit(store.Create, &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}}, Spec: &resource.Mesh{}})
	for _, name := range []string{"web", "other"} {
		key := web
		key.Name = name
		commit(store.Create, &resource.Resource{Meta: resource.Meta{Key: key}, Spec: &resource.Dataplane{}})
		r.take(key, &mtlsreport.Report{}, time.Now())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	gone, err := st.Get(web)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for r.Of(web) != nil {
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
		// Run may not be watching yet: then it sees the next one go.
		commit(store.Delete, gone)
		commit(store.Create, &resource.Resource{Meta: resource.Meta{Key: web}, Spec: &resource.Dataplane{}})
		if gone, err = st.Get(web); err != nil {
			t.Fatal(err)
		}
	}
	other := web
	other.Name = "other"
	if r.Of(other) == nil {
		t.Error("another's is gone too")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
