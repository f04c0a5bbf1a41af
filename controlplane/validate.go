package controlplane

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

// Validate returns everything that is wrong, each fault by the path of its field in the file.
func (c *Config) Validate() error {
	var f faults
	f.oneOf("environment", c.Environment, environmentUniversal)
	f.oneOf("mode", c.Mode, modeZone, modeStandalone)
	f.oneOf("access.type", c.Access.Type, accessStatic)
	f.oneOf("store.type", c.Store.Type, StoreBolt, StoreMemory)
	f.oneOf("apiServer.authn.type", c.APIServer.Authn.Type, api.AuthnTokens, api.AuthnAdminClientCerts)
	f.oneOf("dpServer.authn.dpProxy.type", c.DPServer.Authn.DPProxy.Type, AuthnDPToken, AuthnNone)
	c.checkPublicKeys(&f)
	if c.APIServer.HTTPS.TLSCAFile == "" && c.APIServer.Auth.ClientCertsDir == "" {
		const need = "needs an authority: set apiServer.https.tlsCaFile or apiServer.auth.clientCertsDir"
		if c.APIServer.Authn.Type == api.AuthnAdminClientCerts {
			f.add("apiServer.authn.type", "adminClientCerts "+need)
		}
		if c.APIServer.HTTPS.RequireClientCert {
			f.add("apiServer.https.requireClientCert", need)
		}
	}
	if c.Multizone.Zone.GlobalAddress != "" {
		f.add("multizone.zone.globalAddress", "joining a global control plane is not supported yet, leave it empty")
	}
	if c.Multizone.Zone.Name == "" {
		f.add("multizone.zone.name", "must not be empty")
	}
	for _, p := range []struct {
		path string
		port uint32
	}{
		{"apiServer.http.port", c.APIServer.HTTP.Port},
		{"apiServer.https.port", c.APIServer.HTTPS.Port},
		{"dpServer.port", c.DPServer.Port},
		{"diagnostics.serverPort", c.Diagnostics.ServerPort},
		{"bootstrapServer.params.adminPort", c.BootstrapServer.Params.AdminPort},
		{"bootstrapServer.params.xdsPort", c.BootstrapServer.Params.XDSPort},
	} {
		if p.port > 65535 {
			f.add(p.path, fmt.Sprintf("%d is not a port", p.port))
		}
	}
	for _, p := range []struct {
		path      string
		cert, key string
	}{
		{"general", c.General.TLSCertFile, c.General.TLSKeyFile},
		{"apiServer.https", c.APIServer.HTTPS.TLSCertFile, c.APIServer.HTTPS.TLSKeyFile},
		{"dpServer", c.DPServer.TLSCertFile, c.DPServer.TLSKeyFile},
	} {
		if (p.cert == "") != (p.key == "") {
			f.add(p.path+".tlsCertFile and tlsKeyFile", "give both or neither")
		}
	}
	for _, d := range []struct {
		path string
		d    Duration
	}{
		{"bootstrapServer.params.xdsConnectTimeout", c.BootstrapServer.Params.XDSConnectTimeout},
		{"apiServer.envoyAdmin.connectTimeout", c.APIServer.EnvoyAdmin.ConnectTimeout},
		{"apiServer.envoyAdmin.timeout", c.APIServer.EnvoyAdmin.Timeout},
		{"dpServer.readHeaderTimeout", c.DPServer.ReadHeaderTimeout},
		{"dpServer.hds.interval", c.DPServer.HDS.Interval},
		{"dpServer.hds.checkDefaults.interval", c.DPServer.HDS.CheckDefaults.Interval},
		{"dpServer.hds.checkDefaults.noTrafficInterval", c.DPServer.HDS.CheckDefaults.NoTrafficInterval},
		{"dpServer.hds.checkDefaults.timeout", c.DPServer.HDS.CheckDefaults.Timeout},
		{"metrics.mesh.minResyncInterval", c.Metrics.Mesh.MinResyncInterval},
		{"coreResources.status.meshServiceInterval", c.CoreResources.Status.MeshServiceInterval},
		{"coreResources.status.meshMultiZoneServiceInterval", c.CoreResources.Status.MeshMultiZoneServiceInterval},
		{"ipam.allocationInterval", c.IPAM.AllocationInterval},
		{"meshService.deletionGracePeriod", c.MeshService.DeletionGracePeriod},
		{"meshService.generationInterval", c.MeshService.GenerationInterval},
		{"xdsServer.dataplaneDeregistrationDelay", c.XDSServer.DataplaneDeregistrationDelay},
		{"xdsServer.dataplaneStatusFlushInterval", c.XDSServer.DataplaneStatusFlushInterval},
	} {
		if d.d <= 0 {
			f.add(d.path, "must be a positive duration")
		}
	}
	for _, r := range []struct {
		path, cidr string
		dual       bool
	}{
		{"dnsServer.CIDR", c.DNSServer.CIDR, false},
		{"ipam.meshService.cidr", c.IPAM.MeshService.CIDR, true},
		{"ipam.meshExternalService.cidr", c.IPAM.MeshExternalService.CIDR, false},
		{"ipam.meshMultiZoneService.cidr", c.IPAM.MeshMultiZoneService.CIDR, true},
	} {
		switch ranges, err := parseRanges(r.cidr); {
		case err != nil && r.dual:
			f.add(r.path, fmt.Sprintf("%q is no range of addresses, such as 241.0.0.0/8, or 241.0.0.0/8,fd00:241::/64 for an address of each family", r.cidr))
		case err != nil:
			f.add(r.path, fmt.Sprintf("%q is no range of addresses, such as 241.0.0.0/8", r.cidr))
		case !r.dual && len(ranges) > 1:
			f.add(r.path, fmt.Sprintf("%q are %d ranges, give one", r.cidr, len(ranges)))
		case len(ranges) > 2 || len(ranges) == 2 && ranges[0].Addr().Is4() == ranges[1].Addr().Is4():
			f.add(r.path, fmt.Sprintf("%q are %d ranges, give one, or one of IPv4 and one of IPv6", r.cidr, len(ranges)))
		}
	}
	if p := c.DNSServer.ServiceVIPPort; p == 0 || p > 65535 {
		f.add("dnsServer.serviceVipPort", fmt.Sprintf("%d is not a port", p))
	}
	if !xds.IsDomain(c.DNSServer.Domain) {
		f.add("dnsServer.domain", fmt.Sprintf("%q is no domain name", c.DNSServer.Domain))
	}
	if _, err := netip.ParseAddr(c.BootstrapServer.Params.AdminAddress); err != nil {
		f.add("bootstrapServer.params.adminAddress", fmt.Sprintf("%q is not an IP address", c.BootstrapServer.Params.AdminAddress))
	}
	return errors.Join(f...)
}

type faults []error

func (f *faults) add(path, reason string) {
	*f = append(*f, fmt.Errorf("configuration: %s: %s", path, reason))
}

func (f *faults) oneOf(path, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	f.add(path, fmt.Sprintf("%q is not supported, use %s", value, strings.Join(allowed, " or ")))
}
