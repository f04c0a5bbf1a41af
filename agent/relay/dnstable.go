package relay

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// dnsListener is the listener that carries the DNS table of a mesh (contract dns.md §3.1).
const dnsListener = "kuma:dns"

const dnsFilterType = "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig"

// DNSRecord is one name of the mesh with its addresses.
type DNSRecord struct {
	// Name has no trailing dot.
	Name string
	// Addresses are as written: an IPv4-mapped IPv6 address is a AAAA record, not an A record (contract dns.md §3.2).
	Addresses []netip.Addr
	// TTL is whole seconds; 0 when the control plane gave none.
	TTL time.Duration
}

// resourceName is field 1 of every xDS message.
func resourceName(b []byte) (string, error) {
	name := ""
	err := protofield.At(b, func(v []byte) error { name = string(v); return nil }, 1)
	return name, err
}

// endpointsOf is the name under which a Cluster asks for its endpoints: eds_cluster_config.service_name, else its own.
func endpointsOf(cluster []byte, name string) string {
	service := ""
	if protofield.At(cluster, func(v []byte) error { service = string(v); return nil }, 3, 2) != nil || service == "" {
		return name
	}
	return service
}

// decodeDNS reads the table out of a Listener with the DNS filter:
// Listener.listener_filters(9).typed_config(3) → DnsFilterConfig.server_config(2).inline_dns_table(1).virtual_domains(2).
// Addresses that do not parse are left out. It is not nil when the table is empty.
func decodeDNS(listener []byte) ([]DNSRecord, error) {
	records, found := []DNSRecord{}, false
	err := protofield.At(listener, func(typed []byte) error {
		kind := ""
		var config []byte
		if err := protofield.Each(typed, func(field protowire.Number, val []byte, _ uint64) error {
			switch field {
			case 1:
				kind = string(val)
			case 2:
				config = val
			}
			return nil
		}); err != nil || kind != dnsFilterType {
			return err
		}
		found = true
		return protofield.At(config, func(domain []byte) error {
			r, err := decodeDomain(domain)
			if err == nil && r.Name != "" {
				records = append(records, r)
			}
			return err
		}, 2, 1, 2)
	}, 9, 3)
	if err != nil {
		return nil, fmt.Errorf("decode listener %s: %w", dnsListener, err)
	}
	if !found {
		return nil, fmt.Errorf("decode listener %s: it has no %s", dnsListener, dnsFilterType)
	}
	return records, nil
}

func decodeDomain(b []byte) (DNSRecord, error) {
	var r DNSRecord
	err := protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) error {
		switch field {
		case 1:
			r.Name = string(val)
		case 2:
			return protofield.At(val, func(text []byte) error {
				if a, err := netip.ParseAddr(string(text)); err == nil {
					r.Addresses = append(r.Addresses, a)
				}
				return nil
			}, 1, 1)
		case 3:
			return protofield.Each(val, func(field protowire.Number, _ []byte, num uint64) error {
				if field == 1 && num < uint64(maxTTL/time.Second) {
					r.TTL = time.Duration(num) * time.Second
				}
				return nil
			})
		}
		return nil
	})
	return r, err
}

// maxTTL is the largest TTL that DNS can carry (RFC 2181 §8).
const maxTTL = (1<<31 - 1) * time.Second
