package identity_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience   = 10 * time.Second
	secretName = "identity_cert:secret:default"
)

// issuer is a control plane's certificate service on a real connection.
type issuer struct {
	mu    sync.Mutex
	fail  error
	life  time.Duration
	other bool // certify another key than the one asked for
	calls chan metadata.MD
	ca    *certs.Authority
}

// sign answers one call. StringValue has the same wire form as the request, and as a response with one certificate.
func (i *issuer) sign(ctx context.Context, q *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	i.calls <- md
	if i.fail != nil {
		return nil, i.fail
	}
	public, err := certs.ParseCSR([]byte(q.GetValue()))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if i.other {
		key, err := certs.NewKey("")
		if err != nil {
			return nil, err
		}
		public = key.Public()
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{"kuma.io/service": {"demo"}})
	if err != nil {
		return nil, err
	}
	leaf, err := i.ca.Sign(certs.SignRequest{PublicKey: public, URIs: uris, Lifetime: i.life, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(string(leaf.PEM) + string(i.ca.Bundle())), nil
}

func (i *issuer) set(fail error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail = fail
}

func start(t *testing.T, i *issuer, implemented bool) (issued chan *anypb.Any, unsupported chan struct{}, s *identity.Source) {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if i.ca, err = certs.LoadAuthority(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	i.calls = make(chan metadata.MD, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	if implemented {
		server.RegisterService(&grpc.ServiceDesc{
			ServiceName: "istio.v1.auth.IstioCertificateService", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "CreateCertificate", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var q wrapperspb.StringValue
				if err := decode(&q); err != nil {
					return nil, err
				}
				return i.sign(ctx, &q)
			}}},
		}, struct{}{})
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	issued, unsupported = make(chan *anypb.Any, 10), make(chan struct{}, 10)
	s, err = identity.New(identity.Config{
		Conn: conn, Token: func() (string, error) { return "raw", nil }, Node: "default.demo",
		Issued: func(v *identity.SVID) {
			a, err := v.Secret(secretName)
			if err != nil {
				t.Error(err)
			}
			issued <- a
		}, Unsupported: func() { unsupported <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-served
	})
	runSource(t, s.Run)
	return issued, unsupported, s
}

// runSource runs a source until the test ends.
func runSource(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func take[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("no %s", what)
	}
	return v
}

// part follows message fields of a Secret.
func part(t *testing.T, b []byte, path ...protowire.Number) []byte {
	t.Helper()
	for _, want := range path {
		var found []byte
		for len(b) > 0 {
			number, _, n := protowire.ConsumeTag(b)
			val, m := protowire.ConsumeBytes(b[n:])
			if m < 0 {
				t.Fatal("malformed secret")
			}
			if number == want {
				found = val
			}
			b = b[n+m:]
		}
		b = found
	}
	return b
}

func TestCertificateIsIssuedAndBelongsToItsKey(t *testing.T) {
	i := &issuer{life: time.Hour}
	issued, _, s := start(t, i, true)
	a := take(t, issued, "certificate")
	md := take(t, i.calls, "call")
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "raw" {
		t.Errorf("authorization %v, want [raw]", got)
	}
	if got := md.Get("kuma-node-id"); len(got) != 1 || got[0] != "default.demo" {
		t.Errorf("kuma-node-id %v, want [default.demo]", got)
	}
	if name := string(part(t, a.GetValue(), 1)); name != secretName {
		t.Errorf("secret is named %q", name)
	}
	chain, keyPEM := part(t, a.GetValue(), 2, 1, 2), part(t, a.GetValue(), 2, 2, 2)
	key, err := certs.ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Verify(chain, i.ca.Bundle(), key, time.Now()); err != nil {
		t.Errorf("secret: %v", err)
	}
	if bytes.Contains(chain, i.ca.Bundle()) {
		t.Error("the chain for Envoy holds the root")
	}
	if st := s.Status(); st.State != identity.Issued || len(st.URIs) == 0 || st.URIs[0] != "spiffe://default/demo" {
		t.Errorf("status %+v", st)
	}
}

func TestCertificateIsRenewedAtHalfOfItsLife(t *testing.T) {
	i := &issuer{life: 3 * time.Second}
	issued, _, _ := start(t, i, true)
	first, second := take(t, issued, "certificate"), take(t, issued, "renewed certificate")
	if bytes.Equal(part(t, first.GetValue(), 2, 2, 2), part(t, second.GetValue(), 2, 2, 2)) {
		t.Error("the renewed certificate has the old key")
	}
}

func TestAnotherAuthorityRenewsAtOnce(t *testing.T) {
	i := &issuer{life: time.Hour}
	issued, _, s := start(t, i, true)
	take(t, issued, "certificate")
	i.mu.Lock()
	old := i.ca.Bundle()
	i.mu.Unlock()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now(), ECDSA: true})
	if err != nil {
		t.Fatal(err)
	}
	next, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Signer(slices.Concat(old, next.Bundle())) {
		t.Error("a further authority is taken for the one that signs")
	}
	if got := len(i.calls); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	i.mu.Lock()
	i.ca = next
	i.mu.Unlock()
	both := slices.Concat(next.Bundle(), old)
	if s.Signer(both) {
		t.Error("the certificate is taken for one of the new authority")
	}
	a := take(t, issued, "renewed certificate")
	if _, err := certs.Verify(part(t, a.GetValue(), 2, 1, 2), next.Bundle(), nil, time.Now()); err != nil {
		t.Errorf("renewed certificate: %v", err)
	}
	if !s.Signer(both) {
		t.Error("the renewed certificate is not taken for one of the new authority")
	}
	if !s.Signer([]byte("no certificate")) {
		t.Error("what holds no certificate is waited for")
	}
}

func TestControlPlaneWithoutTheService(t *testing.T) {
	issued, unsupported, s := start(t, &issuer{}, false)
	take(t, unsupported, "notice of a control plane without the service")
	if len(issued) != 0 || s.Status().State != identity.ControlPlane {
		t.Errorf("state %s with %d certificates", s.Status().State, len(issued))
	}
}

func TestMeshWithoutMTLSIsAskedAgainWhenEnvoyWants(t *testing.T) {
	i := &issuer{life: time.Hour, fail: status.Error(codes.FailedPrecondition, "mesh default has no mTLS")}
	issued, _, s := start(t, i, true)
	take(t, i.calls, "first call")
	for s.Status().State != identity.NoMTLS {
		select {
		case <-t.Context().Done():
			t.Fatal("state never became no-mtls")
		case <-time.After(time.Millisecond):
		}
	}
	s.Wanted()
	take(t, i.calls, "call after Envoy asked")
	take(t, i.calls, "another try while Envoy waits")
	i.set(nil)
	take(t, issued, "certificate")
	if st := s.Status(); st.State != identity.Issued || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
}

func TestUnusableCertificatesAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		i    *issuer
		want string
	}{
		{"another key", &issuer{life: time.Hour, other: true}, "does not belong to our key"},
		{"an error", &issuer{fail: errors.New("store is away")}, "store is away"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			issued, _, s := start(t, tc.i, true)
			take(t, tc.i.calls, "call")
			take(t, tc.i.calls, "second try")
			if len(issued) != 0 || !strings.Contains(s.Status().LastError, tc.want) {
				t.Errorf("%d certificates, last error %q, want %q", len(issued), s.Status().LastError, tc.want)
			}
		})
	}
}
