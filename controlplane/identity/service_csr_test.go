package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

func csrPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// request makes a certificate request of a template, signed by its key.
func request(t *testing.T, key crypto.Signer, template *x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return csrPEM(der)
}

// unsigned makes a request for a public key whose signature is junk: what somebody sends who has no such key.
func unsigned(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	type info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		info{0, asn1.RawValue{FullBytes: []byte{0x30, 0}}, asn1.RawValue{FullBytes: spki}, nil},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, 256), BitLength: 2048},
	})
	if err != nil {
		t.Fatal(err)
	}
	return csrPEM(der)
}

func extension(t *testing.T, critical bool, value any, id ...int) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: id, Critical: critical, Value: der}
}

// office is a service in which web-1 asks, under its own token, as often as the test likes.
type office struct {
	*fixture
	client istio.IstioCertificateServiceClient
	token  string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	f := start(t, mesh("default", nil), dataplane("web-1", webTags), dataplane("db-1", map[string]string{"kuma.io/service": "db"}))
	f.awaitAuthority("default", "ca-1")
	client, issuer := f.serve()
	raw, err := issuer.Dataplane(token.Dataplane{Mesh: "default", Name: "web-1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &office{f, client, raw}
}

func (o *office) ask(csr string) (*x509.Certificate, error) {
	o.t.Helper()
	o.clock.Advance(interval) // it may ask again
	resp, err := o.client.CreateCertificate(call(o.t, "authorization", o.token, "kuma-node-id", "default.web-1"), &istio.IstioCertificateRequest{Csr: csr})
	if err != nil {
		return nil, err
	}
	list, err := certs.ParseCertificates([]byte(resp.CertChain[0]))
	if err != nil || len(list) != 1 {
		o.t.Fatalf("the first of the chain is %q: %v", resp.CertChain[0], err)
	}
	return list[0], nil
}

// regenerations is how many certificates a proxy has been given.
func (o *office) regenerations(name string) int {
	r, err := o.store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: name})
	if err != nil {
		return 0
	}
	return int(resource.SpecOf[*resource.DataplaneInsight](r).MTLS.CertificateRegenerations)
}

// shape is all of a certificate but its key, its serial and its times.
func shape(c *x509.Certificate) string {
	var out []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 14}) { // the id of the key
			out = append(out, e.Id.String()+"="+string(e.Value))
		}
	}
	return c.Subject.String() + "|" + c.Issuer.String() + "|" + strings.Join(out, ",")
}

// TestRequestsThatAskForMore: whatever a certificate request asks for, the certificate is the one that an empty request would
// have got (demands.md, assertion 39).
func TestRequestsThatAskForMore(t *testing.T) {
	o := newOffice(t)
	key, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := o.ask(request(t, key, &x509.CertificateRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"spiffe://default/web", "kuma://kuma.io/protocol/http", "kuma://kuma.io/service/web"}; !slices.Equal(names(plain), want) {
		t.Fatalf("names %v, want %v", names(plain), want)
	}
	if plain.IsCA || plain.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || !plain.BasicConstraintsValid {
		t.Fatalf("a leaf that is an authority: %v %v", plain.IsCA, plain.KeyUsage)
	}
	spiffe := func(host, path string) []*url.URL { return []*url.URL{{Scheme: "spiffe", Host: host, Path: path}} }
	type constraints struct {
		IsCA    bool
		PathLen int
	}
	for name, template := range map[string]*x509.CertificateRequest{
		"URI of another workload": {URIs: spiffe("default", "/db")},
		"URI of another mesh":     {URIs: spiffe("other", "/web")},
		"URI of the mesh":         {URIs: spiffe("default", "")},
		"many URIs":               {URIs: append(spiffe("default", "/a"), spiffe("default", "/b")...)},
		"DNS names":               {DNSNames: []string{"kuma-cp", "*.default", "db.svc.mesh.local"}},
		"IP addresses":            {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 2), net.IPv6loopback}},
		"e-mail addresses":        {EmailAddresses: []string{"admin@kuma-cp"}},
		"a subject":               {Subject: pkix.Name{CommonName: "spiffe://default/db", Organization: []string{"Kuma"}, OrganizationalUnit: []string{"Mesh"}}},
		"to be an authority": {ExtraExtensions: []pkix.Extension{
			extension(t, true, constraints{true, 3}, 2, 5, 29, 19), extension(t, true, asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}, 2, 5, 29, 15),
		}},
		"every use":                     {ExtraExtensions: []pkix.Extension{extension(t, false, []asn1.ObjectIdentifier{{2, 5, 29, 37, 0}}, 2, 5, 29, 37)}},
		"an unknown critical extension": {ExtraExtensions: []pkix.Extension{extension(t, true, "x", 1, 2, 3, 4)}},
		"another authority's key id":    {ExtraExtensions: []pkix.Extension{extension(t, false, []byte("0123456789"), 2, 5, 29, 35)}},
	} {
		t.Run(name, func(t *testing.T) {
			leaf, err := o.ask(request(t, key, template))
			if err != nil {
				t.Fatal(err)
			}
			if got := shape(leaf); got != shape(plain) {
				t.Errorf("got %q, want %q", got, shape(plain))
			}
		})
	}
}

