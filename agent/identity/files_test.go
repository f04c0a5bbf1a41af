package identity_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
)

// book collects log lines and tells of each.
type book struct {
	mu   sync.Mutex
	text strings.Builder
	line chan struct{}
}

func newBook() *book { return &book{line: make(chan struct{}, 1000)} }

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line <- struct{}{}
	return b.text.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits until the text has been logged, and fails when it was more than once.
func (b *book) await(t *testing.T, want string) {
	t.Helper()
	for late := time.After(patience); !strings.Contains(b.String(), want); {
		select {
		case <-b.line:
		case <-late:
			t.Fatalf("never logged %q, but\n%s", want, b)
		}
	}
	if n := strings.Count(b.String(), want); n > 1 {
		t.Errorf("%q is logged %d times", want, n)
	}
}

func newAuthority(t *testing.T, mesh string) *certs.Authority {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: mesh, Now: time.Now(), ECDSA: true})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// pair is a certificate with its key, PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, ca *certs.Authority, mesh, service string, life time.Duration) pair {
	t.Helper()
	return pairAt(t, ca, mesh, service, life, time.Now())
}

func pairAt(t *testing.T, ca *certs.Authority, mesh, service string, life time.Duration, now time.Time) pair {
	t.Helper()
	key, err := certs.NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	uris, err := certs.WorkloadURIs(mesh, map[string][]string{"kuma.io/service": {service}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Sign(certs.SignRequest{PublicKey: key.Public(), URIs: uris, Lifetime: life, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{leaf.PEM, keyPEM}
}

// source is a Files under test, in a folder of its own.
type source struct {
	*identity.Files
	dir    string
	issued chan *identity.SVID
	log    *book
}

func (s *source) path(name string) string { return filepath.Join(s.dir, name) }

func startFiles(t *testing.T, dir string, change func(*identity.FilesConfig)) *source {
	t.Helper()
	s := &source{dir: dir, issued: make(chan *identity.SVID, 100), log: newBook()}
	cfg := identity.FilesConfig{
		LocalConfig: identity.LocalConfig{
			Mesh: "default", Services: []string{"demo"}, Log: slog.New(slog.NewTextHandler(s.log, nil)),
			Issued: func(v *identity.SVID) { s.issued <- v },
		},
		CertFile: s.path("tls.crt"), KeyFile: s.path("tls.key"), CAFile: s.path("ca.crt"),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.Files, err = identity.NewFiles(cfg); err != nil {
		t.Fatal(err)
	}
	runSource(t, s.Run)
	return s
}

// want waits for the identity of a pair.
func (s *source) want(t *testing.T, p pair) {
	t.Helper()
	v := take(t, s.issued, "identity")
	if got := certs.EncodeCertificates(v.Chain...); string(got) != string(p.cert) {
		t.Errorf("got %s, want %s", got, p.cert)
	}
	key, err := certs.ParseKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	if !certs.SamePublicKey(v.Key.Public(), key.Public()) {
		t.Error("the key is another one")
	}
	if st := s.Status(); st.State != identity.Issued || st.LastError != "" || st.Source != identity.FromFiles || st.KeyType != "ecdsa-p256" {
		t.Errorf("status %+v", st)
	}
}

func write(t *testing.T, path string, b []byte, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, b, mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestFilesAreReplaced replaces a pair in each way that tools do it, repeatedly.
func TestFilesAreReplaced(t *testing.T) {
	ca := newAuthority(t, "default")
	into := func(t *testing.T, dir string, p pair) {
		t.Helper()
		write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
		write(t, filepath.Join(dir, "tls.key"), p.key, 0o600)
		write(t, filepath.Join(dir, "ca.crt"), ca.Bundle(), 0o644)
	}
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, dir string, p pair)
		replace func(t *testing.T, dir string, p pair, n string)
	}{
		{"written in place", into, func(t *testing.T, dir string, p pair, _ string) { into(t, dir, p) }},
		{"renamed over", into, func(t *testing.T, dir string, p pair, _ string) {
			for _, f := range []struct {
				name string
				b    []byte
			}{{"tls.crt", p.cert}, {"tls.key", p.key}} {
				write(t, filepath.Join(dir, f.name+".new"), f.b, 0o600)
				must(t, os.Rename(filepath.Join(dir, f.name+".new"), filepath.Join(dir, f.name)))
			}
		}},
		{"removed and made again", into, func(t *testing.T, dir string, p pair, _ string) {
			must(t, os.Remove(filepath.Join(dir, "tls.key")), os.Remove(filepath.Join(dir, "tls.crt")))
			into(t, dir, p)
		}},
		{
			"a volume of Kubernetes",
			func(t *testing.T, dir string, p pair) {
				must(t, os.Mkdir(filepath.Join(dir, "..1"), 0o755))
				into(t, filepath.Join(dir, "..1"), p)
				must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
				for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
					must(t, os.Symlink("..data/"+name, filepath.Join(dir, name)))
				}
			},
			func(t *testing.T, dir string, p pair, n string) {
				must(t, os.Mkdir(filepath.Join(dir, ".."+n), 0o755))
				into(t, filepath.Join(dir, ".."+n), p)
				old, err := os.Readlink(filepath.Join(dir, "..data"))
				must(t, err, os.Symlink(".."+n, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
				must(t, os.RemoveAll(filepath.Join(dir, old)))
			},
		},
		{
			"links into an archive, as certbot makes them",
			func(t *testing.T, dir string, p pair) {
				must(t, os.MkdirAll(filepath.Join(dir, "archive/1"), 0o755))
				into(t, filepath.Join(dir, "archive/1"), p)
				for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
					must(t, os.Symlink(filepath.Join(dir, "archive/1", name), filepath.Join(dir, name)))
				}
			},
			func(t *testing.T, dir string, p pair, n string) {
				must(t, os.MkdirAll(filepath.Join(dir, "archive", n), 0o755))
				into(t, filepath.Join(dir, "archive", n), p)
				for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
					must(t, os.Symlink(filepath.Join(dir, "archive", n, name), filepath.Join(dir, "new")), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)))
				}
			},
		},
		{
			"what a link leads to is written",
			func(t *testing.T, dir string, p pair) {
				must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
				into(t, filepath.Join(dir, "real"), p)
				for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
					must(t, os.Symlink("real/"+name, filepath.Join(dir, name)))
				}
			},
			func(t *testing.T, dir string, p pair, _ string) { into(t, filepath.Join(dir, "real"), p) },
		},
		{"the folder is another one", into, func(t *testing.T, dir string, p pair, n string) {
			must(t, os.Mkdir(dir+".new", 0o755))
			into(t, dir+".new", p)
			must(t, os.Rename(dir, dir+".old"+n), os.Rename(dir+".new", dir))
		}},
		{"the folder is removed and made again", into, func(t *testing.T, dir string, p pair, _ string) {
			must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o755))
			into(t, dir, p)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "pair")
			must(t, os.Mkdir(dir, 0o755))
			p := newPair(t, ca, "default", "demo", time.Hour)
			tc.prepare(t, dir, p)
			s := startFiles(t, dir, nil)
			s.want(t, p)
			for _, n := range []string{"2", "3", "4"} {
				p = newPair(t, ca, "default", "demo", time.Hour)
				tc.replace(t, dir, p, n)
				s.want(t, p)
			}
			if n := len(s.issued); n > 0 {
				t.Errorf("%d more identities than pairs", n)
			}
		})
	}
}

