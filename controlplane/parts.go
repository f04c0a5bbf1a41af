package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/bootstrap/generate"
	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/dpserver"
	"github.com/kuma-dp/kuma-dp/controlplane/hostname"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/insight"
	"github.com/kuma-dp/kuma-dp/controlplane/inspect"
	"github.com/kuma-dp/kuma-dp/controlplane/mtlsreports"
	"github.com/kuma-dp/kuma-dp/controlplane/service"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/internal/version"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// parts are everything that runs.
type parts struct {
	instanceID  string
	store       store.Store
	diagnostics *diagnostics
	topology    *topology.Tracker
	services    *service.Controller
	names       *hostname.Assigner
	ids         *identity.Issuer
	reports     *mtlsreports.Reports
	lifecycle   *xds.Lifecycle
	ingresses   *xds.Lifecycle
	egresses    *xds.Lifecycle
	xds         *xds.Server
	hds         *dpserver.HDS // nil when it is off
	dpServer    *dpserver.Server
	inspector   *inspect.Inspector
	insights    *insight.Writer
	api         *api.Server
	https       bool
	http        bool
}

// build makes all parts, then the defaults; nothing runs or listens yet.
func (c *ControlPlane) build(ctx context.Context, st store.Store) (*parts, error) {
	cfg := &c.cfg
	host, err := os.Hostname()
	if err != nil {
		host = "localhost" // it is only shown
	}
	zone := resource.ZoneInfo{Zone: cfg.Multizone.Zone.Name, Env: resource.EnvUniversal}
	p := &parts{instanceID: instanceID(host), store: st, http: cfg.APIServer.HTTP.Enabled, https: cfg.APIServer.HTTPS.Enabled}
	p.ids = identity.New(identity.Config{Store: st, Log: c.log.With("component", "identity"), Changed: func(mesh string) { p.xds.Refresh(mesh) }})
	p.reports = mtlsreports.New(st)
	issuer := token.NewIssuer(st, nil)
	validator, err := cfg.validator(st)
	if err != nil {
		return nil, err
	}
	proxyTokens := validator
	if cfg.DPServer.Authn.DPProxy.Type == AuthnNone {
		c.log.Warn("proxies are not asked for a token: whoever reaches the data-plane server can be any proxy")
		proxyTokens = nil
	}
	seed := &seeder{cfg: cfg, store: st, ids: p.ids, tokens: issuer}
	clusterID, err := seed.clusterID(ctx)
	if err != nil {
		return nil, err
	}
	// Before the listeners of Envoys' admin interfaces can be made; the other defaults may come last.
	if err := identity.EnsureAuthorities(ctx, st, time.Now()); err != nil {
		return nil, err
	}
	admin, err := identity.LoadAdmin(st)
	if err != nil {
		return nil, err
	}
	p.topology = topology.New(topology.Config{Store: st, Zone: zone.Zone, Log: c.log.With("component", "topology")})
	p.services = service.New(service.Config{
		Store: st, Tracker: p.topology, GracePeriod: time.Duration(cfg.MeshService.DeletionGracePeriod), Log: c.log,
		EmptyReady: time.Duration(cfg.CoreResources.Status.MeshServiceInterval),
	})
	if p.names, err = hostname.New(hostname.Config{
		Store: st, Zone: zone.Zone, CIDR: addressRanges(cfg.IPAM.MeshService.CIDR), Log: c.log,
		ExternalCIDR: addressRanges(cfg.IPAM.MeshExternalService.CIDR), MultiZoneCIDR: addressRanges(cfg.IPAM.MeshMultiZoneService.CIDR),
		LegacyCIDR: addressRanges(cfg.DNSServer.CIDR)[0], LegacyPort: cfg.DNSServer.ServiceVIPPort, NoLegacy: !cfg.DNSServer.ServiceVIPEnabled,
	}); err != nil {
		return nil, err
	}
	p.insights = insight.New(insight.Config{
		Store: st, Registry: c.registry, Interval: time.Duration(cfg.Metrics.Mesh.MinResyncInterval), Log: c.log,
		Domain: cfg.DNSServer.Domain, Port: cfg.DNSServer.ServiceVIPPort,
	})
	p.buildLifecycles(xds.LifecycleConfig{
		Store: st, Zone: zone, InstanceID: p.instanceID, Version: version.Version, Log: c.log.With("component", "lifecycle"),
		Deregistration: time.Duration(cfg.XDSServer.DataplaneDeregistrationDelay), Flush: time.Duration(cfg.XDSServer.DataplaneStatusFlushInterval),
		Joining: p.topology.SetJoining,
	})
	kinds := all.Kinds()
	for i := range kinds {
		kinds[i].Components = cfg.Policies.DisableCliques
	}
	p.xds = xds.New(xds.Config{
		Topology: p.topology, Zone: zone.Zone, Domain: cfg.DNSServer.Domain, Kinds: kinds, Effects: all.Effects(), Registry: c.registry, InstanceID: p.instanceID,
		Authenticate: authenticate(proxyTokens, validator, zone.Zone), Lifecycle: p.registrars(), TrustBundle: p.ids.Bundle, Log: c.log.With("component", "xds"),
		Identity: func(ctx context.Context, id topology.ProxyID, dp *resource.Dataplane) (cert, key []byte, renewAt time.Time, err error) {
			got, err := p.ids.IssueForProxy(ctx, id.Mesh, id.Name, dp)
			if err != nil {
				return nil, nil, time.Time{}, err
			}
			return got.Cert, got.Key, got.RenewAt, nil
		},
		OwnIdentity: func(ctx context.Context, id topology.ProxyID) { p.ids.Own(ctx, id.Mesh, id.Name) },
		EgressIdentity: func(_ context.Context, mesh, name string) (*xds.KeyPair, time.Time, error) {
			got, err := p.ids.IssueForEgress(mesh, name)
			if err != nil {
				return nil, time.Time{}, err
			}
			return &xds.KeyPair{Cert: got.Cert, Key: got.Key}, got.RenewAt, nil
		},
		Admin: func(address string) (*xds.AdminTLS, error) {
			cert, key, err := admin.Server(address)
			if err != nil {
				return nil, err
			}
			return &xds.AdminTLS{KeyPair: xds.KeyPair{Cert: cert, Key: key}, ClientCA: admin.CA()}, nil
		},
	})
	if p.inspector, err = inspect.New(inspect.Config{
		Store: st, Watch: st.Watch, Proxies: p.xds, Authorities: p.ids, MTLSReports: p.reports, Kinds: kinds, Zone: zone.Zone, Admin: admin,
		ConnectTimeout: time.Duration(cfg.APIServer.EnvoyAdmin.ConnectTimeout), Timeout: time.Duration(cfg.APIServer.EnvoyAdmin.Timeout),
	}); err != nil {
		return nil, err
	}
	if err := c.buildDPServer(p, zone, proxyTokens, validator); err != nil {
		return nil, err
	}
	p.diagnostics = newDiagnostics(cfg.Diagnostics, c.log)
	p.diagnostics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_cp", Name: "connected_proxies", Help: "Proxies with an open configuration stream.",
	}, func() float64 { return float64(p.xds.Connected()) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "kuma_cp", Name: "streams_withdrawn_total", Help: "Streams of proxies ended because their token was revoked or its key deleted.",
	}, func() float64 { return float64(p.dpServer.Withdrawn()) }), expiry{st, p.ids})
	if err := c.buildAPI(p, zone, issuer, validator, api.Index{ //nolint:contextcheck // requests have their own
		ClusterID: clusterID, Hostname: host, InstanceID: p.instanceID, Product: version.Product, Version: version.Version,
	}); err != nil {
		return nil, err
	}
	return p, seed.run(ctx) // last: it makes keys, which takes longer than everything else
}

