package effect

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Outbound is the listener for one port of a service on one address.
type Outbound struct {
	// Service and Section look the outbound up in rules.
	Service resource.Key
	Section string
	// Name is the display name of the service: in another zone, what its people call it.
	Name string
	// LegacyService is the value of kuma.io/service of an outbound by tags, which has no Service; empty otherwise.
	LegacyService string
	// Protocol is the port's appProtocol, which decides about listeners (contract effects-routing.md §1.2).
	Protocol string
	// Destination names the cluster that the outbound goes to by itself.
	Destination string
	Listener    *Listener
	// Egress: the listener is only the chain of a ZoneEgress to a destination outside.
	Egress bool

	env Env
}

// Backend is the cluster for one port of a service.
type Backend struct {
	Service resource.Key
	Section string
	// LegacyService as in Outbound. Indirect says that the proxy has no outbound to it: only routes lead there.
	LegacyService string
	Indirect      bool
	// Protocol is the one that the endpoints agree on, which decides about clusters; empty when unknown.
	Protocol    string
	Destination string
	Cluster     *Cluster
	// Egress: the cluster is one of a ZoneEgress, with the endpoints outside.
	Egress bool
}

// RoutableProtocol tells whether a port with this appProtocol is reachable. Without one, or with an unknown word, its
// listener has one empty filter chain and there is no cluster (contract effects-routing.md §1.3).
func RoutableProtocol(appProtocol string) bool {
	return IsHTTP(appProtocol) || appProtocol == TCP || appProtocol == Kafka
}

// Destination names the cluster of a port of a service (contract controlplane.md §3.2).
func Destination(service *resource.Resource, port uint32) string {
	kind := "msvc"
	switch service.Kind {
	case resource.KindMeshMultiZoneService:
		kind = "mzsvc"
	case resource.KindMeshExternalService:
		kind = "extsvc"
	}
	return service.Mesh + "_" + service.DisplayName() + "_" + service.Labels[resource.LabelNamespace] + "_" +
		service.Labels[resource.LabelZone] + "_" + kind + "_" + strconv.FormatUint(uint64(port), 10)
}

// NewOutbound makes the base of an outbound to a port of a service, listening on an address of its own (contract
// effects-routing.md §2.2).
func NewOutbound(env Env, address string, listenPort uint32, service *resource.Resource, port resource.ServicePort) *Outbound {
	out := &Outbound{
		Service: service.Key, Section: Section(port), Name: service.DisplayName(), Protocol: port.AppProtocol,
		Destination: Destination(service, port.Port), env: env,
	}
	out.Listener = &Listener{Listener: &listenerv3.Listener{
		Name:             "outbound:" + HostPort(address, listenPort),
		Address:          SocketAddress(address, listenPort),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		Metadata:         TagsMetadata(nil),
	}}
	if env.Transparent {
		out.Listener.BindToPort = wrapperspb.Bool(false)
	}
	chain := &Chain{}
	out.Listener.Chains = []*Chain{chain}
	switch {
	case !RoutableProtocol(port.AppProtocol):
	case IsHTTP(port.AppProtocol):
		chain.Filters = out.httpFilters(out.Destination)
	default:
		chain.Filters = tcpFilters(port.AppProtocol, out.Destination, out.Destination, nil)
	}
	return out
}

// httpFilters send all requests to a cluster.
func (out *Outbound) httpFilters(cluster string) []*Filter {
	env := out.env
	env.IPv6 = false // as captured of a proxy on a host with IPv6, whose inbounds do have these networks
	h := &HCM{Filters: httpFilters(out.Protocol), HttpConnectionManager: &hcmv3.HttpConnectionManager{
		StatPrefix: StatName(out.Destination),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:             "outbound:" + out.Destination,
			ValidateClusters: wrapperspb.Bool(false),
			RequestHeadersToAdd: []*corev3.HeaderValueOption{{
				Header: &corev3.HeaderValue{Key: TagsHeader, Value: env.SourceTags},
			}},
			VirtualHosts: []*routev3.VirtualHost{{Name: out.Destination, Domains: []string{"*"}, Routes: []*routev3.Route{
				PrefixRoute(catchAll(), "/", cluster),
			}}},
		}},
		InternalAddressConfig: env.InternalAddresses(),
		NormalizePath:         wrapperspb.Bool(true),
	}}
	if out.Service.Kind == resource.KindMeshExternalService {
		external(out.Destination, h)
	}
	return []*Filter{{Name: FilterHCM, HCM: h}}
}

