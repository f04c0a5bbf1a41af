package meshfaultinjection

import (
	"regexp"
	"strings"
	"testing"
	"time"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestPercent(t *testing.T) {
	for in, want := range map[resource.IntOrString]string{
		{Int: 12}:     "12/HUNDRED",
		{Str: "7.0"}:  "7/HUNDRED",
		{Str: "0.01"}: "1/TEN_THOUSAND",
		{Str: "x"}:    "0/HUNDRED",
	} {
		p := percent(in)
		if got := (resource.IntOrString{Int: p.Numerator}).String() + "/" + p.Denominator.String(); got != want {
			t.Errorf("%s%% is %s, want %s", in, got, want)
		}
	}
}

func is(k, v string) policy.Matcher    { return policy.Matcher{Key: k, Value: v} }
func isNot(k, v string) policy.Matcher { return policy.Matcher{Key: k, Value: v, Not: true} }

// matches decides as Envoy does: an expression covers the whole value, and a header that is missing matches only inverted.
func matches(t *testing.T, matchers []policy.Matcher, header string) bool {
	t.Helper()
	for _, h := range clients(matchers) {
		r, err := regexp.Compile("^(?:" + h.GetStringMatch().GetSafeRegex().Regex + ")$")
		if err != nil {
			t.Fatal(err)
		}
		if r.MatchString(header) == h.InvertMatch {
			return false
		}
	}
	return true
}

func TestClients(t *testing.T) {
	const header = "&app=web&&kuma.io/service=edge,front&&version=1.2&"
	for _, tt := range []struct {
		name     string
		matchers []policy.Matcher
		want     bool
		// first is the first expression.
		first string
	}{
		{"everybody", nil, true, ""},
		{"a service", []policy.Matcher{is("kuma.io/service", "edge")}, true, ".*&kuma.io/service=[^&]*edge[,&].*"},
		{"its other service", []policy.Matcher{is("kuma.io/service", "front")}, true, ".*&kuma.io/service=[^&]*front[,&].*"},
		{"another service", []policy.Matcher{is("kuma.io/service", "edg")}, false, ".*&kuma.io/service=[^&]*edg[,&].*"},
		{"one that ends alike, as in Kuma", []policy.Matcher{is("kuma.io/service", "ront")}, true, ".*&kuma.io/service=[^&]*ront[,&].*"},
		{"dots", []policy.Matcher{is("version", "1.2")}, true, `.*&version=[^&]*1\.2[,&].*`},
		{"keys sorted", []policy.Matcher{is("version", "1.2"), is("app", "web")}, true, `.*&app=[^&]*web[,&].*&version=[^&]*1\.2[,&].*`},
		{"any value", []policy.Matcher{is("app", "*")}, true, ".*&app=.*"},
		{"no such tag", []policy.Matcher{is("team", "*")}, false, ".*&team=.*"},
		{"not a service", []policy.Matcher{isNot("kuma.io/service", "edge")}, false, ".*&kuma.io/service=[^&]*edge[,&].*"},
		{"one and not the other", []policy.Matcher{is("app", "web"), isNot("version", "3")}, true, ".*&app=[^&]*web[,&].*"},
		{"not both", []policy.Matcher{isNot("app", "web"), isNot("version", "3")}, true, ".*&app=[^&]*web[,&].*&version=[^&]*3[,&].*"},
		{"no expression of the user", []policy.Matcher{is("app", "(")}, false, `.*&app=[^&]*\([,&].*`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := matches(t, tt.matchers, header); got != tt.want {
				t.Errorf("client matches: %v, want %v", got, tt.want)
			}
			if hs := clients(tt.matchers); len(hs) > 0 && hs[0].GetStringMatch().GetSafeRegex().Regex != tt.first {
				t.Errorf("expression is %s, want %s", hs[0].GetStringMatch().GetSafeRegex().Regex, tt.first)
			}
		})
	}
}