func (c *ControlPlane) buildDPServer(p *parts, zone resource.ZoneInfo, tokens, zoneTokens *token.Validator) error {
	cfg := &c.cfg
	pair, err := loadPair(cfg.DPServer.TLSCertFile, cfg.DPServer.TLSKeyFile)
	if err != nil {
		return err
	}
	params := &cfg.BootstrapServer.Params
	if h := params.XDSHost; h != "" {
		if err := pair.Leaf.VerifyHostname(h); err != nil {
			return fmt.Errorf("agents are to connect to %q (KUMA_BOOTSTRAP_SERVER_PARAMS_XDS_HOST): %w", h, err)
		}
	}
	var corefile []byte
	if path := params.CorefileTemplatePath; path != "" {
		if corefile, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("read template of agents' Corefile: %w", err)
		}
	}
	certificates := identity.NewService(p.ids, tokens)
	dp := dpserver.Config{
		Address: hostPort("", cfg.DPServer.Port), TLS: &tls.Config{Certificates: []tls.Certificate{pair.Certificate}, MinVersion: tls.VersionTLS12},
		ADS: p.xds, Certificates: certificates, Reports: &mtlsreports.Service{Reports: p.reports, Authenticate: certificates.Authenticate}, Store: p.store, Registry: c.registry, Tokens: tokens, ZoneTokens: zoneTokens, Zone: zone, Corefile: corefile,
		ReadHeaderTimeout: time.Duration(cfg.DPServer.ReadHeaderTimeout), Log: c.log,
		Bootstrap: generate.Config{
			XDSHost: params.XDSHost, XDSPort: params.XDSPort, ConnectTimeout: time.Duration(params.XDSConnectTimeout),
			AdminAddress: params.AdminAddress, AdminPort: params.AdminPort, AdminAccessLogPath: params.AdminAccessLogPath,
			HDS: cfg.DPServer.HDS.Enabled, ReloadableTokens: cfg.DPServer.Authn.EnableReloadableTokens, ServerCert: pair.pem,
			Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
				return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			},
		},
	}
	if cfg.DPServer.HDS.Enabled {
		h := cfg.DPServer.HDS.CheckDefaults
		p.hds = dpserver.NewHDS(dpserver.HDSConfig{
			Store: p.store, Await: p.ids.AwaitDataplane, Tokens: tokens, AdminPort: params.AdminPort, Log: c.log.With("component", "hds"),
			Checks: dpserver.CheckDefaults{
				Report: time.Duration(cfg.DPServer.HDS.Interval), Timeout: time.Duration(h.Timeout), Interval: time.Duration(h.Interval),
				NoTrafficInterval: time.Duration(h.NoTrafficInterval), HealthyThreshold: h.HealthyThreshold, UnhealthyThreshold: h.UnhealthyThreshold,
			},
		})
		dp.HDS = p.hds
	}
	p.dpServer, err = dpserver.New(dp)
	return err
}

