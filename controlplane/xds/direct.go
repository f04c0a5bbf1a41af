package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

const directAccess = "direct_access"

// directAccess adds a listener for every instance that the proxy may reach by its own address, and the cluster that
// connects there (contract effects-security.md §1.5).
func (w *work) directAccess() error {
	if !w.env.Transparent {
		return nil
	}
	endpoints := w.in.Mesh.DirectEndpoints(w.in.Dataplane)
	if len(endpoints) == 0 {
		return nil
	}
	taken := map[string]bool{} // an outbound on the same address wins
	for _, o := range w.made.outbounds {
		taken[effect.HostPort(o.VIP, o.ListenPort)] = true
	}
	for _, o := range w.made.legacy {
		taken[effect.HostPort(o.Address, o.Port)] = true
	}
	found := false
	for _, e := range endpoints {
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
	}
	if !found {
		return nil
	}
	c := effect.NewCluster(directAccess)
	c.SetOriginalDst()
	if w.env.MTLSMode != "" {
		c.TLS, w.secured = effect.UpstreamTLS(w.env.Mesh, "", nil), true
	}
	return w.b.addCluster(effect.OriginDirectAccess, c)
}
