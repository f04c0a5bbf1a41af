package workloadapi_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/workloadapi"
	"github.com/kuma-dp/kuma-dp/certs"
)

const limit = 10 * time.Second

// askVar makes this test binary another process that asks the socket it names, as whoever it runs.
const askVar = "TEST_WORKLOADAPI_ASK"

func TestMain(m *testing.M) {
	if path := os.Getenv(askVar); path != "" {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := workloadapi.Watch(ctx, path, func(r *workloadapi.X509Response) {
			fmt.Println("got", r.SVIDs[0].ID)
			cancel()
		})
		fmt.Println("ended", status.Code(err), err)
		return
	}
	goleak.VerifyTestMain(m)
}

// book collects log lines.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func start(t *testing.T, path string, change func(*workloadapi.Config)) (*workloadapi.Server, *book) {
	t.Helper()
	log := &book{}
	cfg := workloadapi.Config{Path: path, UIDs: []uint32{uint32(os.Geteuid())}, Log: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&cfg)
	}
	s, err := workloadapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, log
}

func newAuthority(t *testing.T) *certs.Authority {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now(), ECDSA: true})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// identity is one of a service, trusting the authorities.
func identity(t *testing.T, service string, ca *certs.Authority, trusted ...*certs.Authority) *workloadapi.X509Response {
	t.Helper()
	key, err := certs.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{certs.TagService: {service}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Sign(certs.SignRequest{PublicKey: key.Public(), URIs: uris[:1], Lifetime: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	v := workloadapi.SVID{ID: uris[0].String(), Bundle: ca.Certificate().Raw}
	block, _ := pem.Decode(leaf.PEM)
	v.Chain = block.Bytes
	if v.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	for _, a := range trusted {
		v.Bundle = append(v.Bundle[:len(v.Bundle):len(v.Bundle)], a.Certificate().Raw...)
	}
	return &workloadapi.X509Response{SVIDs: []workloadapi.SVID{v}}
}

func source(t *testing.T, path string) *spiffe.X509Source {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := spiffe.NewX509Source(ctx, spiffe.WithClientOptions(spiffe.WithAddr("unix://"+path)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// exchange has a client and a server of go-spiffe greet each other.
func exchange(t *testing.T, server, client *spiffe.X509Source) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://default/web")), server))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(c, "hello")
			_ = c.Close()
		}
		served <- err
	}()
	c, err := spiffetls.DialWithMode(ctx, "tcp", l.Addr().String(), spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://default/backend")), client))
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(c); err == nil && string(b) != "hello" {
			err = fmt.Errorf("read %q", b)
		}
		_ = c.Close()
	}
	if other := <-served; err == nil {
		err = other
	}
	return err
}

// TestGoSPIFFE: two applications that get their identities with go-spiffe trust each other, also after both have other ones, of
// another authority.
func TestGoSPIFFE(t *testing.T) {
	dir := t.TempDir()
	ca, next := newAuthority(t), newAuthority(t)
	one, _ := start(t, filepath.Join(dir, "one.sock"), nil)
	two, _ := start(t, filepath.Join(dir, "two.sock"), nil)
	one.Set(identity(t, "backend", ca))
	two.Set(identity(t, "web", ca))
	server, client := source(t, filepath.Join(dir, "one.sock")), source(t, filepath.Join(dir, "two.sock"))
	if err := exchange(t, server, client); err != nil {
		t.Fatal(err)
	}
	update := func(to *workloadapi.X509Response, s *workloadapi.Server, at *spiffe.X509Source) {
		t.Helper()
		s.Set(to)
		select {
		case <-at.Updated():
		case <-time.After(limit):
			t.Fatal("no update arrives")
		}
	}
	update(identity(t, "backend", next, ca), one, server)
	if err := exchange(t, server, client); err == nil {
		t.Error("a certificate of an authority that it does not know is trusted")
	}
	update(identity(t, "web", next, ca), two, client)
	if err := exchange(t, server, client); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	bundles, err := spiffe.FetchX509Bundles(ctx, spiffe.WithAddr("unix://"+filepath.Join(dir, "one.sock")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundles.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("default"))
	if err != nil || len(b.X509Authorities()) != 2 {
		t.Errorf("bundles %v, %v; want two authorities of default", bundles.Bundles(), err)
	}
}

// call opens FetchX509SVID with these headers.
func call(t *testing.T, path string, headers ...string) (grpc.ServerStreamingClient[workload.X509SVIDResponse], *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it may have been closed
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), headers...), limit)
	t.Cleanup(cancel)
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return stream, conn
}

func TestRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	wanted := make(chan struct{}, 100)
	s, _ := start(t, path, func(c *workloadapi.Config) { c.Wanted = func() { wanted <- struct{}{} } })
	s.Set(identity(t, "web", newAuthority(t)))
	for _, tc := range []struct {
		name    string
		headers []string
		code    codes.Code
	}{
		{"with the header", []string{"workload.spiffe.io", "true"}, codes.OK},
		{"without", nil, codes.InvalidArgument},
		{"with another value", []string{"workload.spiffe.io", "false"}, codes.InvalidArgument},
		{"twice", []string{"workload.spiffe.io", "true", "workload.spiffe.io", "true"}, codes.InvalidArgument},
	} {
		stream, _ := call(t, path, tc.headers...)
		if _, err := stream.Recv(); status.Code(err) != tc.code {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.code)
		}
	}
	_, conn := call(t, path, "workload.spiffe.io", "true")
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	with := metadata.AppendToOutgoingContext(t.Context(), "workload.spiffe.io", "true")
	if _, err := client.FetchJWTSVID(with, &workload.JWTSVIDRequest{Audience: []string{"a"}}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "X.509 identities only") {
		t.Errorf("FetchJWTSVID: %v", err)
	}
	if _, err := client.FetchJWTSVID(t.Context(), &workload.JWTSVIDRequest{Audience: []string{"a"}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("FetchJWTSVID without the header: %v", err)
	}
	if _, err := client.FetchJWTSVID(with, &workload.JWTSVIDRequest{Audience: []string{strings.Repeat("a", 1<<20)}}); err == nil {
		t.Error("a request of a MiB is taken")
	}
	bundles, err := client.FetchJWTBundles(with, &workload.JWTBundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundles.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("FetchJWTBundles: %v", err)
	}
	if len(wanted) > 0 {
		t.Error("an identity is wanted that is there")
	}
}