func (c *ControlPlane) buildAPI(p *parts, zone resource.ZoneInfo, issuer *token.Issuer, validator *token.Validator, index api.Index) error {
	cfg := &c.cfg
	a := api.Config{
		Store: p.store, Registry: c.registry, Issuer: issuer, Validator: validator, Zone: zone, Index: index, Log: c.log,
		AuthnType: cfg.APIServer.Authn.Type, LocalhostIsAdmin: cfg.APIServer.Authn.LocalhostIsAdmin, Hardened: cfg.APIServer.Hardened,
		DisableUserIssuer:      !cfg.APIServer.Authn.Tokens.EnableIssuer,
		DisableDataplaneIssuer: !cfg.DPServer.Authn.DPProxy.DPToken.EnableIssuer,
		DisableZoneIssuer:      !cfg.DPServer.Authn.ZoneProxy.ZoneToken.EnableIssuer,
		Access:                 cfg.access(), CORSAllowedDomains: cfg.APIServer.CORSAllowedDomains, ReadOnly: cfg.APIServer.ReadOnly,
		EffectiveConfig: func() any { return cfg.Effective() },
		BeforePut:       c.beforePut(p.beforePut),
		Check: func(old, next *resource.Resource) ([]resource.Violation, error) {
			return c.beforePut(p.check)(context.Background(), old, next)
		},
		Foresee: p.xds.Foresee,
		OnMeshCreate: func(_ context.Context, mesh *resource.Resource) ([]store.Op, error) {
			return meshOps(p.ids, mesh)
		},
		OnMeshUpdate: p.ids.RetireOps,
		StrictChange: p.inspector.StrictChange,
		Extra:        p.inspector.Routes,
	}
	if p.http {
		a.HTTPAddress = hostPort(cfg.APIServer.HTTP.Interface, cfg.APIServer.HTTP.Port)
	}
	if p.https {
		pair, err := loadPair(cfg.APIServer.HTTPS.TLSCertFile, cfg.APIServer.HTTPS.TLSKeyFile)
		if err != nil {
			return err
		}
		a.HTTPSAddress = hostPort(cfg.APIServer.HTTPS.Interface, cfg.APIServer.HTTPS.Port)
		a.TLS = &tls.Config{Certificates: []tls.Certificate{pair.Certificate}, MinVersion: tls.VersionTLS12}
		if err := cfg.clientCerts(a.TLS); err != nil {
			return err
		}
	}
	var err error
	p.api, err = api.New(a)
	return err
}

