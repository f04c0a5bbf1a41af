package client

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func dial(t *testing.T, s APIServer) *Client {
	t.Helper()
	c, err := New(s, 10*time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestRedirect: a token does not follow a redirect to another host (demands §3.3, assertion 17).
func TestRedirect(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer first.Close()
	c := dial(t, APIServer{URL: first.URL, AuthType: "tokens", AuthConf: map[string]string{"token": "s3cret"}})
	if _, err := c.Do(t.Context(), http.MethodGet, []string{"meshes"}, nil, nil); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

// TestVerify: a certificate that nobody vouches for is refused unless that was asked for.
func TestVerify(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"product":"Kuma","version":"1"}`))
	}))
	defer s.Close()
	if _, err := dial(t, APIServer{URL: s.URL}).Index(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") || !strings.Contains(err.Error(), "--ca-cert-file") {
		t.Errorf("got %v", err)
	}
	if _, err := dial(t, APIServer{URL: s.URL, SkipVerify: true}).Index(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestRefusal(t *testing.T) {
	for body, want := range map[string]string{
		`{"title":"T","detail":"D","invalid_parameters":[{"field":"a","reason":"b"},{"field":"c","reason":"d"}]}`: "T (D): a b; c d",
		`{"title":"T","details":"old","causes":[{"field":"a","message":"b"}]}`:                                    "T (old): a b",
		`<html>`:    "the control plane answered 400 Bad Request",
		"no\nroute": "the control plane answered 400 Bad Request (no\nroute)",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(body))
		}))
		_, err := dial(t, APIServer{URL: s.URL}).Do(t.Context(), http.MethodGet, []string{"x"}, nil, nil)
		s.Close()
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
}

// TestPathEscape: a name stays one segment of the path.
func TestPathEscape(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.EscapedPath())) }))
	defer s.Close()
	b, err := dial(t, APIServer{URL: s.URL + "/base/"}).Do(t.Context(), http.MethodGet, []string{"meshes", "a/../b?c"}, nil, nil)
	if err != nil || string(b) != "/base/meshes/a%2F..%2Fb%3Fc" {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestCheckURL(t *testing.T) {
	for _, u := range []string{"", "localhost:5681", "ftp://x", "http://", "http://u:p@x", "http://x?a", "http://x#a"} {
		if _, err := New(APIServer{URL: u}, time.Second, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
}
