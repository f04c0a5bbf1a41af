package effect

import (
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// IdentitySecret is the name of the secret with the certificate of a proxy of the mesh.
func IdentitySecret(mesh string) string { return "identity_cert:secret:" + mesh }

// TrustSecret is the name of the secret with the authorities of the mesh.
func TrustSecret(mesh string) string { return "mesh_ca:secret:" + mesh }

// DownstreamTLS ends mTLS: any certificate of the mesh is let in, permission is a matter of RBAC.
func DownstreamTLS(mesh string) *tlsv3.DownstreamTlsContext {
	return &tlsv3.DownstreamTlsContext{
		CommonTlsContext:         commonTLS(mesh, []*tlsv3.SubjectAltNameMatcher{uriPrefix(mesh)}),
		RequireClientCertificate: wrapperspb.Bool(true),
	}
}

// SNIMatch matches TLS with a server name.
func SNIMatch(name string) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{TransportProtocol: "tls", ServerNames: []string{name}}
}

// UpstreamTLS starts mTLS to a service that has one of the identities, or any of the mesh when none is known.
func UpstreamTLS(mesh, sni string, identities []string) *tlsv3.UpstreamTlsContext {
	var sans []*tlsv3.SubjectAltNameMatcher
	for _, id := range identities {
		sans = append(sans, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "spiffe://" + mesh + "/" + id}},
		})
	}
	if sans == nil {
		sans = append(sans, uriPrefix(mesh))
	}
	ctx := commonTLS(mesh, sans)
	ctx.AlpnProtocols = []string{"kuma"}
	return &tlsv3.UpstreamTlsContext{CommonTlsContext: ctx, Sni: sni}
}

func uriPrefix(mesh string) *tlsv3.SubjectAltNameMatcher {
	return &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_URI,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "spiffe://" + mesh + "/"}},
	}
}

func commonTLS(mesh string, sans []*tlsv3.SubjectAltNameMatcher) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: IdentitySecret(mesh), SdsConfig: adsSource()}},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: sans},
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{
					Name: TrustSecret(mesh), SdsConfig: adsSource(),
				},
			},
		},
	}
}

// adsSource is one message for all, which nobody changes: every cluster has three of it.
var adsSource = sync.OnceValue(func() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
})
