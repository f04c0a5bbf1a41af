package meshtls

import (
	"slices"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// proxy has one inbound and, whatever the backend's mode, one cluster with TLS and one without.
func proxy(mode, protocol string) *effect.Proxy {
	env := effect.Env{Mesh: "m", Address: "10.0.0.1", MTLSMode: mode}
	in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol, resource.TagService: "a"}}
	p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, in)}}
	for _, mode := range []string{resource.MTLSStrict, ""} {
		service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "b" + mode}}}
		env := effect.Env{Mesh: "m", MTLSMode: mode}
		p.Backends = append(p.Backends, effect.NewBackend(env, service, &resource.MeshService{}, nil,
			resource.ServicePort{Port: 90, AppProtocol: effect.TCP}, effect.TCP))
	}
	return p
}

func rulesFor(in *resource.Inbound, conf *Conf) *policy.Rules {
	return &policy.Rules{Kind: Name, From: []policy.InboundRules{{Inbound: in, Rules: []policy.SubsetRule{{Conf: conf}}}}}
}

func TestMode(t *testing.T) {
	for _, tt := range []struct {
		backend, mode string
		want          []bool // for each chain, whether it ends mTLS
	}{
		{resource.MTLSStrict, Strict, []bool{true}},
		{resource.MTLSStrict, Permissive, []bool{false, false, true}},
		{resource.MTLSStrict, "", []bool{true}},
		{resource.MTLSPermissive, Strict, []bool{true}},
		{resource.MTLSPermissive, Permissive, []bool{false, false, true}},
		{resource.MTLSPermissive, "", []bool{false, false, true}},
		{"", Strict, []bool{false}},
		{"", Permissive, []bool{false}},
	} {
		for _, protocol := range []string{effect.HTTP, effect.TCP, effect.Kafka} {
			t.Run(tt.backend+"/"+tt.mode+"/"+protocol, func(t *testing.T) {
				p := proxy(tt.backend, protocol)
				if err := Apply(p, rulesFor(p.Inbounds[0].Resource, &Conf{Mode: tt.mode})); err != nil {
					t.Fatal(err)
				}
				var tls []bool
				for _, c := range p.Inbounds[0].Listener.Chains {
					tls = append(tls, c.TLS != nil)
				}
				if !slices.Equal(tls, tt.want) {
					t.Errorf("chains with TLS: %v, want %v", tls, tt.want)
				}
				if inspected := len(p.Inbounds[0].Listener.ListenerFilters) == 1; inspected != (len(tt.want) == 3) {
					t.Errorf("TLS inspector: %t, with %d chains", inspected, len(tt.want))
				}
			})
		}
	}
}

func TestUnknownModeIsRefused(t *testing.T) {
	p := proxy(resource.MTLSStrict, effect.TCP)
	if err := Apply(p, rulesFor(p.Inbounds[0].Resource, &Conf{Mode: "permissive"})); err == nil {
		t.Error("no error for a mode that does not exist")
	}
	if c := p.Inbounds[0].Listener.Chains; len(c) != 1 || c[0].TLS == nil {
		t.Error("the inbound is no longer strict")
	}
}

