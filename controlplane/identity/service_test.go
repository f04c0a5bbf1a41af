package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// serve makes a client of the service over an in-memory connection.
func (f *fixture) serve() (istio.IstioCertificateServiceClient, *token.Issuer) {
	f.t.Helper()
	if err := token.EnsureDataplaneKey(f.t.Context(), f.store, "default"); err != nil {
		f.t.Fatal(err)
	}
	v, err := token.NewValidator(f.store, f.clock.Now)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.serveWith(NewService(f.Issuer, v))
}

func (f *fixture) serveWith(service *Service) (istio.IstioCertificateServiceClient, *token.Issuer) {
	f.t.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	istio.RegisterIstioCertificateServiceServer(s, service)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = c.Close()
		s.Stop()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
	return istio.NewIstioCertificateServiceClient(c), token.NewIssuer(f.store, f.clock.Now)
}

func call(t *testing.T, headers ...string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), headers...)
}

// evilCSR asks for names that are not the caller's.
func evilCSR(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	k, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		URIs: []*url.URL{{Scheme: "spiffe", Host: "default", Path: "/admin"}}, DNSNames: []string{"kuma-cp"},
	}, k)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*ecdsa.PrivateKey), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestCreateCertificate(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	client, issuer := f.serve()
	tok, err := issuer.Dataplane(token.Dataplane{Mesh: "default", Name: "web-1", Tags: map[string][]string{"kuma.io/service": {"web"}}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := evilCSR(t)
	var header metadata.MD
	resp, err := client.CreateCertificate(call(t, "authorization", tok, "kuma-node-id", "default.web-1"), &istio.IstioCertificateRequest{Csr: csr, ValidityDuration: 1 << 40}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := header.Get("kuma-cp-time"), f.clock.Now().UTC().Format(time.RFC3339Nano); len(got) != 1 || got[0] != want {
		t.Errorf("the answer's time is %v, want %s", got, want)
	}
	if held, err := time.ParseDuration(strings.Join(header.Get("kuma-cp-held"), ",")); err != nil || held <= 0 {
		t.Errorf("the answer was held for %v, %v", held, err)
	}
	bundle, err := f.Bundle("default")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := certs.Verify([]byte(resp.CertChain[0]), bundle, key, f.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"spiffe://default/web", "kuma://kuma.io/protocol/http", "kuma://kuma.io/service/web"}; !slices.Equal(names(leaf), want) || len(leaf.DNSNames) > 0 {
		t.Errorf("names %v %v", names(leaf), leaf.DNSNames)
	}
	if len(resp.CertChain) != 2 || resp.CertChain[1] != string(bundle) {
		t.Errorf("chain of %d, want leaf and authority", len(resp.CertChain))
	}
	if got := leaf.NotAfter.Sub(f.clock.Now()); got != 24*time.Hour {
		t.Errorf("lives %v", got)
	}
}

func TestCertificateOfAnApplication(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags))
	f.awaitAuthority("default", "ca-1")
	client, issuer := f.serve()
	tok, err := issuer.Dataplane(token.Dataplane{Mesh: "default", Name: "web-1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := evilCSR(t)
	c := call(t, "authorization", tok, "kuma-node-id", "default.web-1", "kuma-identity-for", "application")
	if _, err := client.CreateCertificate(c, &istio.IstioCertificateRequest{Csr: csr}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "set mtls.applicationIdentities in the Mesh") {
		t.Errorf("without the mesh's consent: %v", err)
	}
	m := mesh("default", nil)
	resource.SpecOf[*resource.Mesh](m).MTLS.ApplicationIdentities = true
	f.put(m)
	resp, err := client.CreateCertificate(c, &istio.IstioCertificateRequest{Csr: csr})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := f.Bundle("default")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := certs.Verify([]byte(resp.CertChain[0]), bundle, key, f.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"spiffe://default/web"}; !slices.Equal(names(leaf), want) || len(leaf.DNSNames) > 0 {
		t.Errorf("names %v %v, want %v", names(leaf), leaf.DNSNames, want)
	}
}

func TestCreateCertificateRefuses(t *testing.T) {
	f := start(t, mesh("default", nil), dataplane("web-1", webTags), dataplane("db-1", map[string]string{"kuma.io/service": "db"}))
	f.awaitAuthority("default", "ca-1")
	client, issuer := f.serve()
	tok := func(d token.Dataplane) string {
		t.Helper()
		raw, err := issuer.Dataplane(d, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	web := tok(token.Dataplane{Mesh: "default", Name: "web-1"})
	_, good := evilCSR(t)
	for _, tt := range []struct {
		name    string
		headers []string
		csr     string
		code    codes.Code
		want    string
	}{
		{"no token", []string{"kuma-node-id", "default.web-1"}, good, codes.Unauthenticated, "exactly 1"},
		{"two tokens", []string{"kuma-node-id", "default.web-1", "authorization", web, "authorization", web}, good, codes.Unauthenticated, "got 2"},
		{"no node", []string{"authorization", web}, good, codes.InvalidArgument, "kuma-node-id"},
		{"odd node", []string{"authorization", web, "kuma-node-id", "web-1"}, good, codes.InvalidArgument, "<mesh>.<name>"},
		{"junk token", []string{"authorization", "eyJhbGciOiJub25lIn0.e30.", "kuma-node-id", "default.web-1"}, good, codes.Unauthenticated, "authentication failed"},
		{"another's name", []string{"authorization", web, "kuma-node-id", "default.db-1"}, good, codes.Unauthenticated, "db-1"},
		{"another mesh", []string{"authorization", web, "kuma-node-id", "other.web-1"}, good, codes.Unauthenticated, "other"},
		{
			"another's tags",
			[]string{"authorization", tok(token.Dataplane{Mesh: "default", Tags: map[string][]string{"kuma.io/service": {"web"}}}), "kuma-node-id", "default.db-1"},
			good, codes.Unauthenticated, "not allowed with this token",
		},
		{"junk request", []string{"authorization", web, "kuma-node-id", "default.web-1"}, "junk", codes.InvalidArgument, "certificate request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.CreateCertificate(call(t, tt.headers...), &istio.IstioCertificateRequest{Csr: tt.csr})
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %v %q", err, tt.code, tt.want)
			}
			if strings.Contains(err.Error(), "eyJ") {
				t.Error("the error holds a token")
			}
		})
	}
	t.Run("not registered in time", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(call(t, "authorization", tok(token.Dataplane{Mesh: "default"}), "kuma-node-id", "default.late"), 50*time.Millisecond)
		defer cancel()
		_, err := client.CreateCertificate(ctx, &istio.IstioCertificateRequest{Csr: good})
		if c := status.Code(err); c != codes.DeadlineExceeded {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("registered in time", func(t *testing.T) {
		got := make(chan error, 1)
		go func() {
			_, err := client.CreateCertificate(call(t, "authorization", tok(token.Dataplane{Mesh: "default"}), "kuma-node-id", "default.late"), &istio.IstioCertificateRequest{Csr: good})
			got <- err
		}()
		f.put(dataplane("late", webTags))
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("too often", func(t *testing.T) {
		ask := func() error {
			_, err := client.CreateCertificate(call(t, "authorization", web, "kuma-node-id", "default.web-1"), &istio.IstioCertificateRequest{Csr: good})
			return err
		}
		n := 0
		for status.Code(ask()) == codes.OK {
			if n++; n > burst {
				t.Fatalf("%d certificates at once", n)
			}
		}
		if err := ask(); status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("got %v", err)
		}
		f.clock.Advance(interval)
		if err := ask(); err != nil {
			t.Fatalf("after waiting: %v", err)
		}
	})
	t.Run("mtls off", func(t *testing.T) {
		plain := mesh("default", nil)
		plain.Spec = &resource.Mesh{}
		f.put(plain)
		f.clock.Advance(time.Minute)
		_, err := client.CreateCertificate(call(t, "authorization", web, "kuma-node-id", "default.web-1"), &istio.IstioCertificateRequest{Csr: good})
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("got %v", err)
		}
	})
}
