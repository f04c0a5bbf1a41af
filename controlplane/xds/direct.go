package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

const directAccess = "direct_access"

// directAccess adds a listener for every instance that the proxy may reach by its own address, and the cluster that
// connects there (contract effects-security.md §1.5). It returns whether that speaks TLS.
func (w *work) directAccess(outbounds []topology.Outbound, legacy []topology.LegacyOutbound) (bool, error) {
	if !w.env.Transparent {
		return false, nil
	}
	taken := map[string]bool{} // an outbound on the same address wins
	for _, o := range outbounds {
		taken[effect.HostPort(o.VIP, o.ListenPort)] = true
	}
	for _, o := range legacy {
		taken[effect.HostPort(o.Address, o.Port)] = true
	}
	found := false
	for _, e := range w.in.Mesh.DirectEndpoints(w.in.Dataplane) {
		place := e.String()
		if taken[place] {
			continue
		}
		found = true
		name := directAccess + "_" + place
		l := &effect.Listener{
			Listener: &listenerv3.Listener{
				Name: name, Address: effect.SocketAddress(e.Addr().String(), uint32(e.Port())), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
				BindToPort: wrapperspb.Bool(false),
			},
			Chains: []*effect.Chain{{Filters: []*effect.Filter{{Name: effect.FilterTCPProxy, Config: &tcpv3.TcpProxy{
				StatPrefix: effect.StatName(name), ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: directAccess},
			}}}}},
		}
		w.proxy.Direct = append(w.proxy.Direct, l)
		w.finish = append(w.finish, func() error { return w.b.addListener(effect.OriginDirectAccess, l) })
	}
	if !found {
		return false, nil
	}
	c := effect.NewCluster(directAccess)
	c.SetOriginalDst()
	secured := w.env.MTLSMode != ""
	if secured {
		c.TLS = effect.UpstreamTLS(w.env.Mesh, "", nil)
	}
	return secured, w.b.addCluster(effect.OriginDirectAccess, c)
}
