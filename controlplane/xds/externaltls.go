package xds

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// hostTag tells the endpoints of a MeshExternalService apart when each has a TLS context of its own.
const hostTag = "kuma.io/external-host"

// secureExternal sets how a cluster of a MeshExternalService encrypts, and checks whom it talks to (contract policies.md
// §2.5). With a serverName one context does for all endpoints; else each host has one.
func secureExternal(c *effect.Cluster, mesh *topology.Mesh, t *resource.ExternalTLS, endpoints []effect.ExternalEndpoint, systemCA string) error {
	if t == nil || !t.Enabled {
		return nil
	}
	v := t.Verification
	if v == nil {
		v = &resource.ExternalVerification{}
	}
	if v.ServerName != "" || len(endpoints) == 1 {
		host := v.ServerName
		if host == "" {
			host = endpoints[0].Address
		}
		ctx, err := externalContext(mesh, t, v, host, systemCA)
		c.TLS = ctx
		return err
	}
	done := map[string]bool{}
	for _, e := range endpoints {
		if done[e.Address] {
			continue
		}
		done[e.Address] = true
		ctx, err := externalContext(mesh, t, v, e.Address, systemCA)
		if err != nil {
			return err
		}
		c.TLSMatches = append(c.TLSMatches, effect.TLSMatch{Name: e.Address, Tags: map[string]string{hostTag: e.Address}, TLS: ctx})
	}
	return nil
}

// externalContext is for one host, a name or an address.
func externalContext(mesh *topology.Mesh, t *resource.ExternalTLS, v *resource.ExternalVerification, host, systemCA string) (*tlsv3.UpstreamTlsContext, error) {
	common := &tlsv3.CommonTlsContext{}
	ctx := &tlsv3.UpstreamTlsContext{CommonTlsContext: common, AllowRenegotiation: t.AllowRenegotiation}
	if _, err := netip.ParseAddr(host); err != nil {
		ctx.Sni = host // an address is no server name
	}
	if t.Version != nil {
		common.TlsParams = &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsVersion(t.Version.Min), TlsMaximumProtocolVersion: tlsVersion(t.Version.Max),
		}
	}
	if v.ClientCert != nil && v.ClientKey != nil {
		cert, err := dataOf(mesh, v.ClientCert)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		key, err := dataOf(mesh, v.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client key: %w", err)
		}
		common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: inline(cert), PrivateKey: inline(key)}}
	}
	mode := cmp.Or(v.Mode, resource.VerifySecured)
	if mode == resource.VerifySkipCA || mode == resource.VerifySkipAll {
		return ctx, nil // Envoy checks no name in a certificate of an unknown authority
	}
	check := &tlsv3.CertificateValidationContext{}
	switch {
	case v.CACert != nil:
		ca, err := dataOf(mesh, v.CACert)
		if err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		check.TrustedCa = inline(ca)
	case systemCA != "":
		check.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: systemCA}}
	default:
		return nil, errors.New("no certificate authority: set verification.caCert, or give the host of the egress a file of authorities")
	}
	if mode == resource.VerifySecured {
		check.MatchTypedSubjectAltNames = externalNames(v, host)
	}
	common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check}
	return ctx, nil
}

// externalNames are what the certificate must be for: one of the given names, else the host.
func externalNames(v *resource.ExternalVerification, host string) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	add := func(t tlsv3.SubjectAltNameMatcher_SanType, m *matcherv3.StringMatcher) {
		out = append(out, &tlsv3.SubjectAltNameMatcher{SanType: t, Matcher: m})
	}
	for _, san := range v.SubjectAltNames {
		m := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: san.Value}}
		if san.Type == "Prefix" {
			m.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: san.Value}
		}
		for _, t := range []tlsv3.SubjectAltNameMatcher_SanType{
			tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
		} {
			add(t, m)
		}
	}
	if len(out) > 0 {
		return out
	}
	exact := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}}
	if _, err := netip.ParseAddr(host); err == nil {
		add(tlsv3.SubjectAltNameMatcher_IP_ADDRESS, exact)
	} else {
		add(tlsv3.SubjectAltNameMatcher_DNS, exact)
	}
	return out
}

func tlsVersion(v string) tlsv3.TlsParameters_TlsProtocol {
	switch v {
	case "TLS10":
		return tlsv3.TlsParameters_TLSv1_0
	case "TLS11":
		return tlsv3.TlsParameters_TLSv1_1
	case "TLS12":
		return tlsv3.TlsParameters_TLSv1_2
	case "TLS13":
		return tlsv3.TlsParameters_TLSv1_3
	}
	return tlsv3.TlsParameters_TLS_AUTO
}

// dataOf reads a source: bytes, or a Secret of the mesh.
func dataOf(mesh *topology.Mesh, d *resource.SecretDataSource) ([]byte, error) {
	switch {
	case d.Secret != "":
		r := mesh.Secrets[d.Secret]
		if r == nil {
			return nil, fmt.Errorf("mesh %s has no secret %q", mesh.Name, d.Secret)
		}
		return resource.SpecOf[*resource.Secret](r).Data, nil
	case d.InlineString != "":
		return []byte(d.InlineString), nil
	}
	return d.Inline, nil
}
