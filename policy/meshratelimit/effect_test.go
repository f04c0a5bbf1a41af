package meshratelimit

import (
	"strings"
	"testing"
	"time"

	httplimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	networklimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func apply(t *testing.T, protocol, mode string, conf *Conf) (*effect.Proxy, *effect.Inbound) {
	t.Helper()
	in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol}}
	env := effect.Env{Mesh: "m", Address: "10.0.0.1", MTLSMode: mode}
	p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, in)}}
	rules := &policy.Rules{From: []policy.InboundRules{{Inbound: in, Rules: []policy.SubsetRule{{Conf: conf}}}}}
	if err := Apply(p, rules); err != nil {
		t.Fatal(err)
	}
	return p, p.Inbounds[0]
}

// names are those of the network and HTTP filters of a chain.
func names(c *effect.Chain) string {
	var out []string
	for _, f := range c.Filters {
		out = append(out, f.Name[strings.LastIndexByte(f.Name, '.')+1:])
	}
	if h := c.HCM(); h != nil {
		for _, f := range h.Filters {
			out = append(out, f.Name[strings.LastIndexByte(f.Name, '.')+1:])
		}
	}
	return strings.Join(out, " ")
}

func rate(n uint32) *Rate { return &Rate{Num: n, Interval: resource.Duration{Duration: time.Second}} }

func TestWhereLimitsGo(t *testing.T) {
	both := &Conf{Local: &Local{HTTP: &HTTP{RequestRate: rate(1)}, TCP: &TCP{ConnectionRate: rate(2)}}}
	for _, tt := range []struct {
		name, protocol, mode string
		conf                 *Conf
		want                 []string
	}{
		{"http", effect.HTTP, "", both, []string{"LocalRateLimit http_connection_manager local_ratelimit router"}},
		{"grpc", effect.GRPC, "", both, []string{"LocalRateLimit http_connection_manager grpc_stats local_ratelimit router"}},
		{"tcp", effect.TCP, "", both, []string{"LocalRateLimit tcp_proxy"}},
		{"kafka", effect.Kafka, "", both, []string{"LocalRateLimit kafka_broker tcp_proxy"}},
		{"every chain", effect.TCP, resource.MTLSPermissive, both, []string{"LocalRateLimit tcp_proxy", "LocalRateLimit tcp_proxy", "LocalRateLimit tcp_proxy"}},
		{"disabled", effect.HTTP, "", &Conf{Local: &Local{
			HTTP: &HTTP{Disabled: proto.Bool(true), RequestRate: rate(1)}, TCP: &TCP{Disabled: proto.Bool(true), ConnectionRate: rate(1)},
		}}, []string{"http_connection_manager router"}},
		{"not disabled", effect.HTTP, "", &Conf{Local: &Local{HTTP: &HTTP{Disabled: proto.Bool(false), RequestRate: rate(1)}}}, []string{"http_connection_manager local_ratelimit router"}},
		{"without a rate", effect.HTTP, "", &Conf{Local: &Local{HTTP: &HTTP{OnRateLimit: &OnRateLimit{}}, TCP: &TCP{}}}, []string{"http_connection_manager router"}},
		{"nothing", effect.HTTP, "", &Conf{}, []string{"http_connection_manager router"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, in := apply(t, tt.protocol, tt.mode, tt.conf)
			var got []string
			for _, c := range in.Listener.Chains {
				got = append(got, names(c))
			}
			if strings.Join(got, "; ") != strings.Join(tt.want, "; ") {
				t.Errorf("filters are %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	_, in := apply(t, effect.HTTP, "", &Conf{Local: &Local{
		TCP: &TCP{ConnectionRate: rate(9)},
		HTTP: &HTTP{RequestRate: rate(4), OnRateLimit: &OnRateLimit{Status: proto.Uint32(503), Headers: &policy.HeaderModifier{
			Set: []policy.HeaderValue{{Name: "s", Value: "1,2"}}, Add: []policy.HeaderValue{{Name: "a", Value: "3,4"}},
		}}},
	}})
	chain := in.Listener.Chains[0]
	if b := chain.Filters[0].Config.(*networklimitv3.LocalRateLimit).TokenBucket; b.MaxTokens != 9 || b.TokensPerFill.Value != 9 || b.FillInterval.Seconds != 1 {
		t.Errorf("connections are limited by %v", b)
	}
	var limit httplimitv3.LocalRateLimit
	route := chain.HCM().GetRouteConfig().VirtualHosts[0].Routes[0]
	if err := route.TypedPerFilterConfig["envoy.filters.http.local_ratelimit"].UnmarshalTo(&limit); err != nil {
		t.Fatal(err)
	}
	effecttest.Check(t, &limit)
	var headers []string
	for _, h := range limit.ResponseHeadersToAdd {
		headers = append(headers, h.Header.Key+"="+h.Header.Value+" "+h.AppendAction.String())
	}
	want := "a=3,4 APPEND_IF_EXISTS_OR_ADD; s=1 OVERWRITE_IF_EXISTS_OR_ADD; s=2 OVERWRITE_IF_EXISTS_OR_ADD"
	if got := strings.Join(headers, "; "); got != want {
		t.Errorf("headers are %s, want %s", got, want)
	}
	if limit.TokenBucket.MaxTokens != 4 || limit.Status.Code != 503 || limit.FilterEnabled.DefaultValue.Numerator != 100 || limit.FilterEnforced.DefaultValue.Numerator != 100 {
		t.Errorf("requests are limited by %v", &limit)
	}
}

// TestStatus: zero is the default, and what Envoy does not know is told.
func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		status uint32
		want   int32
		warn   bool
	}{{0, 0, false}, {429, 429, false}, {420, 420, true}, {700, 700, true}} {
		p, in := apply(t, effect.HTTP, "", &Conf{Local: &Local{HTTP: &HTTP{RequestRate: rate(1), OnRateLimit: &OnRateLimit{Status: &tt.status}}}})
		var limit httplimitv3.LocalRateLimit
		if err := in.Listener.Chains[0].HCM().GetRouteConfig().VirtualHosts[0].Routes[0].TypedPerFilterConfig["envoy.filters.http.local_ratelimit"].UnmarshalTo(&limit); err != nil {
			t.Fatal(err)
		}
		if got := int32(limit.GetStatus().GetCode()); got != tt.want {
			t.Errorf("status %d gives %d", tt.status, got)
		}
		if (len(p.Warnings()) > 0) != tt.warn || (limit.ValidateAll() != nil) != tt.warn {
			t.Errorf("status %d: warnings are %q, Envoy says %v", tt.status, p.Warnings(), limit.ValidateAll())
		}
	}
}
