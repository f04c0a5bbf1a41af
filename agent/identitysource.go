package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// identitySource is any of the sources of package identity.
type identitySource interface {
	Run(ctx context.Context) error
	Status() identity.Status
	Wanted()
	Reconnected()
	Signer(bundle []byte) (current bool)
}

// buildIdentity makes the source of the workload's certificate.
func (a *Agent) buildIdentity(p *parts) error {
	c := a.cfg.Identity
	log := a.log.With("component", "identity")
	local := identity.LocalConfig{
		Mesh: a.cfg.Dataplane.Mesh, Services: services(a.resource), Issued: a.setIdentity(p), Clock: a.clock, Log: log,
	}
	switch c.Source {
	case identity.FromFiles:
		s, err := identity.NewFiles(identity.FilesConfig{LocalConfig: local, CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile})
		if err != nil {
			return err
		}
		p.identity, p.trust.told = s, s.Trusted
	case identity.FromSPIRE:
		path, _ := socketPath(c.Socket)
		s, err := identity.NewSPIRE(identity.SPIREConfig{LocalConfig: local, Socket: path})
		if err != nil {
			return err
		}
		p.identity = s
	default:
		s, err := identity.New(identity.Config{
			Conn: p.upstream, Token: a.cfg.DataplaneRuntime.source(), Node: a.cfg.Dataplane.Mesh + "." + a.cfg.Dataplane.Name,
			KeyType: c.KeyType, Clock: a.clock, Log: log, Issued: a.setIdentity(p), Unsupported: p.relay.IdentityFromControlPlane,
		})
		if err != nil {
			return err
		}
		p.identity = s
	}
	p.members = append(p.members, group.Member{Name: "identity", Run: p.identity.Run})
	return nil
}

// trust is what Envoy trusts: the authorities of the mesh, and those of an identity that is one of the mesh but comes from
// elsewhere (ADR 0008).
type trust struct {
	told   func(mesh []byte) // hears of the mesh's; nil for nobody
	merged func(all []byte)  // hears of what Envoy trusts; nil for nobody

	mu    sync.Mutex
	extra []*x509.Certificate
}

// merge adds to the authorities of the mesh those that they lack.
func (t *trust) merge(mesh []byte) []byte {
	if t.told != nil {
		t.told(mesh)
	}
	t.mu.Lock()
	extra := t.extra
	t.mu.Unlock()
	all := mesh
	if list, err := certs.ParseCertificates(mesh); err == nil && len(extra) > 0 {
		all = certs.EncodeCertificates(certs.Union(list, extra)...)
	}
	if t.merged != nil {
		t.merged(all)
	}
	return all
}

// extend sets the further authorities, and tells whether they are others than before.
func (t *trust) extend(extra []*x509.Certificate) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = !bytes.Equal(certs.EncodeCertificates(t.extra...), certs.EncodeCertificates(extra...))
	t.extra = extra
	return changed
}

// setIdentity returns what gives Envoy a new identity.
func (a *Agent) setIdentity(p *parts) func(*identity.SVID) {
	return func(v *identity.SVID) {
		secret, err := v.Secret(a.identitySecret())
		if err != nil { // a key that was read or made is one that can be written
			a.log.Error("envoy cannot be given the workload certificate", "reason", err.Error())
			return
		}
		var extra []*x509.Certificate
		if a.cfg.Identity.Source != identity.FromControlPlane && v.Member(a.cfg.Dataplane.Mesh) {
			extra = v.Authorities
		}
		if p.trust.extend(extra) { // before the certificate: a peer's of the same kind may come at once
			p.relay.TrustChanged()
		}
		p.relay.SetIdentity(secret)
		if a.cfg.Identity.Source != identity.FromControlPlane {
			p.applications.give(v)
		}
	}
}

// signer tells whether all certificates are of the first of these authorities, PEM. Both sources must hear of it.
func (p *parts) signer(bundle []byte) bool {
	current := p.identity.Signer(bundle)
	return p.applications.current(bundle) && current
}

// reconnected tells those who wait for the control plane that it is there.
func (p *parts) reconnected() {
	if p.identity != nil {
		p.identity.Reconnected()
	}
	if p.mtls != nil {
		p.mtls.Connected()
	}
	if p.applications != nil && p.applications.source != nil {
		p.applications.source.Reconnected()
	}
}

// identityStatus is the page "identity".
type identityStatus struct {
	identity.Status
	Clock        clock.Status        `json:"clock"`
	Applications *applicationsStatus `json:"applications,omitempty"`
}

func (a *Agent) identityPage(p *parts) identityStatus {
	page := identityStatus{Status: identity.Status{Source: identity.FromControlPlane, State: identity.ControlPlane}, Clock: a.clock.Status()}
	if p.identity != nil {
		page.Status, page.Applications = p.identity.Status(), p.applications.status(a.cfg.WorkloadAPI.Socket)
	}
	return page
}

// registerClock shows how far this host's clock is off.
func (a *Agent) registerClock(own *prometheus.Registry) error {
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_dp", Name: "clock_skew_seconds",
		Help: "How far this host's clock is ahead of the control plane's; 0 while that is not known.",
	}, func() float64 {
		ahead, _ := a.clock.Skew()
		return ahead.Seconds()
	})
	if err := own.Register(gauge); err != nil {
		return fmt.Errorf("register metrics of the clock: %w", err)
	}
	return nil
}
