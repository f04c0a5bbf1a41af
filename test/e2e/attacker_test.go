//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// mark is in all that an attacker sends, and evidence in all that a witness answers.
const (
	mark     = "attack"
	evidence = "the workload was reached"
)

// witness is a workload that tells whether an attacker's bytes have come to it, on any of its ports. It answers HTTP, and on
// ports that speak none it sends back what it hears.
type witness struct {
	mu      sync.Mutex
	reached int
}

// testify puts a witness on a host, in the place of its application if that has the port; it listens on all addresses.
func testify(t *testing.T, w *scene.Workload, http, echo []int) *witness {
	t.Helper()
	if err := w.App.Close(); err != nil {
		t.Fatal(err)
	}
	out := &witness{}
	for _, port := range http {
		out.http(t, out.listen(t, w, port))
	}
	for _, port := range echo {
		out.echo(t, out.listen(t, w, port))
	}
	return out
}

func (w *witness) listen(t *testing.T, at *scene.Workload, port int) net.Listener {
	t.Helper()
	l, err := at.Host.Listen("tcp", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return &heard{l, w}
}

func (w *witness) http(t *testing.T, l net.Listener) {
	t.Helper()
	server := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

func (w *witness) echo(t *testing.T, l net.Listener) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // ends with either side
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// ServeHTTP answers with what a client presented itself as.
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	// A client that has gone needs no answer.
	_, _ = fmt.Fprintf(rw, "%s by %q, tags %q", evidence, r.Header.Values("X-Forwarded-Client-Cert"), r.Header.Values("X-Kuma-Tags"))
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached
}

// heard notes the marked bytes of its connections.
type heard struct {
	net.Listener
	witness *witness
}

func (h *heard) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &heardConn{Conn: c, witness: h.witness}, nil
}

type heardConn struct {
	net.Conn
	witness *witness
	tail    []byte // of one reader
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tail = append(c.tail, b[:n]...)
	if bytes.Contains(c.tail, []byte(mark)) {
		c.witness.mu.Lock()
		c.witness.reached++
		c.witness.mu.Unlock()
		c.tail = nil
	}
	c.tail = bytes.Clone(c.tail[max(0, len(c.tail)-len(mark)):])
	return n, err
}

// patienceOfAttack bounds one attempt, should neither side close.
const patienceOfAttack = 20 * time.Second

// speak sends bytes and returns all that comes back. It says that there will be no more when that is junk, or the other side
// might wait for the rest; to HTTP it does not, for Envoy takes it for a client that has gone.
func speak(conn net.Conn, payload []byte) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(patienceOfAttack)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(payload); err != nil {
		return nil, err
	}
	if half, ok := conn.(*net.TCPConn); ok && !bytes.Equal(payload, getRequest) {
		if err := half.CloseWrite(); err != nil {
			return nil, err
		}
	}
	var answer []byte
	for b := make([]byte, 4<<10); !bytes.Contains(answer, payload); { // what comes back whole is an echo, which has no end
		n, err := conn.Read(b)
		answer = append(answer, b[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return answer, err
		}
	}
	return answer, nil
}

// overTLS is speak within TLS. No server is verified: it is not what is tested.
func overTLS(conn net.Conn, cfg *tls.Config, payload []byte) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(patienceOfAttack)); err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify = true
	c := tls.Client(conn, cfg)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return speak(c, payload)
}

var getRequest = []byte("GET /" + mark + " HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n")

// dial is a way to a port.
type dial func(ctx context.Context, port int) (net.Conn, error)

func from(host *netlab.Host, address string) dial {
	return func(ctx context.Context, port int) (net.Conn, error) {
		return host.DialContext(ctx, "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	}
}

// meshCA is the authority of a mesh as an administrator can read it: with it an attacker's certificates differ from good ones
// in exactly one point.
type meshCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
}

func newMeshCA(t *testing.T, s *scene.Scene, mesh string) *meshCA {
	t.Helper()
	read := func(name string) *pem.Block {
		status, body := fetch(t, s.ControlPlane.Host, "http://127.0.0.1:5681/meshes/"+mesh+"/secrets/"+name, nil)
		var secret struct{ Data string }
		if err := json.Unmarshal([]byte(body), &secret); status != http.StatusOK || err != nil {
			t.Fatalf("read secret %s: %d %v", name, status, err)
		}
		data, err := base64.StdEncoding.DecodeString(secret.Data)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		if block == nil {
			t.Fatalf("secret %s is no PEM", name)
		}
		return block
	}
	out := &meshCA{t: t}
	var err error
	if out.cert, err = x509.ParseCertificate(read(mesh + ".ca-builtin-cert-ca-1").Bytes); err != nil {
		t.Fatal(err)
	}
	if out.key, err = x509.ParsePKCS1PrivateKey(read(mesh + ".ca-builtin-key-ca-1").Bytes); err != nil {
		t.Fatal(err)
	}
	return out
}

// issue makes a certificate of names that is good but for what change does to it.
func (ca *meshCA) issue(names []string, change func(*x509.Certificate)) tls.Certificate {
	ca.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		u, err := url.Parse(name)
		if err != nil {
			ca.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// selfMade is a certificate of names that its own key has signed.
func selfMade(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &meshCA{t: t, key: key, cert: &x509.Certificate{SerialNumber: big.NewInt(1)}}
	return own.issue(names, nil)
}

// offer is a client's side of mTLS as the mesh's proxies speak it.
func offer(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"kuma"}}
}

// outcome is what an attempt came to, in a line.
func outcome(answer []byte, err error) string {
	if len(answer) == 0 && err == nil {
		err = errors.New("the connection was closed")
	}
	return fmt.Sprintf("%.100q, %v", answer, err)
}
