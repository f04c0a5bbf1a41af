package xds

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Names of the admin resources.
const (
	adminName     = "kuma:envoy:admin"
	readinessName = "kuma:readiness"
)

// addAdmin makes /ready reachable for everybody and the rest of Envoy's admin interface for the control plane alone
// (contract effects-security.md §1.7).
func addAdmin(b *builder, env effect.Env, meta Meta, secure *AdminTLS) error {
	if meta.AdminPort == 0 {
		return nil
	}
	address, err := adminAddress(meta.AdminAddress)
	if err != nil {
		return err
	}
	if err := b.addCluster(effect.OriginAdmin, staticCluster(adminName, address, meta.AdminPort)); err != nil {
		return err
	}
	ready := adminName
	if meta.ReadinessPort != 0 {
		ready = readinessName
		raw := meta.AdminAddress
		if raw == "" {
			raw = address
		}
		if err := b.addCluster(effect.OriginAdmin, staticCluster(readinessName, raw, meta.ReadinessPort)); err != nil {
			return err
		}
	}
	if env.Address == address {
		return nil
	}
	l := &effect.Listener{
		Listener: &listenerv3.Listener{
			Name: adminName, Address: effect.SocketAddress(env.Address, meta.AdminPort),
			TrafficDirection: corev3.TrafficDirection_INBOUND, EnableReusePort: wrapperspb.Bool(false),
		},
		ListenerFilters: []*effect.Filter{effect.TLSInspector()},
		Chains:          []*effect.Chain{{Filters: []*effect.Filter{adminHCM(env, adminRoute("/ready", ready))}}},
	}
	if secure != nil {
		l.Chains = append(l.Chains, &effect.Chain{
			Match:   &listenerv3.FilterChainMatch{TransportProtocol: "tls"},
			TLS:     adminTLS(secure),
			Filters: []*effect.Filter{adminHCM(env, adminRoute("/ready", ready), adminRoute("/", adminName))},
		})
	}
	return b.addListener(effect.OriginAdmin, l)
}

func adminAddress(given string) (string, error) {
	switch given {
	case "", "0.0.0.0", "127.0.0.1":
		return "127.0.0.1", nil
	case "::", "::1":
		return "::1", nil
	}
	return "", fmt.Errorf("admin address %q is not a loopback or unspecified address", given)
}

func adminRoute(prefix, cluster string) *routev3.Route {
	r := effect.PrefixRoute("", prefix, cluster)
	r.GetRoute().Timeout = nil
	r.GetRoute().PrefixRewrite = prefix
	return r
}

func adminHCM(env effect.Env, routes ...*routev3.Route) *effect.Filter {
	return &effect.Filter{Name: effect.FilterHCM, HCM: &effect.HCM{
		Filters: []*effect.Filter{effect.RouterFilter()},
		HttpConnectionManager: &hcmv3.HttpConnectionManager{
			StatPrefix: effect.StatName(adminName),
			RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
				ValidateClusters: wrapperspb.Bool(false),
				VirtualHosts:     []*routev3.VirtualHost{{Name: adminName, Domains: []string{"*"}, Routes: routes}},
			}},
			InternalAddressConfig: env.LocalAddresses(),
		},
	}}
}

func adminTLS(a *AdminTLS) *tlsv3.DownstreamTlsContext {
	return &tlsv3.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(true),
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline(a.Cert), PrivateKey: inline(a.Key)}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
				ValidationContext: &tlsv3.CertificateValidationContext{
					TrustedCa: inline(a.ClientCA),
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
						SanType: tlsv3.SubjectAltNameMatcher_DNS,
						Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "kuma-cp"}},
					}},
				},
			},
		},
	}
}
