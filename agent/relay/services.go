package relay

import (
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// Service is a cluster of Envoy with what it takes to reach it without Envoy.
type Service struct {
	// Cluster is its name.
	Cluster string
	// TLS tells whether Envoy is to use it. SNI is what it then asks for, and Identities who may answer: SPIFFE IDs, or
	// beginnings of them where they end with a slash.
	TLS        bool
	SNI        string
	Identities []string
	Endpoints  []netip.AddrPort
}

// Services lists the clusters of a service: its name, its name in the mesh's hostnames, or that of a cluster. Endpoints that
// are no addresses are left out.
func (r *Relay) Services(name string) []Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	clusters, endpoints := r.subs[clusterType], r.subs[endpointType]
	if clusters == nil {
		return nil
	}
	var out []Service
	for cluster, h := range clusters.have {
		if !clusterOf(cluster, name) {
			continue
		}
		s := Service{Cluster: cluster}
		s.readTLS(h.body.GetValue())
		assignment := func(b []byte) error { return protofield.At(b, s.readEndpoint, 2, 2, 1, 1, 1) }
		if endpoints != nil {
			_ = assignment(endpoints.have[endpointsOf(h.body.GetValue(), cluster)].body.GetValue()) // Envoy has been given it
		}
		_ = protofield.At(h.body.GetValue(), assignment, 33)
		slices.SortFunc(s.Endpoints, netip.AddrPort.Compare)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Service) int { return strings.Compare(a.Cluster, b.Cluster) })
	return out
}

// clusterOf tells whether a cluster is of a service: {mesh}_{service}_{namespace}_{zone}_{kind}_{port} (contract
// controlplane.md §3.2), or of the service's name.
func clusterOf(cluster, service string) bool {
	if cluster == service {
		return true
	}
	service, _, _ = strings.Cut(service, ".")
	parts := strings.Split(cluster, "_")
	return len(parts) == 6 && parts[1] == service && strings.HasSuffix(parts[4], "svc")
}

// readTLS reads Cluster.transport_socket(24).typed_config(3).value(2), an UpstreamTlsContext{common_tls_context=1, sni=2}, in
// which combined_validation_context(8).default_validation_context(1).match_typed_subject_alt_names(15).matcher(2) has
// exact(1) or prefix(2).
func (s *Service) readTLS(cluster []byte) {
	_ = protofield.At(cluster, func(context []byte) error {
		s.TLS = true
		return protofield.Each(context, func(field protowire.Number, val []byte, _ uint64) error {
			switch field {
			case 1:
				return protofield.At(val, func(matcher []byte) error {
					return protofield.Each(matcher, func(field protowire.Number, val []byte, _ uint64) error {
						if field == 1 || field == 2 {
							s.Identities = append(s.Identities, string(val))
						}
						return nil
					})
				}, 8, 1, 15, 2)
			case 2:
				s.SNI = string(val)
			}
			return nil
		})
	}, 24, 3, 2)
}

// readEndpoint reads a SocketAddress{address=2, port_value=3}.
func (s *Service) readEndpoint(address []byte) error {
	var ip string
	var port uint64
	err := protofield.Each(address, func(field protowire.Number, val []byte, num uint64) error {
		switch field {
		case 2:
			ip = string(val)
		case 3:
			port = num
		}
		return nil
	})
	if addr, parse := netip.ParseAddr(ip); err == nil && parse == nil && port > 0 && port < 1<<16 {
		s.Endpoints = append(s.Endpoints, netip.AddrPortFrom(addr, uint16(port)))
	}
	return err
}

// Identity returns what Envoy shows to others and whom it trusts, PEM, wherever it came from; nil while it has none. The key is
// the workload's private key.
func (r *Relay) Identity() (chain, key, roots []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[secretType]
	if s == nil {
		return nil, nil, nil
	}
	// Secret.tls_certificate(2){certificate_chain=1, private_key=2}, each a DataSource{inline_bytes=2, inline_string=3}.
	_ = protofield.At(s.have[r.cfg.IdentitySecret].body.GetValue(), func(certificate []byte) error {
		return protofield.Each(certificate, func(field protowire.Number, val []byte, _ uint64) error {
			switch field {
			case 1:
				chain = inline(val)
			case 2:
				key = inline(val)
			}
			return nil
		})
	}, 2)
	return chain, key, slices.Clone(trustedCA(s.have[r.cfg.TrustSecret].body.GetValue()))
}

func inline(source []byte) (content []byte) {
	_ = protofield.Each(source, func(field protowire.Number, val []byte, _ uint64) error {
		if field == 2 || field == 3 {
			content = slices.Clone(val)
		}
		return nil
	})
	return content
}