// access turns the lists of the configuration into those of the API.
func (c *Config) access() *api.Access {
	out, s := api.DefaultAccess(), &c.Access.Static
	out.AdminResources = api.List{Users: s.AdminResources.Users, Groups: s.AdminResources.Groups}
	out.ControlPlaneMetadata = api.List{Users: s.ControlPlaneMetadata.Users, Groups: s.ControlPlaneMetadata.Groups}
	out.GenerateDPToken = api.List{Users: s.GenerateDPToken.Users, Groups: s.GenerateDPToken.Groups}
	out.GenerateUserToken = api.List{Users: s.GenerateUserToken.Users, Groups: s.GenerateUserToken.Groups}
	out.GenerateZoneToken = api.List{Users: s.GenerateZoneToken.Users, Groups: s.GenerateZoneToken.Groups}
	out.ViewConfigDump = api.List{Users: s.ViewConfigDump.Users, Groups: s.ViewConfigDump.Groups}
	out.ViewStats = api.List{Users: s.ViewStats.Users, Groups: s.ViewStats.Groups}
	out.ViewClusters = api.List{Users: s.ViewClusters.Users, Groups: s.ViewClusters.Groups}
	return &out
}

// listen binds all ports, so that one in use is found out before anything is served.
func (p *parts) listen(ctx context.Context, cfg *Config) (err error) {
	if err := p.diagnostics.listen(ctx, hostPort("", cfg.Diagnostics.ServerPort)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.diagnostics.listener.Close())
		}
	}()
	if err := p.dpServer.Listen(ctx); err != nil {
		return err
	}
	if err := p.api.Listen(ctx); err != nil {
		return errors.Join(err, p.dpServer.Close())
	}
	return nil
}

func (p *parts) addresses() Addresses {
	out := Addresses{DPServer: p.dpServer.Addr(), Diagnostics: p.diagnostics.listener.Addr()}
	rest := p.api.Addresses()
	if p.http && len(rest) > 0 {
		out.HTTP, rest = rest[0], rest[1:]
	}
	if p.https && len(rest) > 0 {
		out.HTTPS = rest[0]
	}
	return out
}

// members lists the parts as they depend on each other: they stop from the last to the first. The data-plane server stops
// before the lifecycle, so that the ends of streams are still written; Dataplanes stay, for their proxies are only waiting
// for the next start.
func (p *parts) members(ready func(*parts)) []group.Member {
	out := []group.Member{
		{Name: "diagnostics", Run: p.diagnostics.run},
		{Name: "topology", Run: p.topology.Run},
		{Name: "services", Run: p.services.Run},
		{Name: "hostnames", Run: p.names.Run},
		{Name: "insights", Run: p.insights.Run},
		{Name: "identity", Run: p.ids.Run},
		{Name: "mTLS reports", Run: p.reports.Run},
		{Name: "lifecycle", Run: p.lifecycle.Run},
		{Name: "zone ingresses", Run: p.ingresses.Run},
		{Name: "zone egresses", Run: p.egresses.Run},
		{Name: "xds", Run: p.xds.Run},
	}
	if p.hds != nil {
		out = append(out, group.Member{Name: "hds", Run: p.hds.Run})
	}
	return append(out,
		group.Member{Name: "dp-server", Run: p.dpServer.Run},
		group.Member{Name: "api", Run: p.api.Run},
		group.Member{Name: "readiness", Run: func(ctx context.Context) error {
			select {
			case <-p.topology.Ready():
				ready(p)
			case <-ctx.Done():
				return nil
			}
			<-ctx.Done()
			p.diagnostics.ready.Store(false)
			return nil
		}},
	)
}
