package effect

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Target is where an outbound may lead: a port of a service object or, with Tags, the endpoints of a kuma.io/service that
// have all of them. It is immutable.
type Target struct {
	// Cluster is the name of the cluster, which tells targets apart.
	Cluster string
	// Protocol is the port's appProtocol; by tags what all endpoints of the service agree on, empty when that is nothing.
	Protocol string
	// External: it is outside of the mesh, where the host that the mesh knows it by means nothing.
	External bool
	// Service and Port are those of a service object.
	Service resource.Key
	Port    resource.ServicePort
	// Tags are nil for a service object.
	Tags map[string]string
}

// Accepts tells whether connections can be sent there: a port that does not say what it speaks has no cluster (contract
// effects-routing.md §1 trap 3, §4.2).
func (t *Target) Accepts() bool { return t.Tags != nil || RoutableProtocol(t.Protocol) }

// Same tells whether two targets, each nil or not, make the same routes.
func (t *Target) Same(other *Target) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.Cluster == other.Cluster && t.Protocol == other.Protocol && t.External == other.External
}

// Rule returns what the rules of a route kind say about an outbound that leads to t by itself, and which items say it, in
// ascending precedence. Conf is nil when nothing. For a service object these are the rules for services, else those for a
// kuma.io/service of the name of its cluster (contract effects-routing.md §3).
func (t *Target) Rule(r *policy.Rules) (confs []any, origin []policy.RuleOrigin) {
	if r == nil {
		return nil, nil
	}
	if t.Tags != nil {
		return r.RoutesByName(t.Tags[resource.TagService])
	}
	if rule := r.RuleForService(t.Service, Section(t.Port)); rule != nil {
		return rule.Conf, rule.Origin
	}
	return r.RoutesByCluster(t.Cluster)
}

// Resolver finds the target of a backendRef as its writer means it. The target is nil when there is none. Counts is false
// for a ref that is as if it were not there: one by labels that nothing has (contract effects-routing.md §3.2).
type Resolver func(ref policy.BackendRef, writer *resource.Resource) (target *Target, counts bool)

// Routing is where policies send what comes to an outbound.
type Routing struct {
	// Closed: nothing is reachable by the outbound, which has no listener then.
	Closed bool
	// Requests are tried in their order. They belong to the Routing: Apply takes copies.
	Requests []*routev3.Route
	// Connections, when there are no Requests, are sent by their weights; to nobody when there is none.
	Connections []Share
	// Targets need a cluster; some more than once.
	Targets []*Target
	// Warnings say which parts of the policies were left out.
	Warnings []string
}

// Share is a target with its weight.
type Share struct {
	Target *Target
	Weight uint32
}

// Weigh makes room for shares whose sum Envoy does not take: it must fit into 32 bits.
func Weigh(shares []Share) []Share {
	const most = 1<<32 - 1
	sum := uint64(0)
	for _, s := range shares {
		sum += uint64(s.Weight)
	}
	if sum <= most {
		return shares
	}
	out := make([]Share, len(shares))
	for i, s := range shares {
		// Less one for each, so that those rounded up fit.
		out[i] = Share{s.Target, uint32(max(1, uint64(s.Weight)*(most-uint64(len(shares)))/sum))}
	}
	return out
}

// Key is equal for routings that make the same listener of the same outbound. The routing of no policy, nil, has the key "".
func (r *Routing) Key() (string, error) {
	if r == nil {
		return "", nil
	}
	h := sha256.New()
	fmt.Fprint(h, r.Closed, len(r.Requests))
	for _, route := range r.Requests {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(route)
		if err != nil {
			return "", fmt.Errorf("encode route %s: %w", route.Name, err)
		}
		fmt.Fprintf(h, " %d:%s", len(b), b)
	}
	for _, s := range r.Connections {
		fmt.Fprintf(h, " %d %q", s.Weight, s.Target.Cluster)
	}
	return string(h.Sum(nil)), nil
}

// SetRouting replaces where a new outbound, which leads to own by itself, sends what comes to it; a nil routing is that of
// no policy. It is not for a Closed one, and comes before any policy has changed the listener.
func (out *Outbound) SetRouting(own *Target, r *Routing) {
	chain := out.Listener.Chains[0]
	h := chain.HCM()
	switch {
	case r == nil:
		if own.Tags != nil && own.External && h != nil {
			h.RouteActions(func(_ *routev3.Route, a *routev3.RouteAction) { RewriteHost(a) })
		}
	case len(r.Requests) > 0:
		if h == nil { // a port of connections that only routes of requests say something about
			chain.Filters = out.httpFilters(own.Cluster)
			h = chain.HCM()
		}
		routes := make([]*routev3.Route, len(r.Requests))
		for i, route := range r.Requests {
			routes[i] = proto.CloneOf(route)
		}
		h.GetRouteConfig().VirtualHosts[0].Routes = routes
	case len(r.Connections) == 0:
		chain.Filters = nil
	default:
		protocol := ""
		if out.Protocol == Kafka {
			protocol = Kafka
		}
		chain.Filters = tcpFilters(protocol, out.Destination, r.Connections[0].Target.Cluster, nil)
		if len(r.Connections) > 1 {
			chain.TCPProxy().ClusterSpecifier = weighted(r.Connections)
		}
	}
}

func weighted(shares []Share) *tcpv3.TcpProxy_WeightedClusters {
	clusters := &tcpv3.TcpProxy_WeightedCluster{}
	for _, s := range shares {
		clusters.Clusters = append(clusters.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{
			Name: s.Target.Cluster, Weight: s.Weight,
		})
	}
	return &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: clusters}
}

// RewriteHost gives requests the host of the endpoint that they are sent to.
func RewriteHost(a *routev3.RouteAction) {
	a.HostRewriteSpecifier = &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)}
}

// RouteConf returns what rules say about one route of the outbound by its name, nil when nothing: those of policies for a
// MeshHTTPRoute, which act on outbounds by tags only, else Conf (contract effects-routing.md §6.3, policies.md §4.6).
func (out *Outbound) RouteConf(r *policy.Rules, route string) any {
	if out.LegacyService != "" && route != "" {
		tags := map[string]string{resource.TagService: out.LegacyService, policy.RuleMatchesHash: route}
		if conf := r.ForTags(tags); conf != nil {
			return conf
		}
	}
	return out.Conf(r)
}

// RouteNames are the names of the outbound's routes, some more than once.
func RouteNames(r *Routing) []string {
	if r == nil {
		return []string{catchAll()}
	}
	out := make([]string, len(r.Requests))
	for i, route := range r.Requests {
		out[i] = route.Name
	}
	return slices.Compact(out)
}

// IsDestination tells whether a name has the form that Destination gives.
func IsDestination(name string) bool {
	rest, port, ok := cutLast(name)
	if _, err := strconv.ParseUint(port, 10, 16); !ok || err != nil {
		return false
	}
	_, kind, ok := cutLast(rest)
	return ok && (kind == "msvc" || kind == "mzsvc" || kind == "extsvc")
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