// TestRequestsThatAreRefused sends keys that are weak, costly or somebody else's, and what is no request.
func TestRequestsThatAreRefused(t *testing.T) {
	o := newOffice(t)
	good, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// No such key is made: to look at its size is all that we should do.
	modulus, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 16383))
	if err != nil {
		t.Fatal(err)
	}
	huge := &rsa.PublicKey{N: modulus.SetBit(modulus.SetBit(modulus, 16383, 1), 0, 1), E: 65537}
	plain := request(t, good, &x509.CertificateRequest{})
	block, _ := pem.Decode([]byte(plain))
	broken := slices.Clone(block.Bytes)
	broken[len(broken)-1] ^= 1
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", ECDSA: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, csr string
		code      codes.Code
		want      string
	}{
		{"Ed25519", request(t, ed, &x509.CertificateRequest{}), codes.InvalidArgument, "is not supported"},
		{"RSA of 1024 bits", request(t, small, &x509.CertificateRequest{}), codes.InvalidArgument, "1024 bits is outside"},
		{"RSA of 16384 bits", unsigned(t, huge), codes.InvalidArgument, "16384 bits is outside"},
		{"P-224", request(t, p224, &x509.CertificateRequest{}), codes.InvalidArgument, "P-224"},
		{"broken signature", csrPEM(broken), codes.InvalidArgument, "not signed by its own key"},
		{"somebody else's key", unsigned(t, &mustRSA(t).PublicKey), codes.InvalidArgument, "not signed by its own key"},
		{"empty", "", codes.InvalidArgument, "no PEM block"},
		{"junk", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", codes.InvalidArgument, "read certificate request"},
		{"cut", csrPEM(block.Bytes[:len(block.Bytes)/2]), codes.InvalidArgument, "read certificate request"},
		{"a certificate", string(certPEM), codes.InvalidArgument, "no PEM block"},
		{"a private key", string(keyPEM), codes.InvalidArgument, "no PEM block"},
		{"long", plain + strings.Repeat("\n", 17<<10), codes.InvalidArgument, "bytes are more than"},
		{"longer than a message", strings.Repeat("A", 5<<20), codes.ResourceExhausted, "larger than max"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaf, err := o.ask(tt.csr)
			if status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v %v, want %v %q", leaf, err, tt.code, tt.want)
			}
			if strings.Contains(err.Error(), "PRIVATE") {
				t.Error("the refusal quotes the request")
			}
		})
	}
	if n := o.regenerations("web-1"); n != 0 {
		t.Errorf("%d certificates were made", n)
	}
	if _, err := o.ask(plain); err != nil {
		t.Errorf("a good request: %v", err)
	}
}

func mustRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestOneFloodsOthersAreServed: a proxy that asks without end gets its few certificates, and the other one all of its own.
func TestOneFloodsOthersAreServed(t *testing.T) {
	o := newOffice(t)
	raw, err := token.NewIssuer(o.store, o.clock.Now).Dataplane(token.Dataplane{Mesh: "default", Name: "db-1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	csr := request(t, mustRSA(t), &x509.CertificateRequest{})
	flood := call(t, "authorization", o.token, "kuma-node-id", "default.web-1")
	other := call(t, "authorization", raw, "kuma-node-id", "default.db-1")
	stop, refused := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(refused) })
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[codes.Code]int{}
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := o.client.CreateCertificate(flood, &istio.IstioCertificateRequest{Csr: csr})
				mu.Lock()
				count[status.Code(err)]++
				mu.Unlock()
				if err != nil {
					once()
				}
			}
		})
	}
	<-refused
	for n := range burst {
		if _, err := o.client.CreateCertificate(other, &istio.IstioCertificateRequest{Csr: csr}); err != nil {
			t.Errorf("request %d of the other proxy: %v", n+1, err)
		}
	}
	close(stop)
	wg.Wait()
	if count[codes.OK] > burst || count[codes.OK]+count[codes.ResourceExhausted] != sum(count) {
		t.Errorf("the flood got %v, want at most %d certificates and else ResourceExhausted", count, burst)
	}
	if n := o.regenerations("web-1"); n != count[codes.OK] {
		t.Errorf("%d certificates were made for the flood, %d were given out", n, count[codes.OK])
	}
}

func sum(count map[codes.Code]int) (n int) {
	for _, c := range count {
		n += c
	}
	return n
}

// TestSerials: a thousand certificates of one key have a thousand serials, which nobody can guess.
func TestSerials(t *testing.T) {
	o := newOffice(t)
	csr := []byte(request(t, mustRSA(t), &x509.CertificateRequest{}))
	seen, short, last := map[string]bool{}, 0, new(big.Int)
	const n = 1000
	for range n {
		id, err := o.SignCSR(t.Context(), "default", "web-1", csr, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, err := certs.ParseCertificates(id.Cert)
		if err != nil {
			t.Fatal(err)
		}
		serial := list[0].SerialNumber
		seen[serial.String()] = true
		// Neither near the one before, as a counter or a clock would be, nor of less than 64 bits.
		if new(big.Int).Abs(new(big.Int).Sub(serial, last)).BitLen() < 64 || serial.BitLen() < 64 {
			short++
		}
		last = serial
	}
	if len(seen) != n || short > 0 {
		t.Errorf("%d serials of %d certificates, %d of them are no random number of 64 bits or more", len(seen), n, short)
	}
}

// swapped is a store in which a Dataplane is another one from the second look on.
type swapped struct {
	store.Store
	mu    sync.Mutex
	looks int
	next  *resource.Resource
}

func (s *swapped) Get(key resource.Key) (*resource.Resource, error) {
	if key != s.next.Key {
		return s.Store.Get(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks++; s.looks > 1 {
		return s.next, nil
	}
	return s.Store.Get(key)
}

// TestDataplaneIsReplacedMeanwhile: the tags are those that the token allows when it is checked, and another's when the names
// are read.
func TestDataplaneIsReplacedMeanwhile(t *testing.T) {
	o := newOffice(t)
	s := &swapped{Store: o.store, next: dataplane("web-1", map[string]string{"kuma.io/service": "db"})}
	issuer := New(Config{Store: s, Now: o.clock.Now})
	v, err := token.NewValidator(o.store, o.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := token.NewIssuer(o.store, o.clock.Now).Dataplane(token.Dataplane{Mesh: "default", Tags: map[string][]string{"kuma.io/service": {"web"}}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.Issuer = issuer
	client, _ := o.serveWith(NewService(issuer, v))
	_, csr := evilCSR(t)
	resp, err := client.CreateCertificate(call(t, "authorization", raw, "kuma-node-id", "default.web-1"), &istio.IstioCertificateRequest{Csr: csr})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "not allowed with this token") {
		t.Errorf("got %v %v", resp, err)
	}
	if s.looks < 2 {
		t.Errorf("the Dataplane was looked at %d times", s.looks)
	}
}
