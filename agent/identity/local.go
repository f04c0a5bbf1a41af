package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/certs"
)

// LocalConfig says what sources need that somebody else renews.
type LocalConfig struct {
	// Mesh is the trust domain that peers check.
	Mesh string
	// Services are those whose clients check for their name; nil when they are not known.
	Services []string
	// Issued gets each new identity, not concurrently.
	Issued func(*SVID)
	// Clock judges certificates; nil takes the local one.
	Clock *clock.Clock
	// Log is told of new certificates and of trouble; nil is silent.
	Log *slog.Logger
}

// local is the part of a source that is the same wherever certificates come from. Its methods may be called concurrently.
type local struct {
	cfg   LocalConfig
	trust chan struct{} // holds a token when the mesh has other authorities

	mu     sync.Mutex
	status Status
	now    *SVID // in use; nil before the first
	mesh   []*x509.Certificate
	told   string // the last trouble
}

func newLocal(cfg LocalConfig, status Status) (*local, error) {
	if cfg.Mesh == "" || cfg.Issued == nil {
		return nil, errors.New("make identity source: mesh and callback are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.New(nil, cfg.Log)
	}
	status.State = Pending
	return &local{cfg: cfg, trust: make(chan struct{}, 1), status: status}, nil
}

// Status returns a snapshot.
func (l *local) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Wanted says that Envoy asks for the certificate; it comes when it is there.
func (l *local) Wanted() {}

// Reconnected says that the control plane can be reached again, which has no part in this.
func (l *local) Reconnected() {}

// Trusted takes the authorities of the mesh, PEM. It does not block.
func (l *local) Trusted(bundle []byte) {
	list, err := certs.ParseCertificates(bundle)
	if err != nil {
		return // Envoy will say so
	}
	l.mu.Lock()
	l.mesh = list
	l.mu.Unlock()
	put(l.trust)
}

// Signer takes the authorities of the mesh, PEM, and tells whether the certificate stays good when all but the first are
// gone: it is of that one, of one above it, or of none of them.
func (l *local) Signer(bundle []byte) (current bool) {
	list, err := certs.ParseCertificates(bundle)
	if err != nil {
		return true // Envoy will say so
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return false
	}
	by := anchors(l.now.Chain, list, l.cfg.Clock.Now())
	return len(by) == 0 || slices.Contains(by, list[0]) || slices.ContainsFunc(by, func(a *x509.Certificate) bool {
		return list[0].CheckSignatureFrom(a) == nil
	})
}

// anchors are those of list in which a chain ends.
func anchors(chain, list []*x509.Certificate, now time.Time) (out []*x509.Certificate) {
	for _, a := range list {
		if _, err := certs.Verify(certs.EncodeCertificates(chain...), certs.EncodeCertificates(a), nil, now); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// offer puts an identity to use if it is good, and says what is wrong with it otherwise; the one in use stays then.
func (l *local) offer(v *SVID) error {
	by := v.Authorities
	if by == nil {
		l.mu.Lock()
		by = l.mesh
		l.mu.Unlock()
		if by == nil {
			return errors.New("the authorities of the mesh, by which it is verified, are not known yet")
		}
	}
	if err := verify(v.Chain, by, v.Key, l.cfg.Clock); err != nil {
		return err
	}
	l.mu.Lock()
	same := l.now != nil && l.now.same(v)
	l.now = v
	l.status.take(v, time.Time{})
	l.status.Warnings = objections(v.Leaf(), l.cfg.Mesh, l.cfg.Services)
	warnings := l.status.Warnings
	l.told = ""
	l.mu.Unlock()
	if same {
		return nil
	}
	l.cfg.Issued(v)
	leaf := v.Leaf()
	l.cfg.Log.Info("workload certificate taken", "uris", names(leaf), "serial", leaf.SerialNumber.Text(16), "not_after", leaf.NotAfter)
	for _, w := range warnings {
		l.cfg.Log.Warn("peers will refuse the workload certificate", "reason", w)
	}
	return nil
}

func (l *local) update(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.status)
}

// trouble notes why the source gives no identity at present, and tells it once.
func (l *local) trouble(err error) {
	text := explain(err)
	l.mu.Lock()
	l.status.LastError = text
	news, valid := l.told != text, l.status.NotAfter
	l.told = text
	l.mu.Unlock()
	if news {
		l.cfg.Log.Warn("workload certificate not taken", "reason", text, "valid_until", valid)
	}
}

// same tells whether two identities are one.
func (v *SVID) same(w *SVID) bool {
	equal := func(a, b *x509.Certificate) bool { return a.Equal(b) }
	return slices.EqualFunc(v.Chain, w.Chain, equal) && slices.EqualFunc(v.Authorities, w.Authorities, equal)
}

// Member tells whether the identity is one of a mesh: peers of the mesh accept its name.
func (v *SVID) Member(mesh string) bool {
	return slices.ContainsFunc(v.Leaf().URIs, func(u *url.URL) bool { return strings.HasPrefix(u.String(), prefix(mesh)) })
}

// ID is the SPIFFE ID: the one in the mesh if there is one, or else the first.
func (v *SVID) ID(mesh string) string {
	id := ""
	for _, u := range v.Leaf().URIs {
		if text := u.String(); strings.HasPrefix(text, prefix(mesh)) {
			return text
		} else if id == "" && u.Scheme == "spiffe" {
			id = text
		}
	}
	return id
}

// prefix is what the name of every workload of a mesh begins with.
func prefix(mesh string) string { return certs.SPIFFEID{TrustDomain: mesh}.String() + "/" }

func names(leaf *x509.Certificate) string {
	var all []string
	for _, u := range leaf.URIs {
		all = append(all, u.String())
	}
	return strings.Join(all, ",")
}

// objections say which peers will refuse a certificate, and why.
func objections(leaf *x509.Certificate, mesh string, services []string) (out []string) {
	has := "it has " + names(leaf)
	if len(leaf.URIs) == 0 {
		has = "it has no URI at all"
	}
	if !(&SVID{Chain: []*x509.Certificate{leaf}}).Member(mesh) {
		out = append(out, fmt.Sprintf("all proxies of mesh %s want a URI that begins with %s, %s", mesh, prefix(mesh), has))
	} else {
		for _, service := range services {
			want := certs.SPIFFEID{TrustDomain: mesh, Path: service}.String()
			if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == want }) {
				out = append(out, fmt.Sprintf("clients of service %s want the URI %s, %s", service, want, has))
			}
		}
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		for _, use := range []struct {
			usage      x509.ExtKeyUsage
			name, peer string
		}{{x509.ExtKeyUsageServerAuth, "server", "clients"}, {x509.ExtKeyUsageClientAuth, "client", "servers"}} {
			if !slices.Contains(leaf.ExtKeyUsage, use.usage) {
				out = append(out, fmt.Sprintf("%s want one whose extended key usage has TLS %s authentication", use.peer, use.name))
			}
		}
	}
	return out
}
