package meshtls

import (
	"cmp"
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ effect.ClientConf = (*Conf)(nil)

// Apply builds the listeners of selected inbounds anew in the effective mode and bounds TLS, there and in every cluster
// that speaks it (contract policies.md §5, effects-security.md §3). It goes before the effects that change inbounds, whose
// work it would throw away, and so that permissions see the chains which end mTLS. Without mTLS in the mesh it does nothing.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if p.MTLSMode == "" {
		return nil
	}
	for _, in := range p.Inbounds {
		conf := ofInbound(r, in.Resource)
		if conf == nil {
			continue
		}
		mode, err := conf.mode(p.MTLSMode)
		if err != nil {
			return err
		}
		in.SetMode(mode)
		for _, c := range in.Listener.Chains {
			if c.TLS != nil {
				c.TLS.CommonTlsContext.TlsParams = conf.params()
			}
		}
	}
	// As a client the proxy takes what its own inbounds are told; a gateway has none and keeps Envoy's defaults.
	conf, ok := effect.OfClient(r).(*Conf)
	if !ok {
		return nil
	}
	for _, b := range p.Backends {
		if b.Cluster.TLS != nil {
			b.Cluster.TLS.CommonTlsContext.TlsParams = conf.clientParams(p.Guarded)
		}
	}
	return nil
}

// ofInbound is nil for an inbound that is not selected.
func ofInbound(r *policy.Rules, in *resource.Inbound) *Conf {
	rules, _ := r.ForInbound(in)
	if len(rules) == 0 {
		return nil
	}
	// Items are for the whole mesh only, hence there is one rule, for every client.
	conf, _ := rules[0].Conf.(*Conf)
	return conf
}

// ModeOf is the mode of an inbound under the rules of its proxy, which may be nil, and the mode of the mesh's enabled backend.
// Without mTLS in the mesh, which an empty mode says, there is none.
func ModeOf(r *policy.Rules, in *resource.Inbound, backend string) (string, error) {
	if r == nil || backend == "" {
		return backend, nil
	}
	conf := ofInbound(r, in)
	if conf == nil {
		return backend, nil
	}
	return conf.mode(backend)
}

// mode is the backend's when the conf has none. A word that validation does not know must not open or close anything.
func (c *Conf) mode(backend string) (string, error) {
	switch c.Mode {
	case "":
		return backend, nil
	case Strict:
		return resource.MTLSStrict, nil
	case Permissive:
		return resource.MTLSPermissive, nil
	}
	return "", fmt.Errorf("apply mode %q of %s: it must be %s or %s", c.Mode, Name, Strict, Permissive)
}

// params is nil without a bound: ciphers alone have no effect (contract effects-security.md §0.4). Bounds that are left to
// Envoy give empty parameters.
func (c *Conf) params() *tlsv3.TlsParameters {
	v := c.TLSVersion
	if v == nil || cmp.Or(v.Min, v.Max) == "" {
		return nil
	}
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: protocol(v.Min),
		TlsMaximumProtocolVersion: protocol(v.Max),
		CipherSuites:              c.TLSCiphers,
	}
}

// clientParams is params for the other side. Left to itself, Envoy as a client speaks nothing above TLS 1.2, so that a proxy
// which is to speak TLS 1.3 at least could speak to nobody: of Kuma 2.9 this is so.
func (c *Conf) clientParams(ours bool) *tlsv3.TlsParameters {
	p := c.params()
	if p != nil && ours && p.TlsMinimumProtocolVersion == tlsv3.TlsParameters_TLSv1_3 && p.TlsMaximumProtocolVersion == tlsv3.TlsParameters_TLS_AUTO {
		p.TlsMaximumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
	}
	return p
}

func protocol(version string) tlsv3.TlsParameters_TlsProtocol {
	switch version {
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

// ClusterKey implements effect.ClientConf.
func (c *Conf) ClusterKey() string {
	v := c.TLSVersion
	if v == nil || cmp.Or(v.Min, v.Max) == "" {
		return ""
	}
	return fmt.Sprintf("%q %q %q", v.Min, v.Max, c.TLSCiphers)
}