// catchAll is the name of the route for everything: a hash of its match, as for every route (contract policies.md §4.5).
var catchAll = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(`[{"path":{"value":"/","type":"PathPrefix"}}]`))
	return base64.StdEncoding.EncodeToString(sum[:])
})

// NewBackend makes the base of a cluster for a port of a service (contract effects-routing.md §2.4). Protocol is
// what the endpoints agree on.
func NewBackend(env Env, service *resource.Resource, spec *resource.MeshService, status *resource.MeshServiceStatus,
	port resource.ServicePort, protocol string,
) *Backend {
	b := &Backend{
		Service: service.Key, Section: Section(port), Protocol: protocol, Destination: Destination(service, port.Port),
	}
	c := NewCluster(b.Destination)
	c.SetEDS()
	c.HTTP = HTTPOptions(true) // between proxies everything is HTTP/2
	if service.Kind == resource.KindMeshExternalService {
		c.HTTP = ExternalHTTP(port.AppProtocol)
	}
	if Secured(env, service, status) {
		var identities []string
		for _, id := range spec.Identities {
			if id.Type == resource.IdentityServiceTag {
				identities = append(identities, id.Value)
			}
		}
		slices.Sort(identities)
		c.TLS = UpstreamTLS(env.Mesh, SNI(service, port.Port), identities)
	}
	b.Cluster = c
	return b
}

// Secured tells whether the proxy speaks mTLS to a service.
func Secured(env Env, service *resource.Resource, status *resource.MeshServiceStatus) bool {
	return env.MTLSMode != "" && (env.MTLSMode == resource.MTLSStrict || tlsReady(service, status))
}

// tlsReady tells whether every proxy of the service has a certificate; services of other zones always count as ready.
func tlsReady(service *resource.Resource, status *resource.MeshServiceStatus) bool {
	if service.Labels[resource.LabelOrigin] == resource.OriginGlobal {
		return true
	}
	return status != nil && status.TLS != nil && status.TLS.Status == resource.TLSReady
}

// SNI names a port of a service in TLS handshakes (contract controlplane.md §1.6).
func SNI(service *resource.Resource, port uint32) string {
	switch service.Kind {
	case resource.KindMeshMultiZoneService:
		return sni(service.DisplayName(), service.Mesh, port, "mzms")
	case resource.KindMeshExternalService:
		return sni(service.DisplayName(), service.Mesh, port, "mes")
	}
	name := service.Name
	if service.Labels[resource.LabelOrigin] == resource.OriginGlobal {
		name = service.DisplayName()
	}
	if ns := service.Labels[resource.LabelNamespace]; ns != "" {
		name += "." + ns
	}
	return sni(name, service.Mesh, port, "ms")
}

func sni(name, mesh string, port uint32, kind string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name + ";" + mesh + ";")) // never fails
	sum := binary.BigEndian.AppendUint64(nil, h.Sum64())
	return "a" + hex.EncodeToString(sum) + "." + cut(name) + "." + strconv.FormatUint(uint64(port), 10) + "." + cut(mesh) + "." + kind
}

func cut(s string) string {
	if len(s) > 62 {
		return s[:62] + "x"
	}
	return s
}

// CommonProtocol folds two protocols of endpoints into the one that both speak (contract effects-routing.md §2.3).
func CommonProtocol(a, b string) string {
	if a == b {
		return a
	}
	for _, p := range protocolStack(a) {
		if slices.Contains(protocolStack(b), p) {
			return p
		}
	}
	return ""
}

func protocolStack(p string) []string {
	switch strings.ToLower(p) {
	case GRPC:
		return []string{GRPC, HTTP2, TCP}
	case HTTP2:
		return []string{HTTP2, TCP}
	case HTTP:
		return []string{HTTP, TCP}
	case Kafka:
		return []string{Kafka, TCP}
	case TCP, "tls":
		return []string{TCP}
	}
	return nil
}
