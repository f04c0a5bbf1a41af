package relay

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// The listener that a Kuma 2.9.13 control plane sent (contract appendix_xds.json), in its binary form.
func TestCapturedTable(t *testing.T) {
	b, err := os.ReadFile("testdata/kuma-dns.json")
	if err != nil {
		t.Fatal(err)
	}
	var l struct {
		Name            string
		ListenerFilters []struct {
			Name        string
			TypedConfig struct {
				Type         string `json:"@type"`
				ServerConfig struct {
					InlineDNSTable struct {
						VirtualDomains []struct {
							Name     string
							Endpoint struct {
								AddressList struct{ Address []string } `json:"address_list"`
							}
						} `json:"virtual_domains"`
					} `json:"inline_dns_table"`
				} `json:"server_config"`
			} `json:"typed_config"`
		} `json:"listener_filters"`
	}
	if err := json.Unmarshal(b, &l); err != nil {
		t.Fatal(err)
	}
	config := l.ListenerFilters[0].TypedConfig
	ttl := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 30)
	var table []byte
	for _, d := range config.ServerConfig.InlineDNSTable.VirtualDomains {
		domain := appendText(nil, 1, d.Name)
		domain = appendBytes(domain, 2, appendBytes(nil, 1, appendTexts(nil, 1, d.Endpoint.AddressList.Address)))
		table = appendBytes(table, 2, appendBytes(domain, 3, ttl))
	}
	typed := appendBytes(appendText(nil, 1, config.Type), 2, appendBytes(nil, 2, appendBytes(nil, 1, table)))
	listener := appendBytes(appendText(nil, 1, l.Name), 9, appendBytes(appendText(nil, 1, l.ListenerFilters[0].Name), 3, typed))

	records, err := decodeDNS(listener)
	if err != nil || len(records) != 6 {
		t.Fatalf("%d records, %v; want 6", len(records), err)
	}
	if got, want := fmt.Sprint(records[1]), "{backend.svc.mesh.local [241.0.0.1 ::ffff:241.0.0.1] 30s}"; got != want {
		t.Errorf("second record %s, want %s", got, want)
	}
	if a := records[1].Addresses[1]; !a.Is4In6() {
		t.Errorf("%s must stay an IPv6 address", a)
	}
}