func TestApply(t *testing.T) {
	fifty := resource.IntOrString{Int: 50}
	conf := &Conf{HTTP: []Fault{
		{Abort: &Abort{HTTPStatus: 503, Percentage: fifty}},
		{Delay: &Delay{Value: resource.Duration{Duration: time.Second}, Percentage: fifty}, ResponseBandwidth: &Bandwidth{Limit: "2 Mbps", Percentage: fifty}},
	}}
	special := &Conf{HTTP: []Fault{{}}}
	for protocol, want := range map[string]int{effect.HTTP: 3, effect.HTTP2: 3, effect.GRPC: 0, effect.TCP: 0, effect.Kafka: 0} {
		in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: protocol}}
		env := effect.Env{Mesh: "m", Address: "10.0.0.1", MTLSMode: resource.MTLSPermissive}
		p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{effect.NewInbound(env, in)}}
		rules := []policy.SubsetRule{{Conf: special, Matchers: []policy.Matcher{is("a", "b")}}, {Conf: conf, Matchers: []policy.Matcher{isNot("a", "b")}}}
		if err := Apply(p, &policy.Rules{From: []policy.InboundRules{{Inbound: in, Rules: rules}}}); err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Inbounds[0].Listener.Chains {
			var faults []*faultv3.HTTPFault
			if h := c.HCM(); h != nil {
				for _, f := range h.Filters {
					if fault, ok := f.Config.(*faultv3.HTTPFault); ok {
						faults = append(faults, fault)
						effecttest.Check(t, fault)
					}
				}
				if h.Filters[len(h.Filters)-1].Name != effect.FilterRouter {
					t.Errorf("%s: the router is not last", protocol)
				}
			}
			if len(faults) != want {
				t.Fatalf("%s: there are %d faults, want %d", protocol, len(faults), want)
			}
			if want == 0 {
				continue
			}
			// Rules and their lists keep their order.
			if faults[0].Abort != nil || faults[0].Headers[0].InvertMatch || faults[1].Abort.GetHttpStatus() != 503 || !faults[1].Headers[0].InvertMatch ||
				faults[2].Delay.GetFixedDelay().Seconds != 1 || faults[2].ResponseRateLimit.GetFixedLimit().LimitKbps != 2000 {
				t.Errorf("%s: faults are %v", protocol, faults)
			}
		}
		if len(p.Warnings()) > 0 {
			t.Errorf("%s: warnings %q", protocol, p.Warnings())
		}
	}
}

// TestImpossible: Envoy refuses a listener with what passes validation, so the rest must go on without it.
func TestImpossible(t *testing.T) {
	all := resource.IntOrString{Int: 100}
	for _, tt := range []struct {
		name  string
		fault Fault
		warn  string
		valid bool
	}{
		{"informational status", Fault{Abort: &Abort{HTTPStatus: 100, Percentage: all}}, "http[0].abort is left out", true},
		{"no bandwidth", Fault{ResponseBandwidth: &Bandwidth{Limit: "0kbps", Percentage: all}}, "http[0].responseBandwidth is left out", true},
		{"not a bandwidth", Fault{ResponseBandwidth: &Bandwidth{Limit: "kbps", Percentage: all}}, "http[0].responseBandwidth is left out", true},
		{"no delay", Fault{Delay: &Delay{Percentage: all}}, "http[0].delay.value is zero", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &resource.Inbound{Port: 80, Tags: map[string]string{resource.TagProtocol: effect.HTTP}}
			p := &effect.Proxy{}
			rules := []policy.SubsetRule{{Conf: &Conf{HTTP: []Fault{tt.fault}}}}
			if err := Apply(p, &policy.Rules{From: []policy.InboundRules{{Inbound: in, Rules: rules}}}); err != nil {
				t.Fatal(err)
			}
			if len(p.Warnings()) != 1 || !strings.Contains(p.Warnings()[0], tt.warn) {
				t.Errorf("warnings are %q, want %q", p.Warnings(), tt.warn)
			}
			if err := tt.fault.envoy().ValidateAll(); (err == nil) != tt.valid {
				t.Errorf("Envoy would say: %v", err)
			}
		})
	}
}
