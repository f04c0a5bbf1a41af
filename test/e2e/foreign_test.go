//go:build linux

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// foreignTLS sends a request over TLS with a certificate that claims to be web but is signed by nobody of the mesh. It
// returns nil only when an answer comes.
func foreignTLS(c context.Context, from *netlab.Host, to *scene.Workload) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "default", Path: "/web"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(c context.Context, network, address string) (net.Conn, error) {
		conn, err := from.DialContext(c, network, address)
		if err != nil {
			return nil, err
		}
		t := tls.Client(conn, &tls.Config{
			InsecureSkipVerify: true, // the server is not what is tested
			NextProtos:         []string{"kuma"},
			Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		})
		return t, t.HandshakeContext(c)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(c, http.MethodGet, "https://"+net.JoinHostPort(to.Host.Addr.String(), "8080"), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
