package xds

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// tagExternalName tells the endpoints of ExternalServices with TLS apart.
const tagExternalName = "kuma.io/external-service-name"

// useExternal makes the cluster of a kuma.io/service that is outside of the mesh (contract effects-routing.md §2.4):
// through the egress, or straight there. Done says that it brings its endpoints.
func (w *work) useExternal(u *use, be *effect.Backend, t *effect.Target) (done bool, err error) {
	if w.in.Mesh.ThroughEgress(u.legacy) {
		be.Cluster.HTTP = effect.ExternalHTTP(t.Protocol)
		be.Cluster.TLS = effect.UpstreamTLS(w.env.Mesh, effect.LegacySNI(w.env.Mesh, t.Tags), []string{"zone-egress"})
	} else {
		done = true
		if be.Cluster, err = externalCluster(w.in.Mesh, u.legacy, t); err != nil {
			return false, err
		}
		w.arrange(u, effect.Backend{LegacyService: u.legacy.Name, Destination: t.Cluster, Indirect: be.Indirect})
		if u.ref.arrange != nil {
			u.ref.arrange(be.Cluster.LoadAssignment)
		}
	}
	u.secured = be.Cluster.TLS != nil
	w.take(u)
	w.later(func(p *effect.Proxy) func() error {
		p.Backends = append(p.Backends, be)
		return func() (err error) {
			u.cluster, err = w.b.cluster(be.Cluster)
			return err
		}
	})
	return done, nil
}

// externalProtocol is what all ExternalServices of a name speak.
func externalProtocol(s *topology.LegacyService) string {
	protocol := ""
	for i, r := range s.External {
		p := resource.SpecOf[*resource.ExternalService](r).Tags[resource.TagProtocol]
		if i == 0 {
			protocol = p
		}
		protocol = effect.CommonProtocol(protocol, p)
	}
	return protocol
}

// externalCluster goes straight to the ExternalServices that have the tags of the target.
func externalCluster(mesh *topology.Mesh, s *topology.LegacyService, t *effect.Target) (*effect.Cluster, error) {
	var endpoints []effect.ExternalEndpoint
	var matches []effect.TLSMatch
	for _, r := range s.External {
		spec := resource.SpecOf[*resource.ExternalService](r)
		host, port := spec.HostPort()
		if port == 0 || !having1(spec.Tags, t.Tags) {
			continue
		}
		tags := maps.Clone(spec.Tags)
		delete(tags, resource.TagService)
		if spec.TLS().Enabled {
			tags[tagExternalName] = r.Name
			ctx, err := legacyContext(mesh, spec.TLS(), host)
			if err != nil {
				return nil, fmt.Errorf("ExternalService %s: %w", r.Name, err)
			}
			matches = append(matches, effect.TLSMatch{Name: host, Tags: tags, TLS: ctx})
		}
		endpoints = append(endpoints, effect.ExternalEndpoint{Address: host, Port: port, Tags: tags, Zone: spec.Tags[resource.TagZone]})
	}
	c := effect.NewExternalCluster(t.Cluster, t.Protocol, endpoints)
	c.TLSMatches = matches
	return c, nil
}

func having1(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// legacyContext checks the certificate of the outside only against an authority that is given, as 2.9 does.
func legacyContext(mesh *topology.Mesh, t *resource.ExternalServiceTLS, host string) (*tlsv3.UpstreamTlsContext, error) {
	ctx := &tlsv3.UpstreamTlsContext{AllowRenegotiation: t.AllowRenegotiation}
	name := host
	if t.ServerName != nil {
		name = *t.ServerName
	}
	address, err := netip.ParseAddr(name)
	if err != nil {
		ctx.Sni = name
	}
	common := &tlsv3.CommonTlsContext{}
	if t.ClientCert != nil && t.ClientKey != nil {
		cert, err := dataOf(mesh, t.ClientCert)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		key, err := dataOf(mesh, t.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client key: %w", err)
		}
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: inline(cert), PrivateKey: inline(key)}}
		ctx.CommonTlsContext = common
	}
	if t.CACert == nil {
		return ctx, nil
	}
	ca, err := dataOf(mesh, t.CACert)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	check := &tlsv3.CertificateValidationContext{TrustedCa: inline(ca)}
	if !t.SkipHostnameVerify {
		san := &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_DNS,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
		}
		if address.IsValid() {
			san.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		}
		check.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{san}
	}
	common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check}
	ctx.CommonTlsContext = common
	return ctx, nil
}

// addHostNames adds the names outside of services that have an address in the mesh (contract dns.md §2.4), so that a
// workload which uses the real name comes by here too.
func addHostNames(names map[string][]string, outbounds []topology.LegacyOutbound) {
	for _, o := range outbounds {
		if o.Service == nil {
			continue
		}
		for _, r := range o.Service.External {
			spec := resource.SpecOf[*resource.ExternalService](r)
			host, port := spec.HostPort()
			if _, err := netip.ParseAddr(host); err == nil || port != o.Port || o.Address != o.Service.VIP || spec.Networking.DisableHostDNSEntry || !IsDomain(host) {
				continue
			}
			if !slices.Contains(names[host], o.Address) {
				names[host] = append(names[host], o.Address)
			}
		}
	}
}
