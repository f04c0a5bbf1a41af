package relay_test

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
)

// dnsListener makes the listener of contract dns.md §3.1 with one name.
func dnsListener(name string, addresses ...string) *anypb.Any {
	var list []byte
	for _, a := range addresses {
		list = append(list, field(1, []byte(a))...)
	}
	ttl := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 30)
	domain := append(field(1, []byte(name)), append(field(2, field(1, list)), field(3, ttl)...)...)
	config := append(field(1, []byte("kuma_dns")), field(2, field(1, field(2, domain)))...)
	typed := append(field(1, []byte("type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig")), field(2, config)...)
	filter := append(field(1, []byte("envoy.filters.udp.dns_filter")), field(3, typed)...)
	return &anypb.Any{TypeUrl: listenerType, Value: append(field(1, []byte("kuma:dns")), field(9, filter)...)}
}
