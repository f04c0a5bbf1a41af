package effect

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Conf returns what rules say about the outbound, nil when nothing: those for services, or for an outbound by tags those
// by tags (contract policies.md §4.6).
func (out *Outbound) Conf(r *policy.Rules) any {
	return confOf(r, out.LegacyService, out.Service, out.Section)
}

// Conf returns what rules say about the service of the cluster, nil when nothing.
func (b *Backend) Conf(r *policy.Rules) any {
	return confOf(r, b.LegacyService, b.Service, b.Section)
}

func confOf(r *policy.Rules, legacy string, service resource.Key, section string) any {
	if legacy != "" {
		return r.ForLegacyService(legacy)
	}
	if confs := r.ForService(service, section); len(confs) > 0 {
		return confs[0]
	}
	return nil
}

// LegacyCluster names the cluster of endpoints that have all tags, of which one is kuma.io/service: that service and, with
// more tags, the first 8 bytes of a hash of all of them (contract effects-routing.md §2.4).
func LegacyCluster(tags map[string]string) string {
	service := tags[resource.TagService]
	if len(tags) == 1 {
		return service
	}
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		h.Write([]byte(k + tags[k]))
	}
	return service + "-" + hex.EncodeToString(h.Sum(nil)[:8])
}

// LegacySNI names a set of endpoints in TLS handshakes: `<service>{k1=v1,k2=v2}` with mesh among the tags, sorted (contract
// policies.md §5).
func LegacySNI(mesh string, tags map[string]string) string {
	all := maps.Clone(tags)
	delete(all, resource.TagService)
	all["mesh"] = mesh
	pairs := make([]string, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, k+"="+all[k])
	}
	return tags[resource.TagService] + "{" + strings.Join(pairs, ",") + "}"
}

// NewLegacyOutbound makes the base of an outbound to the endpoints that have all tags. Protocol is what all endpoints of
// the service agree on, empty when that is nothing; it decides about the listener too (contract effects-routing.md §2.2).
func NewLegacyOutbound(env Env, address string, port uint32, tags map[string]string, protocol string) *Outbound {
	service, cluster := tags[resource.TagService], LegacyCluster(tags)
	out := &Outbound{LegacyService: service, Protocol: protocol, Destination: service, env: env}
	out.Listener = &Listener{Listener: &listenerv3.Listener{
		Name:             "outbound:" + HostPort(address, port),
		Address:          SocketAddress(address, port),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		Metadata:         TagsMetadata(tags),
	}}
	if env.Transparent {
		out.Listener.BindToPort = wrapperspb.Bool(false)
	}
	chain := &Chain{}
	out.Listener.Chains = []*Chain{chain}
	if IsHTTP(protocol) {
		chain.Filters = out.httpFilters(cluster)
	} else {
		chain.Filters = tcpFilters(protocol, service, cluster, nil)
	}
	return out
}

// NewLegacyBackend makes the base of the cluster of the endpoints that have all tags. Ready tells whether all proxies of
// the service have a certificate.
func NewLegacyBackend(env Env, tags map[string]string, protocol string, ready bool) *Backend {
	service := tags[resource.TagService]
	b := &Backend{LegacyService: service, Protocol: protocol, Destination: LegacyCluster(tags)}
	b.Cluster = NewCluster(b.Destination)
	b.Cluster.SetEDS()
	b.Cluster.HTTP = HTTPOptions(true) // between proxies everything is HTTP/2
	if env.MTLSMode == resource.MTLSStrict || env.MTLSMode != "" && ready {
		b.Cluster.TLS = UpstreamTLS(env.Mesh, LegacySNI(env.Mesh, tags), []string{service})
	}
	return b
}
