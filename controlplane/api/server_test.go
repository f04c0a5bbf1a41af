package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
)

// serve runs a server until the test ends and returns its addresses.
func serve(t *testing.T, cfg api.Config) []net.Addr {
	t.Helper()
	s, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s.Addresses()
}

func TestRun(t *testing.T) {
	cfg := config(t)
	cfg.HTTPAddress = "127.0.0.1:0"
	addr := serve(t, cfg)[0].String()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/meshes/default", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %d", resp.StatusCode)
	}
	cfg.HTTPAddress = addr
	second, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("port in use: got %v", err)
	}
}

// TestSlowloris: connections that send slowly are cut off, before and after the header (assertion 35).
func TestSlowloris(t *testing.T) {
	cfg := config(t)
	cfg.HTTPAddress = "127.0.0.1:0"
	cfg.ReadHeaderTimeout, cfg.ReadTimeout, cfg.IdleTimeout = 50*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	addr := serve(t, cfg)[0].String()
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a header": "GET /meshes HTTP/1.1\r\nHost: localhost\r\nX-",
		"half a body":   "PUT /meshes/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
		"idle":          "GET /meshes HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, sent)
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection was not closed: %v", err)
			}
		})
	}
}

func TestHeaderLimit(t *testing.T) {
	cfg := config(t)
	cfg.HTTPAddress = "127.0.0.1:0"
	addr := serve(t, cfg)[0].String()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		w := bufio.NewWriter(conn)
		fmt.Fprintf(w, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 64<<10))
		w.Flush()
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestHTTPS also covers administrators by client certificate and HTTP/2.
func TestHTTPS(t *testing.T) {
	cert, pool := certificate(t)
	cfg := config(t)
	cfg.HTTPSAddress = "127.0.0.1:0"
	cfg.LocalhostIsAdmin = false
	cfg.AuthnType = api.AuthnAdminClientCerts
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12}
	addr := serve(t, cfg)[0].String()
	for _, test := range []struct {
		name  string
		certs []tls.Certificate
		want  string
	}{{"with", []tls.Certificate{cert}, adminBody}, {"without", nil, anonymousBody}} {
		t.Run(test.name, func(t *testing.T) {
			tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: test.certs, MinVersion: tls.VersionTLS12}}
			defer tr.CloseIdleConnections()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/who-am-i", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			same(t, "who-am-i", string(b), test.want)
			if resp.ProtoMajor != 2 {
				t.Errorf("got HTTP/%d", resp.ProtoMajor)
			}
		})
	}
	old := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if conn, err := tls.Dial("tcp", addr, old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// FuzzRequest sends any body and query to any path, as an anonymous stranger: never a panic or a 500, always JSON or
// plain text, never a key, and what is accepted can be read again.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"PUT", "/meshes/default/meshtimeouts/x", "", timeout},
		{"PUT", "/meshes/default/dataplanes/backend-1", "", dataplane},
		{"PUT", "/meshes/m", "", `{"type":"Mesh","name":"m","mtls":{"enabledBackend":"a","backends":[{"name":"a","type":"builtin"}]}}`},
		{"PUT", "/hostnamegenerators/g", "", `{"type":"HostnameGenerator","name":"g","spec":{"selector":{"meshService":{}},"template":"{{ .Name }}.x"}}`},
		{"PUT", "/meshes/default/meshservices/s", "", `{"type":"MeshService","mesh":"default","name":"s","spec":{"ports":[null,{"port":1}]},"status":{}}`},
		{"PUT", "/meshes/default/dataplanes/d", "", `{"type":"Dataplane","mesh":"default","name":"d","networking":{"inbound":[null],"outbound":[null]}}`},
		{"GET", "/meshes/default/dataplanes", "size=1&offset=0&tag=a:b&gateway=true&name=x", ""},
		{"GET", "/meshes/default/dataplanes/_overview", "offset=9223372036854775807&size=1000", ""},
		{"POST", "/tokens/user", "", `{"name":"x"}`},
		{"DELETE", "/meshes/%2e%2e", "format=%", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		cfg := config(t)
		s, err := api.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		send := func(method, body string) *httptest.ResponseRecorder {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path+"?"+query, strings.NewReader(body))
			if err != nil {
				return nil // not an HTTP request
			}
			req.RemoteAddr = "192.0.2.1:1"
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, req)
			return w
		}
		w := send(method, body)
		if w == nil {
			return
		}
		if w.Code >= 500 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if b := w.Body.Bytes(); w.Header().Get("Content-Type") == "application/json" && !json.Valid(b) && method != http.MethodHead {
			t.Errorf("not JSON: %s", b)
		} else if bytes.Contains(b, []byte("LS0tLS1CRUdJTi")) {
			t.Errorf("a key: %s", b)
		}
		if method == http.MethodPut && w.Code == http.StatusCreated {
			if w := send(http.MethodGet, ""); w.Code != http.StatusOK && query == "" {
				t.Errorf("stored but not readable: %d %s", w.Code, w.Body)
			}
		}
	})
}
