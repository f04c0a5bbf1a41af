package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func authority(t testing.TB, mesh string) *Authority {
	t.Helper()
	certPEM, keyPEM, err := NewAuthority(AuthorityConfig{Mesh: mesh, Now: epoch})
	if err != nil {
		t.Fatal(err)
	}
	a, err := LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func uris(t testing.TB, mesh string, tags map[string][]string) []*url.URL {
	t.Helper()
	list, err := WorkloadURIs(mesh, tags)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAuthorityHasTheFormOfTheContract(t *testing.T) {
	ca := authority(t, "default").cert
	if got, want := ca.Subject.String(), "CN=default,OU=Mesh,O=Kuma"; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
	if ca.SerialNumber.Sign() != 0 {
		t.Errorf("serial %v, want 0", ca.SerialNumber)
	}
	if len(ca.URIs) != 1 || ca.URIs[0].String() != "spiffe://default" {
		t.Errorf("names %v", ca.URIs)
	}
	if !ca.IsCA || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("CA %v, usage %b", ca.IsCA, ca.KeyUsage)
	}
	if got := ca.PublicKey.(*rsa.PublicKey).N.BitLen(); got != 2048 {
		t.Errorf("key of %d bits", got)
	}
	if want := epoch.Add(-10 * time.Second); !ca.NotBefore.Equal(want) {
		t.Errorf("not before %v, want %v", ca.NotBefore, want)
	}
	if want := epoch.Add(DefaultAuthorityLifetime); !ca.NotAfter.Equal(want) {
		t.Errorf("not after %v, want %v", ca.NotAfter, want)
	}
}

func TestLeafHasTheFormOfTheContract(t *testing.T) {
	for _, kind := range []KeyType{ECDSAP256, RSA2048} {
		t.Run(string(kind), func(t *testing.T) {
			ca, key := authority(t, "default"), mustKey(t, kind)
			csr, err := NewCSR(key)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := ParseCSR(csr)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := ca.Sign(SignRequest{PublicKey: pub, Lifetime: time.Hour, Now: epoch, URIs: uris(t, "default", map[string][]string{
				"kuma.io/service": {"frontend"}, "kuma.io/protocol": {"http"}, "version": {"v2", "v1"},
			})})
			if err != nil {
				t.Fatal(err)
			}
			c, err := Verify(leaf.PEM, ca.Bundle(), key, epoch)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range c.URIs {
				got = append(got, u.String())
			}
			want := []string{"spiffe://default/frontend", "kuma://kuma.io/protocol/http", "kuma://kuma.io/service/frontend", "kuma://version/v1", "kuma://version/v2"}
			if !slices.Equal(got, want) {
				t.Errorf("names %v, want %v", got, want)
			}
			if c.Subject.String() != "" || c.Issuer.String() != "CN=default,OU=Mesh,O=Kuma" {
				t.Errorf("subject %q issuer %q", c.Subject, c.Issuer)
			}
			if want := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement; c.KeyUsage != want {
				t.Errorf("usage %b, want %b", c.KeyUsage, want)
			}
			if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
				t.Errorf("extended usage %v", c.ExtKeyUsage)
			}
			if !c.NotBefore.Equal(epoch.Add(-5*time.Minute)) || !c.NotAfter.Equal(epoch.Add(time.Hour)) {
				t.Errorf("valid %v to %v", c.NotBefore, c.NotAfter)
			}
			if c.SerialNumber.BitLen() < 64 {
				t.Errorf("serial %v is not random", c.SerialNumber)
			}
		})
	}
}