// TestUnusableFilesLeaveTheOldOne: whatever is wrong is told once, and what comes after it is taken.
func TestUnusableFilesLeaveTheOldOne(t *testing.T) {
	ca, foreign := newAuthority(t, "default"), newAuthority(t, "default")
	now := time.Now()
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, s *source)
		want  string
	}{
		{"another's key", func(t *testing.T, s *source) {
			write(t, s.path("tls.key"), newPair(t, ca, "default", "demo", time.Hour).key, 0o600)
		}, "does not belong to the certificate"},
		{"another's certificate", func(t *testing.T, s *source) {
			write(t, s.path("tls.crt"), newPair(t, ca, "default", "demo", time.Hour).cert, 0o600)
		}, "does not belong to the certificate"},
		{"junk", func(t *testing.T, s *source) { write(t, s.path("tls.crt"), []byte("junk"), 0o600) }, "no PEM block"},
		{"junk in PEM", func(t *testing.T, s *source) {
			write(t, s.path("tls.key"), []byte("-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n"), 0o600)
		}, "EC PRIVATE KEY block does not parse"},
		{"empty", func(t *testing.T, s *source) { write(t, s.path("tls.key"), nil, 0o600) }, "no PEM block"},
		{"huge", func(t *testing.T, s *source) { write(t, s.path("tls.crt"), make([]byte, certs.MaxPEM+1), 0o600) }, "more than 1048576 bytes"},
		{"removed", func(t *testing.T, s *source) { must(t, os.Remove(s.path("tls.key"))) }, "no such file"},
		{"a folder", func(t *testing.T, s *source) {
			must(t, os.Remove(s.path("tls.key")), os.Mkdir(s.path("tls.key"), 0o755))
		}, "is not a file"},
		{"a loop of links", func(t *testing.T, s *source) {
			must(t, os.Remove(s.path("tls.key")), os.Symlink("tls.key", s.path("tls.key")))
		}, "too many levels"},
		{"of another authority", func(t *testing.T, s *source) {
			p := newPair(t, foreign, "default", "demo", time.Hour)
			write(t, s.path("tls.crt"), p.cert, 0o644)
			write(t, s.path("tls.key"), p.key, 0o600)
		}, "unknown authority"},
		{"ended", func(t *testing.T, s *source) {
			p := pairAt(t, ca, "default", "demo", time.Minute, now.Add(-time.Hour))
			write(t, s.path("tls.crt"), p.cert, 0o644)
			write(t, s.path("tls.key"), p.key, 0o600)
		}, "by this host's clock"},
		{"the other authority", func(t *testing.T, s *source) { write(t, s.path("ca.crt"), foreign.Bundle(), 0o644) }, "unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := newPair(t, ca, "default", "demo", time.Hour)
			fill := func(p pair) {
				_ = os.RemoveAll(filepath.Join(dir, "tls.key")) // it may be a folder
				write(t, filepath.Join(dir, "ca.crt"), ca.Bundle(), 0o644)
				write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
				write(t, filepath.Join(dir, "tls.key"), p.key, 0o600)
			}
			fill(p)
			s := startFiles(t, dir, nil)
			s.want(t, p)
			tc.spoil(t, s)
			s.log.await(t, tc.want)
			st := s.Status()
			leaf, err := certs.ParseCertificates(p.cert)
			must(t, err)
			if st.Serial != leaf[0].SerialNumber.Text(16) || !strings.Contains(st.LastError, tc.want) || len(s.issued) > 0 {
				t.Errorf("%d new identities, status %+v; want the old one and %q", len(s.issued), st, tc.want)
			}
			if strings.Contains(s.log.String(), "c2VjcmV0") || strings.Contains(s.log.String(), "PRIVATE KEY-") {
				t.Error("the log holds a key")
			}
			p = newPair(t, ca, "default", "demo", time.Hour)
			fill(p)
			s.want(t, p)
		})
	}
}

