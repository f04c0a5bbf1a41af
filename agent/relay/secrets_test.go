package relay_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/certs"
)

// keyPair is a certificate with its key, PEM.
func keyPair(t *testing.T, ca *certs.Authority, service string) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := certs.NewKey(certs.RSA2048) // as Kuma 2.9
	if err != nil {
		t.Fatal(err)
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{certs.TagService: {service}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Sign(certs.SignRequest{PublicKey: key.Public(), URIs: uris, Lifetime: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if keyPEM, err = certs.EncodeKey(key); err != nil {
		t.Fatal(err)
	}
	return leaf.PEM, keyPEM
}

// secrets are what a control plane of 2.9 sends a proxy: its key and certificate, and the authorities.
func secrets(t *testing.T, ca *certs.Authority, certPEM, keyPEM []byte) map[string]*anypb.Any {
	t.Helper()
	inline := func(b []byte) []byte { return field(2, b) } // DataSource
	all := bundle(string(ca.Bundle()))
	all[identitySecret] = &anypb.Any{TypeUrl: secretType, Value: message(
		field(1, []byte(identitySecret)), field(2, message(field(1, inline(certPEM)), field(2, inline(keyPEM)))))}
	return all
}

// tlsListener is tcpListener with mutual TLS, whose secrets come over ADS.
func tlsListener(name, addr, cluster string) *anypb.Any {
	over := func(secret string) []byte { // SdsSecretConfig
		return message(field(1, []byte(secret)), field(2, message(field(3, nil), number(6, 2))))
	}
	context := message(field(1, message(field(6, over(identitySecret)), field(7, over(trustSecret)))), field(2, number(1, 1)))
	typed := message(field(1, []byte("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext")), field(2, context))
	proxy := message(field(1, []byte("test")), field(2, []byte(cluster)))
	forward := message(field(1, []byte("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")), field(2, proxy))
	chain := message(
		field(3, message(field(1, []byte("envoy.filters.network.tcp_proxy")), field(4, forward))),
		field(6, message(field(1, []byte("envoy.transport_sockets.tls")), field(3, typed))))
	return &anypb.Any{TypeUrl: listenerType, Value: message(field(1, []byte(name)), field(2, address(addr)), field(3, chain))}
}

// TestSecretsOfTheControlPlane: with a control plane that makes the keys itself, as 2.9, Envoy gets both secrets through the relay,
// and each renewed one; the status says whose they are.
func TestSecretsOfTheControlPlane(t *testing.T) {
	rootPEM, rootKey, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(rootPEM, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, p *peer) {
		app, port := echo(t, "app"), freePort(t)
		certPEM, keyPEM := keyPair(t, ca, "backend")
		p.set(clusterType, map[string]*anypb.Any{"app": edsCluster("app", 1)})
		p.set(endpointType, map[string]*anypb.Any{"app": endpoints("app", app)})
		p.set(secretType, secrets(t, ca, certPEM, keyPEM))
		p.set(listenerType, map[string]*anypb.Any{"in": tlsListener("in", port, "app")})
		r, path := run(t, p, func(c *relay.Config) {
			c.IdentitySecret, c.TrustSecret = identitySecret, trustSecret
			c.Signer = func([]byte) bool { return true }
		})
		r.IdentityFromControlPlane()
		startEnvoy(t, path)
		clientCert, clientKey := keyPair(t, ca, "web")
		pair, err := tls.X509KeyPair(clientCert, clientKey)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.Certificate())
		ask := func(certificates ...tls.Certificate) (*x509.Certificate, error) {
			c, err := tls.Dial("tcp", port, &tls.Config{
				MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, Certificates: certificates,
				VerifyConnection: func(state tls.ConnectionState) error {
					_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
					return err
				},
			})
			if err != nil {
				return nil, err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				return nil, err
			}
			b, err := io.ReadAll(c)
			if err == nil && string(b) != "app" {
				err = fmt.Errorf("it says %q", b)
			}
			return c.ConnectionState().PeerCertificates[0], err
		}
		await := func(certPEM []byte) {
			t.Helper()
			want, err := certs.ParseCertificates(certPEM)
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(patience); ; {
				got, err := ask(pair)
				if err == nil && got.Equal(want[0]) {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("never shown: %v", err)
				}
				<-time.After(5 * time.Millisecond)
			}
		}
		await(certPEM)
		if _, err := ask(); err == nil {
			t.Error("a client without a certificate is let in")
		}
		if st := r.Status(); st.Identity != "control-plane" {
			t.Errorf("status %q", st.Identity)
		}
		for range 3 {
			certPEM, keyPEM = keyPair(t, ca, "backend")
			p.set(secretType, secrets(t, ca, certPEM, keyPEM))
			await(certPEM)
		}
		p.awaitRequest("the secrets acknowledged", func(q request) bool { return q.typeURL == secretType && q.nonce != "" && q.nack == "" })
	})
}