func TestIdentityThatIsNotThereYet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	wanted := make(chan struct{}, 100)
	s, _ := start(t, path, func(c *workloadapi.Config) { c.Wanted = func() { wanted <- struct{}{} } })
	stream, _ := call(t, path, "workload.spiffe.io", "true")
	<-wanted
	s.Withdraw("the mesh has none for applications")
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "no identity issued: the mesh has none for applications") {
		t.Errorf("got %v", err)
	}
	stream, _ = call(t, path, "workload.spiffe.io", "true")
	<-wanted
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
	s.Set(identity(t, "web", newAuthority(t)))
	stream, _ = call(t, path, "workload.spiffe.io", "true")
	if r, err := stream.Recv(); err != nil || r.GetSvids()[0].GetSpiffeId() != "spiffe://default/web" {
		t.Errorf("got %v, %v", r, err)
	}
	s.Withdraw("it expired")
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "it expired") {
		t.Errorf("got %v", err)
	}
}

// ask asks from a process of a user.
func ask(t *testing.T, path string, uid uint32) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), askVar+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("to be another user this test needs root")
	}
	dir, err := os.MkdirTemp("", "kuma-workloadapi-test") //nolint:usetesting // others must get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.sock")
	s, log := start(t, path, func(c *workloadapi.Config) { c.UIDs = []uint32{12345} })
	s.Set(identity(t, "web", newAuthority(t)))
	if got := ask(t, path, 12345); !strings.HasPrefix(got, "got spiffe://default/web\n") {
		t.Errorf("who is allowed %s", got)
	}
	for range 3 {
		if got := ask(t, path, 12346); !strings.Contains(got, "ended PermissionDenied") || !strings.Contains(got, "--workload-api-uids") {
			t.Errorf("another user %s", got)
		}
	}
	if got := ask(t, path, 0); !strings.Contains(got, "ended PermissionDenied") {
		t.Errorf("root, which was not named, %s", got)
	}
	text := log.String()
	if strings.Count(text, "uid=12346") != 1 || !strings.Contains(text, "pid=") || strings.Contains(text, "uid=12345") {
		t.Errorf("log %s", text)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	s, _ := start(t, path, nil)
	s.Set(identity(t, "web", newAuthority(t)))
	get := func() (*grpc.ClientConn, error) {
		conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "workload.spiffe.io", "true")
		stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			_ = conn.Close()
		}
		return conn, err
	}
	fill := func() (open []*grpc.ClientConn) {
		for {
			conn, err := get()
			if err != nil {
				return open
			}
			if open = append(open, conn); len(open) > 100 {
				t.Fatal("no bound")
			}
		}
	}
	open := fill()
	if len(open) != 64 {
		t.Errorf("%d connections of one user, want 64", len(open))
	}
	for _, c := range open {
		_ = c.Close()
	}
	// The places are free again, once the server has seen the ends.
	for deadline := time.Now().Add(limit); ; {
		conn, err := get()
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("places are not given back: %v", err)
		}
	}
}

func TestWhatIsInTheWayOfTheSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := workloadapi.New(workloadapi.Config{Path: path, UIDs: []uint32{0}}); err == nil || !strings.Contains(err.Error(), "a file is in the way") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "keep" {
		t.Errorf("the file became %q, %v", b, err)
	}
}

// TestServerEnds: no goroutine is left when streams are open and nobody reads them; goleak sees.
func TestServerEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	s, err := workloadapi.New(workloadapi.Config{Path: path, UIDs: []uint32{uint32(os.Geteuid())}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	silent, err := net.Dial("unix", path) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	stream, _ := call(t, path, "workload.spiffe.io", "true")
	s.Set(identity(t, "web", newAuthority(t)))
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 100 { // more than flow control lets through
		r := identity(t, "web", newAuthority(t))
		r.CRL = [][]byte{make([]byte, 64<<10)}
		s.Set(r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
