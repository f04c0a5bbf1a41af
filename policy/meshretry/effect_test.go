package meshretry

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func apply(t *testing.T, protocol string, conf *Conf) *effect.Chain {
	t.Helper()
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "b"}}}
	out := effect.NewOutbound(effect.Env{Mesh: "m"}, "241.0.0.1", 80, service, resource.ServicePort{Port: 80, AppProtocol: protocol})
	r := &policy.Rules{ToResources: []policy.ResourceRule{{Target: service.Key, Conf: []any{conf}}}}
	if err := Apply(&effect.Proxy{Outbounds: []*effect.Outbound{out}}, r); err != nil {
		t.Fatal(err)
	}
	return out.Listener.Chains[0]
}

func retries(c *effect.Chain) *routev3.RetryPolicy {
	return c.HCM().GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().RetryPolicy
}

func TestRetryOn(t *testing.T) {
	for _, tt := range []struct {
		name     string
		on       []string
		want     string
		codes    int
		matchers int
	}{
		{"nothing named", nil, defaultHTTPRetryOn, 0, 0},
		{"names in their order", []string{"Reset", "5xx"}, "reset,5xx", 0, 0},
		{"methods are no names", []string{"HttpMethodGet"}, defaultHTTPRetryOn, 0, 1},
		{"codes need their word", []string{"503"}, defaultHTTPRetryOn + "," + retriableCodes, 1, 0},
		{"all together", []string{"503", "ConnectFailure", "HttpMethodPut", "429"}, "connect-failure," + retriableCodes, 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rp := retries(apply(t, effect.HTTP, &Conf{HTTP: &HTTP{RetryOn: tt.on}}))
			if rp.RetryOn != tt.want || len(rp.RetriableStatusCodes) != tt.codes || len(rp.RetriableRequestHeaders) != tt.matchers {
				t.Errorf("got %v", rp)
			}
			effecttest.Check(t, rp)
		})
	}
}

func TestOnlyTheProtocolOfThePort(t *testing.T) {
	all := &Conf{
		TCP: &TCP{MaxConnectAttempt: proto.Uint32(7)}, HTTP: &HTTP{NumRetries: proto.Uint32(2)}, GRPC: &GRPC{NumRetries: proto.Uint32(3)},
	}
	if n := retries(apply(t, effect.HTTP, all)).NumRetries.Value; n != 2 {
		t.Errorf("http retries %d times", n)
	}
	if n := retries(apply(t, effect.GRPC, all)).NumRetries.Value; n != 3 {
		t.Errorf("grpc retries %d times", n)
	}
	if rp := retries(apply(t, effect.HTTP2, all)); rp != nil {
		t.Errorf("http2 retries %v", rp)
	}
	if n := apply(t, effect.TCP, all).TCPProxy().MaxConnectAttempts.GetValue(); n != 7 {
		t.Errorf("tcp connects %d times", n)
	}
	if n := apply(t, effect.Kafka, all).TCPProxy().MaxConnectAttempts; n != nil {
		t.Errorf("kafka connects %v times", n)
	}
	if rp := retries(apply(t, effect.HTTP, &Conf{HTTP: &HTTP{NumRetries: proto.Uint32(0)}})); rp != nil {
		t.Errorf("zero retries are %v", rp)
	}
	if rp := retries(apply(t, effect.HTTP, &Conf{TCP: all.TCP})); rp != nil {
		t.Errorf("http retries by a conf for tcp: %v", rp)
	}
}

func TestHostSelection(t *testing.T) {
	rp := retries(apply(t, effect.HTTP, &Conf{HTTP: &HTTP{HostSelection: []HostPredicate{
		{Predicate: OmitPreviousHosts},
		{Predicate: OmitHostsWithTags, Tags: map[string]string{"a": "b"}},
		{Predicate: OmitPreviousPriorities, UpdateFrequency: 2},
	}}}))
	if len(rp.RetryHostPredicate) != 2 || rp.RetryPriority == nil {
		t.Errorf("got %v", rp)
	}
	effecttest.Check(t, rp)
}

// TestHeaders: what Envoy would refuse must not take the listener with it.
func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   HeaderMatch
		want string // empty for no retries
	}{
		{"exact", HeaderMatch{Name: "x", Value: "1"}, `name:"x" string_match:{exact:"1"}`},
		{"prefix", HeaderMatch{Type: MatchPrefix, Name: "x", Value: "1"}, `name:"x" string_match:{prefix:"1"}`},
		{"prefix of every value", HeaderMatch{Type: MatchPrefix, Name: "x"}, `name:"x" present_match:true`},
		{"absent", HeaderMatch{Type: MatchAbsent, Name: "x"}, `name:"x" present_match:false`},
		{"expression", HeaderMatch{Type: MatchRegularExpression, Name: "x", Value: "a.*"}, `name:"x" string_match:{safe_regex:{regex:"a.*"}}`},
		{"no expression", HeaderMatch{Type: MatchRegularExpression, Name: "x", Value: "(a"}, ""},
		{"empty expression", HeaderMatch{Type: MatchRegularExpression, Name: "x"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, conf := range []*HTTP{{RetriableRequestHeaders: []HeaderMatch{tt.in}}, {RetriableResponseHeaders: []HeaderMatch{tt.in}}} {
				rp := retries(apply(t, effect.HTTP, &Conf{HTTP: conf}))
				got := ""
				for _, m := range append(rp.GetRetriableRequestHeaders(), rp.GetRetriableHeaders()...) {
					got += strings.Join(strings.Fields(m.String()), " ")
				}
				if got != tt.want || rp.ValidateAll() != nil || (rp == nil) != (tt.want == "") {
					t.Errorf("got %s (%v), want %s", got, rp.ValidateAll(), tt.want)
				}
			}
		})
	}
}