func TestFilesWithoutAuthoritiesWaitForTheMesh(t *testing.T) {
	ca, dir := newAuthority(t, "default"), t.TempDir()
	p := newPair(t, ca, "default", "demo", time.Hour)
	write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
	write(t, filepath.Join(dir, "tls.key"), p.key, 0o600)
	s := startFiles(t, dir, func(c *identity.FilesConfig) { c.CAFile = "" })
	s.log.await(t, "authorities of the mesh, by which it is verified, are not known yet")
	if s.Signer(ca.Bundle()) {
		t.Error("without a certificate the control plane hears that there is one")
	}
	s.Trusted(newAuthority(t, "default").Bundle())
	s.log.await(t, "unknown authority")
	s.Trusted(ca.Bundle())
	s.want(t, p)
}

func TestSignerOfLocalIdentities(t *testing.T) {
	ca, other, dir := newAuthority(t, "default"), newAuthority(t, "default"), t.TempDir()
	p := newPair(t, ca, "default", "demo", time.Hour)
	write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
	write(t, filepath.Join(dir, "tls.key"), p.key, 0o600)
	write(t, filepath.Join(dir, "ca.crt"), ca.Bundle(), 0o600)
	s := startFiles(t, dir, nil)
	s.want(t, p)
	for _, tc := range []struct {
		name   string
		bundle []byte
		want   bool
	}{
		{"the only one", ca.Bundle(), true},
		{"the first of two", slices.Concat(ca.Bundle(), other.Bundle()), true},
		{"the second of two, which goes", slices.Concat(other.Bundle(), ca.Bundle()), false},
		{"none of them", other.Bundle(), true},
		{"no bundle", []byte("junk"), true},
	} {
		if got := s.Signer(tc.bundle); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestWarningsOfFiles(t *testing.T) {
	ca := newAuthority(t, "default")
	for _, tc := range []struct {
		name, mesh, service string
		mode                fs.FileMode
		want                string
	}{
		{"good", "default", "demo", 0o600, ""},
		{"read by the group", "default", "demo", 0o640, ""},
		{"read by all", "default", "demo", 0o644, "chmod o-r"},
		{"another trust domain", "example.org", "demo", 0o600, "want a URI that begins with spiffe://default/, it has spiffe://example.org/demo"},
		{"another service", "default", "other", 0o600, "clients of service demo want the URI spiffe://default/demo, it has spiffe://default/other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			p := newPair(t, ca, tc.mesh, tc.service, time.Hour)
			write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
			write(t, filepath.Join(dir, "tls.key"), p.key, tc.mode)
			write(t, filepath.Join(dir, "ca.crt"), ca.Bundle(), 0o600)
			s := startFiles(t, dir, nil)
			s.want(t, p)
			if tc.want == "" {
				if strings.Contains(s.log.String(), "WARN") {
					t.Errorf("log %s", s.log)
				}
				return
			}
			s.log.await(t, tc.want)
		})
	}
}

func TestFilesThatEndSoon(t *testing.T) {
	ca, dir := newAuthority(t, "default"), t.TempDir()
	p := pairAt(t, ca, "default", "demo", 100*time.Hour, time.Now().Add(-95*time.Hour))
	write(t, filepath.Join(dir, "tls.crt"), p.cert, 0o644)
	write(t, filepath.Join(dir, "tls.key"), p.key, 0o600)
	write(t, filepath.Join(dir, "ca.crt"), ca.Bundle(), 0o600)
	s := startFiles(t, dir, nil)
	take(t, s.issued, "identity")
	s.log.await(t, "has not been replaced: check what renews it")
	write(t, filepath.Join(dir, "unrelated"), nil, 0o600) // read again
	fresh := newPair(t, ca, "default", "demo", time.Hour)
	write(t, filepath.Join(dir, "tls.crt"), fresh.cert, 0o644)
	write(t, filepath.Join(dir, "tls.key"), fresh.key, 0o600)
	s.want(t, fresh)
	if n := strings.Count(s.log.String(), "workload certificate ends soon"); n != 1 {
		t.Errorf("told %d times", n)
	}
}
