package mtls

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
)

// issued is a certificate of an authority of mesh default.
type issued struct{ chain, key, roots []byte }

func issue(t *testing.T, service string) func() issued {
	t.Helper()
	now := time.Now()
	rootPEM, rootKey, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", ECDSA: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(rootPEM, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return func() issued {
		key, err := certs.NewKey(certs.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		names, err := certs.WorkloadURIs("default", map[string][]string{certs.TagService: {service}})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ca.Sign(certs.SignRequest{PublicKey: key.Public(), URIs: names, Lifetime: time.Hour, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		keyPEM, err := certs.EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return issued{leaf.PEM, keyPEM, ca.Bundle()}
	}
}

func (i issued) server(t *testing.T, auth tls.ClientAuthType) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(i.chain, i.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.roots)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: auth, ClientCAs: roots, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS12}
}

// serve accepts connections, each of which handle has until the other side closes it.
func serve(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// hold reads until the end.
func hold(c net.Conn) {
	b := make([]byte, 512)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// peeked is a connection of which the first byte was read.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

func TestCheck(t *testing.T) {
	ours := issue(t, "web")
	other := issue(t, "backend") // another authority
	backend, foreign := ours(), other()
	strict := func(conf *tls.Config) func(net.Conn) {
		return func(c net.Conn) { hold(tls.Server(c, conf)) }
	}
	closed := serve(t, hold)
	for _, tt := range []struct {
		name    string
		address netip.AddrPort
		want    string // the verdict, and which attempts are accepted: identity, in clear, nothing, foreign
		why     string
	}{
		{"strict", serve(t, strict(backend.server(t, tls.RequireAndVerifyClientCert))), "enforced 1000", "an identity of the mesh only"},
		{"strict with TLS 1.2", serve(t, strict(func() *tls.Config {
			c := backend.server(t, tls.RequireAndVerifyClientCert)
			c.MaxVersion = tls.VersionTLS12
			return c
		}())), "enforced 1000", "only"},
		{"permissive", serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			first, err := r.Peek(1)
			if err != nil {
				return
			}
			if first[0] == 22 {
				hold(tls.Server(peeked{c, r}, backend.server(t, tls.RequireAndVerifyClientCert)))
			} else {
				hold(peeked{c, r})
			}
		}), "permissive 1100", "those in clear too"},
		{"in clear alone", serve(t, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			hold(c)
		}), "not mTLS 0100", "the handshake failed"},
		{"TLS for everybody", serve(t, strict(backend.server(t, tls.NoClientCert))), "not verified 1011", "without asking who connects"},
		{"of another authority", serve(t, strict(foreign.server(t, tls.RequireAndVerifyClientCert))), "refused 0000", "unknown authority"},
		{"nobody", netip.AddrPortFrom(closed.Addr(), 1), "refused 0000", "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := check(t.Context(), []Target{{Cluster: "c", SNI: "x", Identities: []string{"spiffe://default/web"}, Endpoints: []netip.AddrPort{tt.address}}},
				Credentials{Chain: backend.chain, Key: backend.key, Roots: backend.roots}, nil)
			if err != nil {
				t.Fatal(err)
			}
			accepted := ""
			for _, a := range got[0].Attempts {
				accepted += map[bool]string{true: "1", false: "0"}[a.Accepted]
			}
			if is := got[0].Verdict + " " + accepted; is != tt.want || !strings.Contains(got[0].Why, tt.why) {
				t.Errorf("got %s: %s, want %s: %s\n%+v", is, got[0].Why, tt.want, tt.why, got[0].Attempts)
			}
		})
	}
}

func TestCheckWhoAnswers(t *testing.T) {
	backend := issue(t, "backend")()
	address := serve(t, func(c net.Conn) { hold(tls.Server(c, backend.server(t, tls.RequireAndVerifyClientCert))) })
	for identity, want := range map[string]string{"spiffe://default/backend": "enforced", "spiffe://default/": "enforced", "spiffe://default/back": "refused", "spiffe://other/": "refused"} {
		got, err := check(t.Context(), []Target{{Identities: []string{identity}, Endpoints: []netip.AddrPort{address}}}, Credentials{backend.chain, backend.key, backend.roots}, nil)
		if err != nil || got[0].Verdict != want {
			t.Errorf("%s: %+v, %v; want %s", identity, got, err, want)
		}
	}
}

func TestCheckWithout(t *testing.T) {
	backend := issue(t, "backend")()
	for want, c := range map[string]Credentials{
		"no identity yet":   {Roots: backend.roots},
		"not been told yet": {Chain: backend.chain, Key: backend.key},
	} {
		if _, err := Check(t.Context(), nil, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	many := make([]netip.AddrPort, maxChecked+1)
	for i := range many {
		many[i] = netip.MustParseAddrPort("127.0.0.1:1") // this host's: none is tried
	}
	got, err := Check(t.Context(), []Target{{Endpoints: many}}, Credentials{backend.chain, backend.key, backend.roots})
	if err != nil || len(got) != len(many) || got[0].Verdict != "not tried" || len(got[0].Attempts) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
