package xds

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	datadnsv3 "github.com/envoyproxy/go-control-plane/envoy/data/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/dns_filter/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// labelWorkload is a label that later versions put on Dataplanes.
const labelWorkload = "kuma.io/workload"

// nameTTL is how long a client may remember an answer, in seconds.
const nameTTL = 30

// nameRecord is a name of the mesh with its addresses.
type nameRecord struct {
	Name string   `json:"name"`
	IPs  []string `json:"ips"`
}

// dns makes the table of names: Envoy's own for agents that take it from there, which are ours and those of Kuma 2.9, or a
// page for the agent's resolver (contract dns.md §3).
func (w *work) dns(b *builder, net *resource.Networking) error {
	if w.in.Meta.DNSPort == 0 || net.TransparentProxying == nil {
		return nil
	}
	names := hostnames(w.made.outbounds)
	addLegacyNames(names, w.made.legacy, cmp.Or(w.in.Domain, DefaultDomain))
	records := nameRecords(names, net.TransparentProxying.IPFamilyMode != "IPv4")
	switch {
	case !w.env.Paged:
		return addDNS(b, w.in.Meta.DNSPort, records)
	case w.in.Meta.Has(featureBindOutbounds): // it redirects nothing
		return nil
	}
	body, err := namesPage(records, w.in.Dataplane.Resource)
	w.made.names = &effect.Page{Name: "dns", Body: body}
	return err
}

// nameRecords sorts names. On a proxy that redirects IPv6, a name without an IPv6 address has its IPv4 address also as the
// IPv6 address that it is mapped to; on another, a name with addresses of both has that of IPv4 alone.
func nameRecords(names map[string][]string, ipv6 bool) []nameRecord {
	records := make([]nameRecord, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		four := slices.ContainsFunc(names[name], isIPv4)
		six := slices.ContainsFunc(names[name], func(a string) bool { return !isIPv4(a) })
		r := nameRecord{Name: name}
		for _, vip := range names[name] {
			if !ipv6 && four && !isIPv4(vip) {
				continue
			}
			r.IPs = append(r.IPs, vip)
			if m := mappedAddress(vip); m != "" && ipv6 && !six {
				r.IPs = append(r.IPs, m)
			}
		}
		records = append(records, r)
	}
	return records
}

func isIPv4(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Is4()
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

// addDNS adds Envoy's DNS table (contract effects-security.md §1.7).
func addDNS(b *builder, port uint32, records []nameRecord) error {
	table := &datadnsv3.DnsTable{}
	for _, r := range records {
		table.VirtualDomains = append(table.VirtualDomains, &datadnsv3.DnsTable_DnsVirtualDomain{
			Name: r.Name, AnswerTtl: durationpb.New(nameTTL * time.Second),
			Endpoint: &datadnsv3.DnsTable_DnsEndpoint{EndpointConfig: &datadnsv3.DnsTable_DnsEndpoint_AddressList{
				AddressList: &datadnsv3.DnsTable_AddressList{Address: r.IPs},
			}},
		})
	}
	address := effect.SocketAddress("127.0.0.1", port)
	address.GetSocketAddress().Protocol = corev3.SocketAddress_UDP
	return b.addListener(effect.OriginDNS, &effect.Listener{
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

// namesPage is the table as a resolver in the agent reads it, with the labels of its metrics (contract dns.md §3.2).
func namesPage(records []nameRecord, dataplane *resource.Resource) ([]byte, error) {
	labels := map[string]string{"mesh": dataplane.Mesh}
	for key, name := range map[string]string{
		labelWorkload: "kuma_workload", resource.LabelNamespace: "k8s_kuma_io_namespace", resource.LabelZone: "kuma_io_zone",
	} {
		if v, ok := dataplane.Labels[key]; ok {
			labels[name] = v
		}
	}
	return json.Marshal(struct {
		Records     []nameRecord      `json:"records"`
		TTL         int               `json:"ttl"`
		ExtraLabels map[string]string `json:"extraLabels"`
	}{records, nameTTL, labels})
}
