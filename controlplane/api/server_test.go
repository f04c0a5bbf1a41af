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
	"github.com/kuma-dp/kuma-dp/resource"
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

// FuzzRequest sends any method, path, query and body: never a panic or a 500, always JSON, plain text or nothing, no answer
// or store that grows without bound, and what is accepted can be read again. A stranger never sees a key.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body, media string }{
		{"PUT", "/meshes/default/meshtimeouts/x", "", timeout, ""},
		{"PUT", "/meshes/default/dataplanes/backend-1", "", dataplane, "application/json"},
		{"PUT", "/meshes/m", "", `{"type":"Mesh","name":"m","mtls":{"enabledBackend":"a","backends":[{"name":"a","type":"builtin"}]}}`, ""},
		{"PUT", "/hostnamegenerators/g", "", `{"type":"HostnameGenerator","name":"g","spec":{"selector":{"meshService":{}},"template":"{{ .Name }}.x"}}`, ""},
		{"PUT", "/meshes/default/meshservices/s", "", `{"type":"MeshService","mesh":"default","name":"s","spec":{"ports":[null,{"port":1}]},"status":{}}`, ""},
		{"PUT", "/meshes/default/dataplanes/d", "", `{"type":"Dataplane","mesh":"default","name":"d","networking":{"inbound":[null],"outbound":[null]}}`, ""},
		{"GET", "/meshes/default/dataplanes", "size=1&offset=0&tag=a:b&gateway=true&name=x", "", ""},
		{"GET", "/meshes/default/dataplanes/_overview", "offset=9223372036854775807&size=1000", "", ""},
		{"GET", "/meshes/default", "format=k8s&namespace=%20", "", ""},
		{"GET", "/_openapi", "", "", ""},
		{"GET", "/global-insight", "", "", ""},
		{"HEAD", "/meshes/default/service-insights/x", "", "", ""},
		{"POST", "/tokens/user", "", `{"name":"x","validFor":"1h"}`, "application/json; charset=\"utf-8\""},
		{"POST", "/tokens/dataplane", "", `{"mesh":"default","tags":{"a":["b"]},"type":"EGRESS"}`, ""},
		{"POST", "/tokens/zone", "", `{"scope":["egress"]}`, "text/plain"},
		{"DELETE", "/meshes/%2e%2e", "format=%", "", ""},
		{"OPTIONS", "/meshes/default", "", "", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body, seed.media, true)
		f.Add(seed.method, seed.path, seed.query, seed.body, seed.media, false)
	}
	f.Fuzz(func(t *testing.T, method, path, query, body, media string, local bool) {
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
			if local {
				req.RemoteAddr = "127.0.0.1:1"
			}
			if media != "" {
				req.Header.Set("Content-Type", media)
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, req)
			return w
		}
		before := len(everything(cfg.Store))
		w := send(method, body)
		if w == nil {
			return
		}
		answer := w.Body.Bytes()
		if w.Code >= 500 {
			t.Errorf("got %d %s", w.Code, answer)
		}
		if method != http.MethodHead && w.Header().Get("Content-Type") == "application/json" {
			var shape struct {
				Type, Detail, Details string
				Status                int
			}
			if !json.Valid(answer) {
				t.Errorf("not JSON: %s", answer)
			} else if w.Code >= 400 && (json.Unmarshal(answer, &shape) != nil || shape.Type != "/std-errors" || shape.Status != w.Code || shape.Detail != shape.Details) {
				t.Errorf("not the shape of errors: %d %s", w.Code, answer)
			}
		}
		if !local && bytes.Contains(answer, []byte("LS0tLS1CRUdJTi")) {
			t.Errorf("a key: %s", answer)
		}
		if limit := 1<<20 + 16*len(path+query+body); len(answer) > limit {
			t.Errorf("an answer of %d bytes", len(answer))
		}
		if after := len(everything(cfg.Store)); after > before+1 || after > before && w.Code != http.StatusCreated {
			t.Errorf("%d resources were stored, and the answer was %d", after-before, w.Code)
		}
		if method == http.MethodPut && w.Code == http.StatusCreated {
			if w := send(http.MethodGet, ""); w.Code != http.StatusOK && query == "" {
				t.Errorf("stored but not readable: %d %s", w.Code, w.Body)
			}
		}
	})
}

// FuzzBody: what the check of bodies lets through is JSON that means one thing.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{timeout, dataplane, `{"a":{"b":[1,{"c":null}]},"d":"e"}`, `{"a":1,"a":2}`, `[[[]]]`, `{"a":{},"b":{"a":{}}}`, `"\ud800"`, "{\"\xff\":1}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		cfg := config(t)
		s, err := api.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost/meshes/default/meshtimeouts/x", strings.NewReader(body))
		req.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		if w.Code != http.StatusCreated {
			return
		}
		var want, got struct {
			Name, Type, Mesh string
			Labels           map[string]string
		}
		if err := json.Unmarshal([]byte(body), &want); err != nil {
			t.Fatalf("accepted, though %v", err)
		}
		stored, err := cfg.Store.Get(resource.Key{Kind: "MeshTimeout", Mesh: "default", Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		text, err := cfg.Registry.Encode(stored, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &got); err != nil || got.Name != want.Name || got.Type != want.Type || got.Mesh != want.Mesh {
			t.Errorf("got %v, want %v: %v", got, want, err)
		}
	})
}
