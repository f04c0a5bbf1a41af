package resource

import (
	"slices"
	"testing"
)

func TestExternalService(t *testing.T) {
	doc := func(rest string) string { return "{type: ExternalService, mesh: m, name: e, " + rest + "}" }
	const tags = "tags: {kuma.io/service: e}, "
	for _, tt := range []struct {
		name, doc string
		want      []string
	}{
		{"complete", doc("tags: {kuma.io/service: e, kuma.io/protocol: http2, version: '1'}, networking: {address: 'e.example.com:443', tls: {enabled: true, " +
			"caCert: {secret: ca}, clientCert: {inline: QQ==}, clientKey: {inlineString: k}, allowRenegotiation: true, serverName: x}}"), nil},
		{"IPv6", doc(tags + "networking: {address: '[2001:db8::1]:80'}"), nil},
		{"nothing", doc("tags: {}"), []string{"networking: should have networking", `tags["kuma.io/service"]: tag has to exist`}},
		{"no address", doc(tags + "networking: {}"), []string{"networking.address: address can't be empty"}},
		{"no port", doc(tags + "networking: {address: e.example.com}"), []string{"networking.address: unable to parse address, want host:port"}},
		{"bad host and port", doc(tags + "networking: {address: 'a_b:70000'}"), []string{
			"networking.address: " + badAddress, "networking.address: port has to be in range 1 to 65535",
		}},
		{"key alone", doc(tags + "networking: {address: 'e:1', tls: {clientKey: {secret: k}}}"), []string{"networking.tls.clientCert: must be defined when clientKey is defined"}},
		{"certificate alone", doc(tags + "networking: {address: 'e:1', tls: {clientCert: {secret: k}}}"), []string{"networking.tls.clientKey: must be defined when clientCert is defined"}},
		{"file of the control plane", doc(tags + "networking: {address: 'e:1', tls: {caCert: {file: /etc/shadow}, serverName: ''}}"), []string{
			"networking.tls.caCert: exactly one of secret, inline and inlineString must be defined", "networking.tls.serverName: cannot be empty",
		}},
		{"protocol", doc("tags: {kuma.io/service: e, kuma.io/protocol: smtp}, networking: {address: 'e:1'}"), []string{
			`tags["kuma.io/protocol"]: tag "kuma.io/protocol" has an invalid value "smtp". Allowed values: grpc, http, http2, kafka, tcp`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewRegistry(Core()...).DecodeYAML([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range Validate(r) {
				got = append(got, v.Field+": "+v.Reason)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	s := &ExternalService{Networking: &ExternalNetworking{Address: "[2001:db8::1]:80"}}
	if host, port := s.HostPort(); host != "2001:db8::1" || port != 80 {
		t.Errorf("got %s, %d", host, port)
	}
}