func TestParameters(t *testing.T) {
	ciphers := []string{"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"}
	for _, tt := range []struct {
		name string
		conf Conf
		want *tlsv3.TlsParameters
	}{
		{"nothing", Conf{}, nil},
		{"empty version", Conf{TLSVersion: &Version{}}, nil},
		{"ciphers alone", Conf{TLSCiphers: ciphers}, nil},
		{"ciphers with empty version", Conf{TLSVersion: &Version{}, TLSCiphers: ciphers}, nil},
		{"auto", Conf{TLSVersion: &Version{Min: VersionAuto, Max: VersionAuto}}, &tlsv3.TlsParameters{}},
		{
			"lower bound",
			Conf{TLSVersion: &Version{Min: "TLS13"}},
			&tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		},
		{
			"upper bound and ciphers in their order",
			Conf{TLSVersion: &Version{Max: "TLS12"}, TLSCiphers: ciphers},
			&tlsv3.TlsParameters{TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, CipherSuites: ciphers},
		},
		{"old", Conf{TLSVersion: &Version{Min: "TLS10", Max: "TLS11"}}, &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_0, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_1,
		}},
	} {
		for _, mode := range []string{resource.MTLSStrict, resource.MTLSPermissive} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				p := proxy(mode, effect.HTTP)
				// Whatever was there is overwritten.
				p.Backends[0].Cluster.TLS.CommonTlsContext.TlsParams = &tlsv3.TlsParameters{EcdhCurves: []string{"X25519"}}
				if err := Apply(p, rulesFor(p.Inbounds[0].Resource, &tt.conf)); err != nil {
					t.Fatal(err)
				}
				for _, c := range p.Inbounds[0].Listener.Chains {
					if c.TLS != nil && !proto.Equal(c.TLS.CommonTlsContext.TlsParams, tt.want) {
						t.Errorf("inbound has %v, want %v", c.TLS.CommonTlsContext.TlsParams, tt.want)
					}
				}
				if got := p.Backends[0].Cluster.TLS.CommonTlsContext.TlsParams; !proto.Equal(got, tt.want) {
					t.Errorf("cluster has %v, want %v", got, tt.want)
				}
				p.Guarded = true
				if err := Apply(p, rulesFor(p.Inbounds[0].Resource, &tt.conf)); err != nil {
					t.Fatal(err)
				}
				want := tt.want
				if tt.name == "lower bound" { // which Envoy's own upper bound for clients is below
					want = &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3}
				}
				if got := p.Backends[0].Cluster.TLS.CommonTlsContext.TlsParams; !proto.Equal(got, want) {
					t.Errorf("cluster of a proxy of ours has %v, want %v", got, want)
				}
				if p.Backends[1].Cluster.TLS != nil {
					t.Error("a plaintext cluster speaks TLS")
				}
			})
		}
	}
}

func TestClustersDoNotNeedTheInbounds(t *testing.T) {
	p := proxy(resource.MTLSStrict, effect.TCP)
	r := rulesFor(p.Inbounds[0].Resource, &Conf{TLSVersion: &Version{Min: "TLS13"}})
	p.Inbounds = nil // made before, with equal inputs
	if err := Apply(p, r); err != nil {
		t.Fatal(err)
	}
	if got := p.Backends[0].Cluster.TLS.CommonTlsContext.TlsParams; got.GetTlsMinimumProtocolVersion() != tlsv3.TlsParameters_TLSv1_3 {
		t.Errorf("cluster has %v", got)
	}
}

func TestNotSelected(t *testing.T) {
	p := proxy(resource.MTLSStrict, effect.TCP)
	in := p.Inbounds[0].Resource
	before := p.Inbounds[0].Listener
	for name, r := range map[string]*policy.Rules{
		"no rules":          {},
		"another inbound":   rulesFor(&resource.Inbound{Port: 81}, &Conf{Mode: Permissive}),
		"selected, no item": {From: []policy.InboundRules{{Inbound: in}}},
	} {
		if err := Apply(p, r); err != nil {
			t.Fatal(err)
		}
		if p.Inbounds[0].Listener != before {
			t.Errorf("%s: the listener is a new one", name)
		}
	}
}

// TestClusterKey: what makes different clusters must have different keys, or a proxy gets those of another.
func TestClusterKey(t *testing.T) {
	confs := []*Conf{
		{},
		{TLSVersion: &Version{Min: "TLS12"}},
		{TLSVersion: &Version{Max: "TLS12"}},
		{TLSVersion: &Version{Min: VersionAuto}},
		{TLSVersion: &Version{Min: "TLS12", Max: "TLS13"}},
		{TLSVersion: &Version{Min: "TLS12"}, TLSCiphers: []string{"ECDHE-RSA-CHACHA20-POLY1305"}},
		{TLSVersion: &Version{Min: "TLS12"}, TLSCiphers: []string{"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"}},
		{TLSVersion: &Version{Min: "TLS12"}, TLSCiphers: []string{"ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"}},
	}
	in := &resource.Inbound{}
	for i, a := range confs {
		for j, b := range confs {
			if same := effect.ClusterKey(rulesFor(in, a)) == effect.ClusterKey(rulesFor(in, b)); same != (i == j) {
				t.Errorf("keys of %d and %d are the same: %t", i, j, same)
			}
		}
	}
	// The mode is no matter of clients.
	if effect.ClusterKey(rulesFor(in, &Conf{Mode: Strict})) != effect.ClusterKey(nil) {
		t.Error("a mode alone tells clusters apart")
	}
}
