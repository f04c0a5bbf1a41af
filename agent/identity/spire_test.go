package identity_test

import (
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/spireagent"
)

// svid is a pair as SPIRE gives it.
func svid(t *testing.T, p pair, ca *certs.Authority) *workload.X509SVID {
	t.Helper()
	list, err := certs.ParseCertificates(p.cert)
	must(t, err)
	roots, err := certs.ParseCertificates(ca.Bundle())
	must(t, err)
	key, err := certs.ParseKey(p.key)
	must(t, err)
	v := &workload.X509SVID{SpiffeId: list[0].URIs[0].String(), Bundle: roots[0].Raw}
	for _, c := range list {
		v.X509Svid = append(v.X509Svid, c.Raw...)
	}
	v.X509SvidKey, err = x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return v
}

func startSPIRE(t *testing.T, path string) (s *identity.SPIRE, issued chan *identity.SVID, log *book) {
	t.Helper()
	issued, log = make(chan *identity.SVID, 100), newBook()
	s, err := identity.NewSPIRE(identity.SPIREConfig{Socket: path, LocalConfig: identity.LocalConfig{
		Mesh: "default", Services: []string{"demo"}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Issued: func(v *identity.SVID) { issued <- v },
	}})
	must(t, err)
	runSource(t, s.Run)
	return s, issued, log
}

func startAgent(t *testing.T, path string) *spireagent.Agent {
	t.Helper()
	a, err := spireagent.Start(path)
	must(t, err)
	t.Cleanup(func() { _ = a.Close() }) // it may have been closed
	return a
}

// serial waits for an identity and returns its serial number.
func serial(t *testing.T, issued chan *identity.SVID) string {
	t.Helper()
	return take(t, issued, "identity").Leaf().SerialNumber.String()
}

func serialOf(t *testing.T, p pair) string {
	t.Helper()
	list, err := certs.ParseCertificates(p.cert)
	must(t, err)
	return list[0].SerialNumber.String()
}

func TestSPIRE(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	ca, other := newAuthority(t, "default"), newAuthority(t, "default")
	pairs := make([]pair, 6)
	for i := range pairs {
		pairs[i] = newPair(t, ca, "default", "demo", time.Hour)
	}
	s, issued, log := startSPIRE(t, path) // before SPIRE
	log.await(t, "no such file")
	a := startAgent(t, path)
	a.Give(svid(t, pairs[0], ca))
	if got := serial(t, issued); got != serialOf(t, pairs[0]) {
		t.Errorf("got %s", got)
	}
	st := s.Status()
	if st.Source != identity.FromSPIRE || st.Socket != path || st.State != identity.Issued || st.LastError != "" || st.URIs[0] != "spiffe://default/demo" {
		t.Errorf("status %+v", st)
	}
	a.Give(svid(t, pairs[1], ca))
	if got := serial(t, issued); got != serialOf(t, pairs[1]) {
		t.Errorf("renewed: got %s", got)
	}
	t.Run("what cannot be used is told and the old one stays", func(t *testing.T) {
		half := svid(t, pairs[2], ca)
		half.X509SvidKey = svid(t, pairs[3], ca).X509SvidKey
		junk := svid(t, pairs[2], ca)
		junk.X509SvidKey = []byte("junk")
		for _, tc := range []struct {
			name string
			give []*workload.X509SVID
			want string
		}{
			{"none", nil, "the answer holds no identity"},
			{"another's key", []*workload.X509SVID{half}, "does not belong to its certificate"},
			{"junk for a key", []*workload.X509SVID{junk}, "its key does not parse"},
			{"nothing in it", []*workload.X509SVID{{SpiffeId: "spiffe://default/x"}}, "its chain holds no certificates: it is empty"},
			{"another authority's", []*workload.X509SVID{svid(t, pairs[2], other)}, "unknown authority"},
		} {
			a.Give(tc.give...)
			log.await(t, tc.want)
			if st := s.Status(); len(issued) > 0 || !strings.Contains(st.LastError, tc.want) || st.NotAfter.IsZero() {
				t.Errorf("%s: %d issued, status %+v", tc.name, len(issued), st)
			}
		}
	})
	t.Run("of several the one that peers accept", func(t *testing.T) {
		a.Give(svid(t, newPair(t, ca, "example.org", "demo", time.Hour), ca), svid(t, newPair(t, ca, "default", "other", time.Hour), ca), svid(t, pairs[4], ca))
		if got := serial(t, issued); got != serialOf(t, pairs[4]) {
			t.Errorf("got %s", got)
		}
		a.Give(svid(t, newPair(t, ca, "example.org", "demo", time.Hour), ca))
		if v := take(t, issued, "identity"); v.Member("default") {
			t.Error("it counts as one of the mesh")
		}
		log.await(t, "all proxies of mesh default want a URI that begins with spiffe://default/, it has spiffe://example.org/demo")
	})
	t.Run("it is asked again", func(t *testing.T) {
		<-a.Asked()
		a.Deny(status.Error(codes.PermissionDenied, "no identity issued"))
		log.await(t, "no identity issued: has SPIRE a registration entry for this process and user?")
		if st := s.Status(); st.State != identity.Issued {
			t.Errorf("status %+v", st)
		}
		must(t, a.Close())
		b := startAgent(t, path)
		b.Give(svid(t, pairs[5], ca))
		if got := serial(t, issued); got != serialOf(t, pairs[5]) {
			t.Errorf("got %s", got)
		}
		if st := s.Status(); st.LastError != "" {
			t.Errorf("status %+v", st)
		}
	})
	if strings.Contains(log.String(), "junk") {
		t.Error("the log holds a key")
	}
}
