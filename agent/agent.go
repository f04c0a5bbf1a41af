// Package agent is the data-plane process: it fetches Envoy's bootstrap configuration, starts and supervises Envoy, relays
// its configuration, keeps its identity fresh, resolves the mesh's names and tells whether the workload can be reached. It is
// the only package that knows all of these parts.
package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/accesslog"
	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Errors by which a caller chooses an exit code.
var (
	// ErrEnvoy: Envoy could not be found or started, or ended on its own.
	ErrEnvoy = errors.New("envoy failed")
	// ErrControlPlane: there was no usable answer to the request for the bootstrap configuration.
	ErrControlPlane = errors.New("control plane gave no bootstrap configuration")
)

// Agent is one proxy. New makes it, Run runs it once.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	resource string // JSON, "" when the control plane is to know the proxy already

	hurry     chan struct{} // closed by Hurry
	hurryOnce sync.Once
	drain     chan struct{} // takes one request of DrainInbound
	clock     *clock.Clock
	begun     time.Time
}

// New validates cfg and reads what it names: the Dataplane resource, the control plane's CA and the token. Nothing runs and
// nothing is written yet. Errors are ErrConfig. Stdin is read when the resource is to come from there.
func New(cfg Config, stdin io.Reader) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: cfg.Log, hurry: make(chan struct{}), drain: make(chan struct{}, 1), begun: time.Now()}
	a.clock = clock.New(nil, a.log.With("component", "clock"))
	c := &a.cfg
	a.logConfig()
	var err error
	if a.resource, err = c.readResource(stdin); err != nil {
		return nil, err
	}
	if c.ControlPlane.CACert == "" && c.ControlPlane.CACertFile != "" {
		b, err := os.ReadFile(c.ControlPlane.CACertFile)
		if err != nil {
			return nil, configError{fmt.Sprintf("could not read certificate file %s: %v", c.ControlPlane.CACertFile, err)}
		}
		c.ControlPlane.CACert = string(b)
	}
	if c.DataplaneRuntime.SystemCAPath == "" {
		c.DataplaneRuntime.SystemCAPath = systemCA()
	}
	c.DataplaneRuntime.IPv6Enabled = c.DataplaneRuntime.IPv6Enabled && hasIPv6()
	if c.DataplaneRuntime.Token != "" {
		a.log.Warn("the dataplane token was given as a value, which other users of the host may see: prefer --dataplane-token-file")
	}
	warning, err := c.checkToken(time.Now(), a.resource)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		a.log.Error("dataplane token will be refused by the control plane until it is replaced", "reason", warning)
	}
	return a, nil
}

// logConfig shows what is in force, without secrets (demands.md §3.3, assertion 4).
func (a *Agent) logConfig() {
	c := a.cfg
	for _, secret := range []*string{&c.ControlPlane.CACert, &c.DataplaneRuntime.Token} {
		if *secret != "" {
			*secret = "***masked***"
		}
	}
	c.ControlPlane.URL = redacted(c.ControlPlane.URL)
	b, err := json.Marshal(c)
	if err != nil {
		a.log.Warn("effective configuration cannot be shown", "reason", err.Error())
		return
	}
	a.log.Info("effective configuration", "config", json.RawMessage(b))
	for flag, env := range c.deprecated {
		a.log.Warn("this option has no effect: mesh names are resolved by kuma-dp itself, not by CoreDNS", "flag", flag, "variable", env)
	}
}

// redacted is a URL, which Validate has seen, without a password.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the control plane"
	}
	return u.Redacted()
}

// Hurry ends the wait for connections to drain. It may be called at any time, repeatedly.
func (a *Agent) Hurry() { a.hurryOnce.Do(func() { close(a.hurry) }) }

// DrainInbound drains inbound listeners and goes on running, once (contract agent.md §3.3). It does not block.
func (a *Agent) DrainInbound() {
	select {
	case a.drain <- struct{}{}:
	default:
	}
}

