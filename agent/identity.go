package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// Identity says where the workload's certificate comes from.
type Identity struct {
	// Source is control-plane (default), files or spire.
	Source identity.Kind `json:"source"`
	// CertFile and KeyFile are PEM, read again when they change; CAFile has the authorities that verify the certificate, those
	// of the mesh when empty. Source files.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	CAFile   string `json:"caFile,omitempty"`
	// Socket is that of a SPIRE agent's Workload API, as unix:///path or a path. Source spire.
	Socket string `json:"socket,omitempty"`
	// KeyType of the keys that are made here: ecdsa-p256 (default) or rsa-2048. Source control-plane.
	KeyType certs.KeyType `json:"keyType"`
}

func defaultIdentity() Identity {
	return Identity{Source: identity.FromControlPlane, KeyType: certs.ECDSAP256}
}

func (c *Config) identitySettings() []setting {
	i := &c.Identity
	return []setting{
		{"identity-source", "", "KUMA_IDENTITY_SOURCE", "where the workload's certificate comes from: control-plane, files or spire", text((*string)(&i.Source))},
		{"identity-cert-file", "", "KUMA_IDENTITY_CERT_FILE", "file with the workload's certificate and its intermediates, read again when it changes", text(&i.CertFile)},
		{"identity-key-file", "", "KUMA_IDENTITY_KEY_FILE", "file with the certificate's key", text(&i.KeyFile)},
		{"identity-ca-file", "", "KUMA_IDENTITY_CA_FILE", "file with the authorities that verify the certificate; default those of the mesh", text(&i.CAFile)},
		{"identity-socket", "", "KUMA_IDENTITY_SOCKET", "socket of a SPIRE agent's Workload API, such as unix:///run/spire/sockets/agent.sock", text(&i.Socket)},
		{"identity-key-type", "", "KUMA_IDENTITY_KEY_TYPE", "type of the keys that are made for certificates of the control plane: ecdsa-p256 or rsa-2048", text((*string)(&i.KeyType))},
	}
}

func (i *Identity) problems(proxyType string) (out []string) {
	files := i.CertFile != "" || i.KeyFile != "" || i.CAFile != ""
	switch i.Source {
	case identity.FromControlPlane:
	case identity.FromFiles:
		if i.CertFile == "" || i.KeyFile == "" {
			out = append(out, "source files needs --identity-cert-file and --identity-key-file")
		}
	case identity.FromSPIRE:
		if i.Socket == "" {
			out = append(out, "source spire needs --identity-socket")
		}
	default:
		return []string{".Source is not valid: " + string(i.Source) + " is none of control-plane, files and spire"}
	}
	if files && i.Source != identity.FromFiles {
		out = append(out, "identity files need --identity-source=files")
	}
	if i.Socket != "" && i.Source != identity.FromSPIRE {
		out = append(out, "--identity-socket needs --identity-source=spire")
	}
	if _, ok := socketPath(i.Socket); !ok && i.Socket != "" {
		out = append(out, ".Socket is not valid: "+i.Socket+" is neither unix:///path nor an absolute path")
	}
	if !slices.Contains([]certs.KeyType{certs.ECDSAP256, certs.RSA2048}, i.KeyType) {
		out = append(out, ".KeyType is not valid: "+string(i.KeyType)+" is neither ecdsa-p256 nor rsa-2048")
	}
	if i.Source != identity.FromControlPlane {
		if i.KeyType == certs.RSA2048 {
			out = append(out, "--identity-key-type has no effect on source "+string(i.Source)+", whose keys are made elsewhere: leave it out")
		}
		if proxyType != "dataplane" {
			out = append(out, "the identities of a zone proxy come from the control plane: leave out --identity-source")
		}
	}
	return out
}

// socketPath is the path of a unix socket, given with or without scheme.
func socketPath(text string) (path string, ok bool) {
	path = text
	if rest, found := strings.CutPrefix(text, "unix:"); found {
		path = strings.TrimPrefix(rest, "//")
	}
	return path, filepath.IsAbs(path)
}

// services lists the services of a Dataplane as JSON; nil when that is not known.
func services(resource string) (out []string) {
	type tagged struct{ Tags map[string]string }
	var dp struct {
		Networking struct {
			Inbound []tagged
			Gateway tagged
		}
	}
	if json.Unmarshal([]byte(resource), &dp) != nil {
		return nil
	}
	for _, t := range append(dp.Networking.Inbound, dp.Networking.Gateway) {
		if v := t.Tags[certs.TagService]; v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

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

// registerIdentity shows when the workload's certificate ends and how far this host's clock is off.
func (a *Agent) registerIdentity(p *parts) error {
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_dp", Name: "certificate_expiration_timestamp_seconds",
		Help: "When the workload's certificate ends, Unix time; 0 while there is none, or the control plane makes it.",
	}, func() float64 {
		if p.identity == nil {
			return 0
		}
		if end := p.identity.Status().NotAfter; !end.IsZero() {
			return float64(end.Unix())
		}
		return 0
	})
	skew := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_dp", Name: "clock_skew_seconds",
		Help: "How far this host's clock is ahead of the control plane's; 0 while that is not known.",
	}, func() float64 {
		ahead, _ := a.clock.Skew()
		return ahead.Seconds()
	})
	if err := errors.Join(p.own.Register(expiry), p.own.Register(skew)); err != nil {
		return fmt.Errorf("register metrics of identity: %w", err)
	}
	return nil
}
