package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func adminStore(t *testing.T) *Admin {
	t.Helper()
	st := memory.Open(resource.NewRegistry(resource.Core()...))
	t.Cleanup(func() { st.Close() })
	if err := EnsureAuthorities(t.Context(), st, time.Now()); err != nil {
		t.Fatal(err)
	}
	first, err := st.Get(resource.Key{Kind: resource.KindGlobalSecret, Name: EnvoyAdminCA})
	if err != nil {
		t.Fatal(err)
	}
	if err := EnsureAuthorities(t.Context(), st, time.Now()); err != nil {
		t.Fatal(err)
	}
	again, err := st.Get(first.Key)
	if err != nil || again.Version != first.Version {
		t.Fatalf("a second start makes another authority: %v", err)
	}
	if _, err := st.Get(resource.Key{Kind: resource.KindGlobalSecret, Name: InterCPCA}); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAdmin(st)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// text renders the authority as the store has it.
func (a *Admin) text(t *testing.T) []byte {
	t.Helper()
	key, err := certs.EncodeKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(a.pem), key...)
}

func rsaAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(certs.EncodeCertificates(leaf), keyPEM...)
}

// TestAdminPairsSurviveARestart also guards against a standard library that signs with randomness of its own.
func TestAdminPairsSurviveARestart(t *testing.T) {
	for name, authority := range map[string][]byte{"ecdsa": adminStore(t).text(t), "rsa": rsaAuthority(t)} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]string{}
			for range 2 {
				a, err := newAdmin(authority)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					for _, address := range []string{"10.0.0.1", "10.0.0.2", "fd00::1", "web.example"} {
						cert, key, err := a.Server(address)
						if err != nil {
							t.Fatal(err)
						}
						got := string(cert) + string(key)
						if before, ok := seen[address]; ok && before != got {
							t.Errorf("%s gets another pair", address)
						}
						seen[address] = got
					}
				}
			}
			all := map[string]bool{}
			for _, p := range seen {
				all[p] = true
			}
			if len(all) != len(seen) {
				t.Error("two addresses share a pair")
			}
		})
	}
}

func TestAdminHandshake(t *testing.T) {
	a, other := adminStore(t), adminStore(t)
	client, err := a.Client()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Client()
	if err != nil {
		t.Fatal(err)
	}
	asServer := func(address string) *tls.Config {
		cert, key, err := a.Server(address)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: client.RootCAs, MinVersion: tls.VersionTLS12}
	}
	for _, tt := range []struct {
		name, address, dialled string
		client                 *tls.Config
		refused                bool
	}{
		{"the control plane", "10.0.0.1", "10.0.0.1", client, false},
		{"a host name", "web.example", "web.example", client, false},
		{"another proxy's listener", "10.0.0.2", "10.0.0.1", client, true},
		{"another authority", "10.0.0.1", "10.0.0.1", foreign, true},
		{"no certificate", "10.0.0.1", "10.0.0.1", &tls.Config{RootCAs: client.RootCAs}, true},
		{"a proxy's certificate", "10.0.0.1", "10.0.0.1", asServer("10.0.0.2"), true},
		{"that of a proxy called kuma-cp", "10.0.0.1", "10.0.0.1", asServer(adminClient), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			serverCfg := asServer(tt.address)
			serverCfg.ClientAuth, serverCfg.ClientCAs = tls.RequireAndVerifyClientCert, client.RootCAs
			cfg := tt.client.Clone()
			cfg.ServerName = tt.dialled
			l, err := tls.Listen("tcp", "127.0.0.1:0", serverCfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			type result struct {
				state tls.ConnectionState
				err   error
			}
			served := make(chan result, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					served <- result{err: err}
					return
				}
				defer conn.Close()
				end := conn.(*tls.Conn)
				err = end.HandshakeContext(t.Context())
				served <- result{end.ConnectionState(), err}
			}()
			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			err = tls.Client(raw, cfg).HandshakeContext(t.Context())
			server := <-served
			err = errors.Join(err, server.err)
			if (err != nil) != tt.refused {
				t.Fatalf("got %v", err)
			}
			if tt.refused {
				return
			}
			if got := server.state.PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != adminClient {
				t.Errorf("client is %v", got)
			}
		})
	}
}

func TestAdminAuthorityThatCannotBeUsed(t *testing.T) {
	good := adminStore(t).text(t)
	cert, _, _ := strings.Cut(string(good), "-----BEGIN EC")
	_, key, _ := strings.Cut(string(adminStore(t).text(t)), "-----BEGIN EC")
	for name, data := range map[string]string{
		"nothing": "", "no key": cert, "another's key": cert + "-----BEGIN EC" + key, "key alone": "-----BEGIN EC" + key,
	} {
		if _, err := newAdmin([]byte(data)); err == nil || !strings.Contains(err.Error(), EnvoyAdminCA) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