// request is what the control plane is told (contract agent.md §2.1).
func (a *Agent) request(workdir string, envoy bootstrap.EnvoyVersion) (bootstrap.Request, error) {
	c := &a.cfg
	q := bootstrap.Request{
		Mesh: c.Dataplane.Mesh, Name: c.Dataplane.Name, ProxyType: c.Dataplane.ProxyType,
		DataplaneTokenPath: c.DataplaneRuntime.TokenPath, DataplaneResource: a.resource,
		Version: bootstrap.Version{Envoy: envoy, KumaDP: bootstrap.KumaDPVersion{
			Version: version.Version, GitTag: version.GitTag, GitCommit: version.GitCommit, BuildDate: version.BuildDate,
		}},
		CACert: c.ControlPlane.CACert, DNSPort: c.DNS.EnvoyPort, ReadinessPort: c.Dataplane.ReadinessPort,
		AppProbeProxyEnabled: c.ProbeProxy.Port > 0, OperatingSystem: runtime.GOOS,
		Features: []string{accesslog.Feature}, Workdir: workdir,
		MetricsResources: bootstrap.MetricsResources{CertPath: c.DataplaneRuntime.MetricsCertPath, KeyPath: c.DataplaneRuntime.MetricsKeyPath},
		SystemCAPath:     c.DataplaneRuntime.SystemCAPath, IPv6Enabled: c.DataplaneRuntime.IPv6Enabled,
	}
	if a.identitySecret() != "" {
		q.Features = append(q.Features, identity.Feature)
		if a.cfg.Identity.Source != identity.FromControlPlane {
			q.Features = append(q.Features, identity.OwnFeature)
		}
	}
	q.Resources.MaxHeapSizeBytes = c.DataplaneRuntime.MaxMemoryBytes
	if q.Resources.MaxHeapSizeBytes == 0 {
		q.Resources.MaxHeapSizeBytes = memoryLimit()
	}
	if read := c.DataplaneRuntime.source(); read != nil {
		token, err := read()
		if err != nil {
			return q, configError{tokenHelp + err.Error()}
		}
		q.DataplaneToken = token
	}
	return q, nil
}

// identitySecret is the name under which Envoy asks for the workload's certificate; "" for zone proxies, whose secrets
// all come from the control plane.
func (a *Agent) identitySecret() string {
	if a.cfg.Dataplane.ProxyType != "dataplane" {
		return ""
	}
	return "identity_cert:secret:" + a.cfg.Dataplane.Mesh
}

// trustSecret is the name under which Envoy asks for the authorities of its mesh; "" where identitySecret is.
func (a *Agent) trustSecret() string {
	if a.identitySecret() == "" {
		return ""
	}
	return "mesh_ca:secret:" + a.cfg.Dataplane.Mesh
}

// fetch gets the bootstrap configuration, points it at the relay, and refuses one that reaches beyond the work directory.
func (a *Agent) fetch(ctx context.Context, q bootstrap.Request, dir *workdir, socketPath string) (*relay.Bootstrap, *bootstrap.Response, error) {
	cp := a.cfg.ControlPlane
	answer, err := bootstrap.Fetch(ctx, bootstrap.Config{
		URL: cp.URL, CACert: []byte(cp.CACert), SkipVerify: cp.SkipVerify,
		Backoff: time.Duration(cp.Retry.Backoff), MaxDuration: time.Duration(cp.Retry.MaxDuration), Log: a.log.With("component", "bootstrap"),
	}, q)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrControlPlane, err)
	}
	// The header has whole seconds: it was read within the one that follows.
	a.clock.Measured("bootstrap", answer.Date.Add(time.Second/2), time.Second/2, answer.RoundTrip)
	b, err := relay.RewriteBootstrap(answer.Bootstrap, socketPath)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrControlPlane, err)
	}
	refused, flagged := b.Audit(relay.Allowed{
		Dirs:  []string{dir.config, dir.sockets},
		Files: []string{q.SystemCAPath, q.MetricsResources.CertPath, q.MetricsResources.KeyPath},
	})
	for _, what := range flagged {
		a.log.Warn("unusual bootstrap configuration", "what", what)
	}
	if len(refused) > 0 {
		return nil, nil, fmt.Errorf("%w: refuse the bootstrap configuration of %s: %s: is this the control plane that you trust?",
			ErrControlPlane, redacted(cp.URL), strings.Join(refused, "; "))
	}
	if why := b.Exposed(); why != "" {
		a.log.Warn("envoy's admin interface can be reached from other machines", "reason", why, "address", b.AdminAddress)
	}
	if len(answer.Sidecar.Networking.CorefileTemplate) > 0 {
		a.log.Warn("the control plane sent a template for CoreDNS, which has no effect: the resolver is built in")
	}
	return b, answer, nil
}

// upstream says where and how the relay reaches the control plane: where its bootstrap configuration said Envoy should.
func (a *Agent) upstream(b *relay.Bootstrap) (target string, config *tls.Config, err error) {
	cp := a.cfg.ControlPlane
	u, err := url.Parse(cp.URL)
	if err != nil {
		return "", nil, err
	}
	target, secure := b.ControlPlane, b.TLS
	if target == "" {
		target, secure = u.Host, u.Scheme == "https"
	}
	if !secure {
		a.log.Warn("the control plane is reached without TLS: the token crosses the network in clear", "control_plane", target)
		return target, nil, nil
	}
	config = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cp.SkipVerify} //nolint:gosec // only on explicit demand
	authority := cp.CACert
	if authority == "" {
		// The authority that came with a verified answer is as good as that verification.
		authority = string(b.CA)
	}
	if strings.TrimSpace(authority) != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(authority)) {
			return "", nil, configError{"could not add certificate: the CA of the control plane holds no PEM certificate"}
		}
	}
	return target, config, nil
}
