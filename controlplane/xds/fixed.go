package xds

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	datadnsv3 "github.com/envoyproxy/go-control-plane/envoy/data/dns/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/dns_filter/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

type fixedKey struct {
	inbound, outbound uint32
	ipv6, open        bool
}

type fixedPart struct{ listeners, clusters []*Resource }

// addPassthrough adds what catches redirected traffic that no other listener wants (contract effects-security.md §1.4).
func (g *Generator) addPassthrough(b *builder, mesh *resource.Mesh, net *resource.Networking) error {
	tp := net.TransparentProxying
	if tp == nil || tp.RedirectPortOutbound == 0 {
		return nil
	}
	key := fixedKey{tp.RedirectPortInbound, tp.RedirectPortOutbound, tp.IPFamilyMode != "IPv4", mesh.Passthrough()}
	part, err := g.fixed.get(key, func() (*fixedPart, error) { return passthrough(key) })
	if err != nil {
		return err
	}
	for _, r := range part.listeners {
		b.add(TypeListener, r)
	}
	for _, r := range part.clusters {
		b.add(TypeCluster, r)
	}
	return nil
}

func passthrough(key fixedKey) (*fixedPart, error) {
	b := &builder{}
	for _, f := range []struct {
		family, any string
		ipv6        bool
	}{{"ipv4", "0.0.0.0", false}, {"ipv6", "::", true}} {
		if f.ipv6 && !key.ipv6 {
			continue
		}
		for _, d := range []struct {
			name      string
			port      uint32
			direction corev3.TrafficDirection
			cluster   bool
		}{
			{"inbound:passthrough:" + f.family, key.inbound, corev3.TrafficDirection_INBOUND, true},
			{"outbound:passthrough:" + f.family, key.outbound, corev3.TrafficDirection_OUTBOUND, key.open},
		} {
			l := &effect.Listener{
				Listener: &listenerv3.Listener{
					Name: d.name, Address: effect.SocketAddress(f.any, d.port), TrafficDirection: d.direction,
					UseOriginalDst: wrapperspb.Bool(true),
				},
				Chains: []*effect.Chain{{Filters: []*effect.Filter{{Name: effect.FilterTCPProxy, Config: &tcpv3.TcpProxy{
					StatPrefix: effect.StatName(d.name), ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: d.name},
				}}}}},
			}
			c := effect.NewCluster(d.name)
			c.SetOriginalDst()
			if d.direction == corev3.TrafficDirection_INBOUND {
				l.EnableReusePort = wrapperspb.Bool(false)
				c.BindInboundSource(f.ipv6)
			}
			if err := addListener(b, l); err != nil {
				return nil, err
			}
			if d.cluster {
				if err := addCluster(b, c); err != nil {
					return nil, err
				}
			}
		}
	}
	out := &fixedPart{}
	for _, r := range b.types[TypeListener] {
		out.listeners = append(out.listeners, r)
	}
	for _, r := range b.types[TypeCluster] {
		out.clusters = append(out.clusters, r)
	}
	return out, nil
}

func addListener(b *builder, l *effect.Listener) error {
	m, err := l.Build()
	if err != nil {
		return err
	}
	return b.addMessage(TypeListener, m.Name, m)
}

func addCluster(b *builder, c *effect.Cluster) error {
	m, err := c.Build()
	if err != nil {
		return err
	}
	return b.addMessage(TypeCluster, m.Name, m)
}

func staticCluster(name, address string, port uint32) *effect.Cluster {
	c := effect.NewCluster(name)
	c.ConnectTimeout = durationpb.New(5 * time.Second)
	c.SetStatic(address, port)
	c.SetType(clusterv3.Cluster_STATIC)
	return c
}

// addDNS adds Envoy's DNS table of the names that the proxy reaches (contract effects-security.md §1.7).
func addDNS(b *builder, meta Meta, net *resource.Networking, outbounds []topology.Outbound) error {
	if meta.DNSPort == 0 || net.TransparentProxying == nil {
		return nil
	}
	mapped := net.TransparentProxying.IPFamilyMode != "IPv4"
	names := map[string][]string{}
	for _, o := range outbounds {
		for _, a := range o.Service.Status.Addresses {
			if a.Hostname != "" && !slices.Contains(names[a.Hostname], o.VIP) {
				names[a.Hostname] = append(names[a.Hostname], o.VIP)
			}
		}
	}
	table := &datadnsv3.DnsTable{}
	for name, vips := range names {
		var addresses []string
		for _, vip := range vips {
			addresses = append(addresses, vip)
			if m := mappedAddress(vip); m != "" && mapped {
				addresses = append(addresses, m)
			}
		}
		table.VirtualDomains = append(table.VirtualDomains, &datadnsv3.DnsTable_DnsVirtualDomain{
			Name: name, AnswerTtl: durationpb.New(30 * time.Second),
			Endpoint: &datadnsv3.DnsTable_DnsEndpoint{EndpointConfig: &datadnsv3.DnsTable_DnsEndpoint_AddressList{
				AddressList: &datadnsv3.DnsTable_AddressList{Address: addresses},
			}},
		})
	}
	slices.SortFunc(table.VirtualDomains, func(x, y *datadnsv3.DnsTable_DnsVirtualDomain) int {
		return cmp.Compare(x.Name, y.Name)
	})
	address := effect.SocketAddress("127.0.0.1", meta.DNSPort)
	address.GetSocketAddress().Protocol = corev3.SocketAddress_UDP
	return addListener(b, &effect.Listener{
		Listener: &listenerv3.Listener{
			Name: "kuma:dns", Address: address, TrafficDirection: corev3.TrafficDirection_INBOUND,
			EnableReusePort: wrapperspb.Bool(true),
		},
		ListenerFilters: []*effect.Filter{{Name: effect.FilterDNS, Config: &dnsv3.DnsFilterConfig{
			StatPrefix: "kuma_dns",
			ServerConfig: &dnsv3.DnsFilterConfig_ServerContextConfig{
				ConfigSource: &dnsv3.DnsFilterConfig_ServerContextConfig_InlineDnsTable{InlineDnsTable: table},
			},
		}}},
	})
}

// mappedAddress is the IPv4-mapped IPv6 form in hexadecimal, empty for IPv6 addresses.
func mappedAddress(vip string) string {
	ip, err := netip.ParseAddr(vip)
	if err != nil || !ip.Is4() {
		return ""
	}
	a := ip.As4()
	return fmt.Sprintf("::ffff:%x:%x", uint16(a[0])<<8|uint16(a[1]), uint16(a[2])<<8|uint16(a[3]))
}

// addSecrets adds what TLS contexts refer to. Without an identity the proxy has its own.
func addSecrets(b *builder, mesh string, bundle []byte, id *KeyPair) error {
	trust := effect.TrustSecret(mesh)
	err := b.addMessage(TypeSecret, trust, &tlsv3.Secret{Name: trust, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(bundle)},
	}})
	if err != nil || id == nil {
		return err
	}
	name := effect.IdentitySecret(mesh)
	return b.addMessage(TypeSecret, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(id.Cert), PrivateKey: inline(id.Key)},
	}})
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