func mustKey(t testing.TB, kind KeyType) crypto.Signer {
	t.Helper()
	k, err := NewKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVerifyRefuses(t *testing.T) {
	ca, other := authority(t, "default"), authority(t, "default")
	key := mustKey(t, ECDSAP256)
	leaf, err := ca.Sign(SignRequest{PublicKey: key.Public(), Lifetime: time.Hour, Now: epoch, URIs: uris(t, "default", map[string][]string{TagService: {"a"}})})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name          string
		chain, bundle []byte
		key           crypto.Signer
		at            time.Time
		want          string
	}{
		{"another authority", leaf.PEM, other.Bundle(), key, epoch, "unknown authority"},
		{"expired", leaf.PEM, ca.Bundle(), key, epoch.Add(2 * time.Hour), "expired"},
		{"not yet valid", leaf.PEM, ca.Bundle(), key, epoch.Add(-time.Minute), "not yet valid"},
		{"another key", leaf.PEM, ca.Bundle(), mustKey(t, ECDSAP256), epoch, "does not belong"},
		{"authority as leaf", ca.Bundle(), ca.Bundle(), nil, epoch, "not a leaf"},
		{"nothing", nil, ca.Bundle(), key, epoch, "no PEM block"},
		{"no bundle", leaf.PEM, []byte("junk"), key, epoch, "trust bundle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Verify(tt.chain, tt.bundle, tt.key, tt.at); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
	both := append(slices.Clone(other.Bundle()), ca.Bundle()...)
	if _, err := Verify(leaf.PEM, both, key, epoch); err != nil {
		t.Fatalf("a bundle of two authorities: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	ca, names := authority(t, "default"), uris(t, "default", map[string][]string{TagService: {"a"}})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := mustKey(t, ECDSAP256).Public()
	for _, tt := range []struct {
		name string
		req  SignRequest
		want string
	}{
		{"weak rsa", SignRequest{PublicKey: &weak.PublicKey, URIs: names, Lifetime: time.Hour, Now: epoch}, "1024 bits"},
		{"odd curve", SignRequest{PublicKey: &p224.PublicKey, URIs: names, Lifetime: time.Hour, Now: epoch}, "P-224"},
		{"no names", SignRequest{PublicKey: good, Lifetime: time.Hour, Now: epoch}, "no name"},
		{"no lifetime", SignRequest{PublicKey: good, URIs: names, Now: epoch}, "not positive"},
		{"dead authority", SignRequest{PublicKey: good, URIs: names, Lifetime: time.Hour, Now: epoch.Add(2 * DefaultAuthorityLifetime)}, "expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ca.Sign(tt.req); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
	leaf, err := ca.Sign(SignRequest{PublicKey: good, URIs: names, Lifetime: 2 * DefaultAuthorityLifetime, Now: epoch})
	if err != nil || !leaf.NotAfter.Equal(ca.NotAfter()) {
		t.Fatalf("a leaf must not outlive its authority: %v %v", leaf, err)
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	ca, key := authority(t, "default"), mustKey(t, ECDSAP256)
	keyPEM, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	self := func(change func(*x509.Certificate)) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: epoch, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		change(c)
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return encodePEM("CERTIFICATE", der)
	}
	for _, tt := range []struct {
		name      string
		cert, key []byte
		want      string
	}{
		{"a leaf", self(func(c *x509.Certificate) { c.IsCA = false }), keyPEM, "basic constraint"},
		{"may not sign", self(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), keyPEM, "keyCertSign"},
		{"key agreement", self(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }), keyPEM, "keyAgreement"},
		{"another key", ca.Bundle(), keyPEM, "does not belong"},
		{"no key", ca.Bundle(), ca.Bundle(), "no PEM block"},
		{"no cert", keyPEM, keyPEM, "no PEM block"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadAuthority(tt.cert, tt.key)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "BEGIN") {
				t.Fatal("the error quotes PEM")
			}
		})
	}
	if _, err := LoadAuthority(self(func(*x509.Certificate) {}), keyPEM); err != nil {
		t.Fatalf("the form that the others break is itself refused: %v", err)
	}
}

func TestKeysSurvivePEM(t *testing.T) {
	for _, kind := range []KeyType{"", ECDSAP256, RSA2048} {
		key := mustKey(t, kind)
		text, err := EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseKey(text)
		if err != nil || !SamePublicKey(key.Public(), back.Public()) {
			t.Errorf("%q: %v", kind, err)
		}
	}
	if _, err := NewKey("ed25519"); err == nil {
		t.Error("an unknown key type is accepted")
	}
}

func TestCSRNamesNothingAndMustBeSigned(t *testing.T) {
	key := mustKey(t, ECDSAP256)
	text, err := NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := firstBlock(text, "CERTIFICATE REQUEST")
	if err != nil {
		t.Fatal(err)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || len(req.URIs)+len(req.DNSNames) > 0 || req.Subject.String() != "" {
		t.Fatalf("got %v %v", req, err)
	}
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := ParseCSR(encodePEM(block.Type, block.Bytes)); err == nil {
		t.Fatal("a broken signature is accepted")
	}
	if _, err := ParseCSR([]byte(strings.Repeat("x", maxCSR+1))); err == nil {
		t.Fatal("a huge request is accepted")
	}
}

func TestParseSPIFFEIDIsStrict(t *testing.T) {
	for uri, want := range map[string]SPIFFEID{
		"spiffe://default":               {"default", ""},
		"spiffe://default/frontend":      {"default", "frontend"},
		"spiffe://m-1.x/ns/a/sa/b_c.d-E": {"m-1.x", "ns/a/sa/b_c.d-E"},
	} {
		got, err := ParseSPIFFEID(uri)
		if err != nil || got != want || got.String() != uri {
			t.Errorf("%s: got %+v %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"", "spiffe://", "http://default/a", "SPIFFE://default/a", "spiffe://default/", "spiffe://default//a", "spiffe://default/../b",
		"spiffe://default/.", "spiffe://default/a?b", "spiffe://default/a#b", "spiffe://default/%61", "spiffe://u@default/a", "spiffe://default:1/a", "spiffe://a b/c",
	} {
		if got, err := ParseSPIFFEID(uri); err == nil {
			t.Errorf("%q is accepted as %+v", uri, got)
		}
	}
}

func TestWorkloadURIs(t *testing.T) {
	for name, tags := range map[string]map[string][]string{
		"no service":       {"a": {"b"}},
		"empty service":    {TagService: {""}},
		"path in service":  {TagService: {"a/../b"}},
		"tag with a query": {TagService: {"a"}, "x?y": {"z"}},
		"tag with a colon": {TagService: {"a"}, "x:y": {"z"}},
		"empty tag":        {TagService: {"a"}, "": {"z"}},
	} {
		if got, err := WorkloadURIs("default", tags); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if _, err := WorkloadURIs("a/b", map[string][]string{TagService: {"x"}}); err == nil {
		t.Error("a mesh with a slash is accepted")
	}
}

// What we name must be what others read: go-spiffe is the reference.
func TestSPIFFEIDsAgreeWithGoSPIFFE(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mesh := rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,20}`).Draw(t, "mesh")
		service := rapid.StringMatching(`[a-zA-Z0-9._%/ -]{1,20}`).Draw(t, "service")
		list, err := WorkloadURIs(mesh, map[string][]string{TagService: {service}})
		if err != nil {
			return // a name that we refuse is never written
		}
		id, err := spiffeid.FromURI(list[0])
		if err != nil || id.TrustDomain().Name() != mesh || id.Path() != "/"+service {
			t.Fatalf("%s: %v %v", list[0], id, err)
		}
	})
}

func TestRenewAt(t *testing.T) {
	from, to := epoch, epoch.Add(100*time.Minute)
	for _, tt := range []struct {
		name   string
		random float64
		want   time.Duration
	}{
		{"earliest", 0, 45 * time.Minute},
		{"middle", 0.5, 50 * time.Minute},
		{"late", 0.75, 52*time.Minute + 30*time.Second},
	} {
		if got := RenewAt(from, to, tt.random).Sub(from); got != tt.want {
			t.Errorf("%s: after %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestShortLivesAreRenewedAtHalf: a leaf whose NotBefore lies further back than it will live is not renewed at once.
func TestShortLivesAreRenewedAtHalf(t *testing.T) {
	key := mustKey(t, ECDSAP256)
	leaf, err := authority(t, "default").Sign(SignRequest{
		PublicKey: key.Public(), URIs: uris(t, "default", map[string][]string{TagService: {"a"}}), Lifetime: time.Minute, Now: epoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := RenewAt(epoch, leaf.NotAfter, 0.5).Sub(epoch); got != 30*time.Second {
		t.Errorf("a certificate of a minute is renewed after %s, want 30s", got)
	}
}

func TestServerPairServesItsHosts(t *testing.T) {
	hosts := LocalHosts("cp-1", []net.Addr{
		&net.IPNet{IP: net.ParseIP("10.1.2.3"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("fe80::1")},
		&net.IPNet{IP: net.ParseIP("127.0.0.1")},
	})
	if want := []string{"10.1.2.3", "127.0.0.1", "::1", "cp-1", "localhost"}; !slices.Equal(hosts, want) {
		t.Fatalf("hosts %v, want %v", hosts, want)
	}
	certPEM, keyPEM, err := ServerPair(hosts, epoch)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	for _, h := range hosts {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: h, CurrentTime: epoch}); err != nil {
			t.Errorf("%s: %v", h, err)
		}
	}
	if pair.Leaf.Subject.String() != "" || !pair.Leaf.IsCA {
		t.Errorf("subject %q, CA %v", pair.Leaf.Subject, pair.Leaf.IsCA)
	}
	if hosts := LocalHosts("", nil); len(hosts) != 3 {
		t.Errorf("without any interface: %v", hosts)
	}
}

func FuzzParseCSR(f *testing.F) {
	csr, err := NewCSR(mustKey(f, ECDSAP256))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if pub, err := ParseCSR(text); err == nil && checkPublicKey(pub) != nil {
			t.Fatal("an unacceptable key came through")
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	a := authority(f, "default")
	key, err := EncodeKey(a.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Bundle())
	f.Add(key)
	f.Add(append(slices.Clone(a.Bundle()), key...))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := ParseCertificates(text); err == nil {
			again, err := ParseCertificates(EncodeCertificates(list...))
			if err != nil || len(again) != len(list) {
				t.Fatalf("%d certificates became %d: %v", len(list), len(again), err)
			}
		}
		if _, err := ParseKey(text); err != nil && len(text) > 100 && strings.Contains(err.Error(), string(text)) {
			t.Fatal("the error quotes the text")
		}
		_, _ = LoadAuthority(text, text)
	})
}

func FuzzParseSPIFFEID(f *testing.F) {
	f.Add("spiffe://default/frontend")
	f.Add("spiffe://default/%2e%2e/a")
	f.Fuzz(func(t *testing.T, uri string) {
		if id, err := ParseSPIFFEID(uri); err == nil && id.String() != uri {
			t.Fatalf("%q reads as %q", uri, id)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	names := uris(b, "default", map[string][]string{TagService: {"frontend"}, "kuma.io/protocol": {"http"}, "kuma.io/zone": {"default"}})
	pub := mustKey(b, ECDSAP256).Public()
	caKey := mustKey(b, ECDSAP256)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: epoch.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		b.Fatal(err)
	}
	caPEM, err := EncodeKey(caKey)
	if err != nil {
		b.Fatal(err)
	}
	ecdsaCA, err := LoadAuthority(encodePEM("CERTIFICATE", der), caPEM)
	if err != nil {
		b.Fatal(err)
	}
	for name, ca := range map[string]*Authority{"authority=ecdsa": ecdsaCA, "authority=rsa": authority(b, "default")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := ca.Sign(SignRequest{PublicKey: pub, URIs: names, Lifetime: time.Hour, Now: epoch}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
		})
	}
}
