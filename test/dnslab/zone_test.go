//go:build linux

package dnslab

import (
	"crypto"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

const origin = "signed.example."

// zoneText has large, odd and unknown records.
const zoneText = `
@ 300 IN SOA ns hostmaster 1 3600 600 86400 300
@ 300 IN NS ns
ns 300 IN A 10.99.0.1
www 300 IN A 192.0.2.10
www 300 IN A 192.0.2.11
www 300 IN AAAA 2001:db8::10
large 300 IN TXT %s
web 300 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.10
svc 300 IN SVCB 16 foo.example.org. alpn=bar port=8004
enum 300 IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
odd 300 IN TYPE65280 \# 5 0102030405
srv 300 IN SRV 1 2 443 www
caa 300 IN CAA 0 issue "ca.example.net"
mail 300 IN MX 10 www
alias 300 IN CNAME www
`

// questions are those of the zone, and of what it does not have.
var questions = []struct {
	name  string
	qtype uint16
}{
	{"large", mdns.TypeTXT},
	{"@", mdns.TypeDNSKEY},
	{"@", mdns.TypeSOA},
	{"@", mdns.TypeNS},
	{"web", mdns.TypeHTTPS},
	{"svc", mdns.TypeSVCB},
	{"enum", mdns.TypeNAPTR},
	{"odd", 65280},
	{"www", mdns.TypeA},
	{"www", mdns.TypeAAAA},
	{"www", mdns.TypeTXT},
	{"srv", mdns.TypeSRV},
	{"caa", mdns.TypeCAA},
	{"mail", mdns.TypeMX},
	{"alias", mdns.TypeA},
	{"nothing", mdns.TypeA},
	{"WwW", mdns.TypeA},
}

func absolute(name string) string {
	if name == "@" {
		return origin
	}
	return name + "." + origin
}

// signedZone returns the zone with keys, signatures and denials, and the key to trust.
func signedZone(t testing.TB) (text string, key *mdns.DNSKEY) {
	t.Helper()
	var long []string
	for i := range 12 {
		long = append(long, fmt.Sprintf("%q", strings.Repeat(string(rune('a'+i)), 250)))
	}
	var records []mdns.RR
	parser := mdns.NewZoneParser(strings.NewReader(fmt.Sprintf(zoneText, strings.Join(long, " "))), origin, "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	key = &mdns.DNSKEY{Hdr: header(origin, mdns.TypeDNSKEY), Flags: 257, Protocol: 3, Algorithm: mdns.ECDSAP256SHA256}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	records = append(records, key)
	types := map[string][]uint16{}
	for _, rr := range records {
		h := rr.Header()
		if !slices.Contains(types[h.Name], h.Rrtype) {
			types[h.Name] = append(types[h.Name], h.Rrtype)
		}
	}
	// Canonical order: the zone itself, then what is one label below it.
	names := slices.SortedFunc(maps.Keys(types), func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, origin), strings.TrimSuffix(b, origin))
	})
	for i, name := range names {
		all := append(slices.Clone(types[name]), mdns.TypeRRSIG, mdns.TypeNSEC)
		slices.Sort(all)
		records = append(records, &mdns.NSEC{Hdr: header(name, mdns.TypeNSEC), NextDomain: names[(i+1)%len(names)], TypeBitMap: all})
		types[name] = append(types[name], mdns.TypeNSEC)
	}
	var out strings.Builder
	for _, rr := range records {
		fmt.Fprintln(&out, rr)
	}
	for name, list := range types {
		for _, typ := range list {
			set := slices.DeleteFunc(slices.Clone(records), func(rr mdns.RR) bool { return rr.Header().Name != name || rr.Header().Rrtype != typ })
			sig := &mdns.RRSIG{
				Hdr: header(name, mdns.TypeRRSIG), Algorithm: key.Algorithm, SignerName: origin, KeyTag: key.KeyTag(),
				Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(24 * time.Hour).Unix()),
			}
			if err := sig.Sign(private.(crypto.Signer), set); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, sig)
		}
	}
	return out.String(), key
}

func header(name string, typ uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: typ, Class: mdns.ClassINET, Ttl: 300}
}
