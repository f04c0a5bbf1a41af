package meshfaultinjection

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

const filterFault = "envoy.filters.http.fault"

// Apply puts a fault filter for every fault of every rule into the chains of HTTP inbounds (contract effects-security.md
// §9). Who a client is it tells about itself in the header x-kuma-tags, which its proxy writes. An inbound that a
// FaultInjection is for has only that.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, f := range r.From {
		if !faulty(f.Inbound.Tags[resource.TagProtocol]) {
			continue
		}
		for _, rule := range f.Rules {
			if conf, ok := rule.Conf.(*Conf); ok {
				conf.warn(p, f.Inbound.Port)
			}
		}
	}
	for _, in := range p.Inbounds {
		if !faulty(in.Protocol) || in.Older[resource.KindFaultInjection] {
			continue
		}
		rules, _ := r.ForInbound(in.Resource)
		for _, c := range in.Listener.Chains {
			if h := c.HCM(); h != nil {
				h.BeforeRouter(filters(rules)...)
			}
		}
	}
	return nil
}

// faulty tells whether there are faults for a protocol.
func faulty(protocol string) bool { return protocol == effect.HTTP || protocol == effect.HTTP2 }

func filters(rules []policy.SubsetRule) []*effect.Filter {
	var out []*effect.Filter
	for _, rule := range rules {
		conf, ok := rule.Conf.(*Conf)
		if !ok {
			continue
		}
		headers := clients(rule.Matchers)
		for i := range conf.HTTP {
			fault := conf.HTTP[i].envoy()
			fault.Headers = headers
			out = append(out, &effect.Filter{Name: filterFault, Config: fault})
		}
	}
	return out
}

// warn tells of what Envoy refuses the listener for. A delay of nothing is handed on all the same, as Kuma does.
func (c *Conf) warn(p *effect.Proxy, port uint32) {
	for i := range c.HTTP {
		t := &c.HTTP[i]
		if t.Abort != nil && !t.Abort.possible() {
			p.Warn("%s for inbound %d: http[%d].abort is left out: Envoy answers with no status below 200, not %d", Name, port, i, t.Abort.HTTPStatus)
		}
		if t.Delay != nil && t.Delay.Value.Duration <= 0 {
			p.Warn("%s for inbound %d: http[%d].delay.value is zero, for which Envoy refuses the listener: remove the delay", Name, port, i)
		}
		if b := t.ResponseBandwidth; b != nil {
			if _, ok := b.kbps(); !ok {
				p.Warn("%s for inbound %d: http[%d].responseBandwidth is left out: %q is not at least 1kbps", Name, port, i, b.Limit)
			}
		}
	}
}

func (t *Fault) envoy() *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if a := t.Abort; a != nil && a.possible() {
		out.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(a.HTTPStatus)},
			Percentage: percent(a.Percentage),
		}
	}
	if d := t.Delay; d != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(d.Value.Duration)},
			Percentage:         percent(d.Percentage),
		}
	}
	if b := t.ResponseBandwidth; b != nil {
		if kbps, ok := b.kbps(); ok {
			out.ResponseRateLimit = &commonfaultv3.FaultRateLimit{
				LimitType: &commonfaultv3.FaultRateLimit_FixedLimit_{
					FixedLimit: &commonfaultv3.FaultRateLimit_FixedLimit{LimitKbps: kbps},
				},
				Percentage: percent(b.Percentage),
			}
		}
	}
	return out
}

// possible tells whether Envoy can answer so: informational statuses are none that end a request.
func (a *Abort) possible() bool { return a.HTTPStatus >= 200 && a.HTTPStatus <= 599 }

// kbps is false for what Envoy does not take.
func (b *Bandwidth) kbps() (uint64, bool) {
	n, err := resource.ParseBandwidth(b.Limit)
	return n, err == nil && n > 0
}

func percent(v resource.IntOrString) *typev3.FractionalPercent {
	n, ok := policy.Decimal(v)
	if !ok {
		return &typev3.FractionalPercent{}
	}
	return effect.Percent(n)
}

// clients are matches of requests whose x-kuma-tags has all the tags that a rule wants, and not all of those that it does
// not want: Kuma puts these into one expression, so that of several each alone is let pass (ibid. case 14).
func clients(matchers []policy.Matcher) []*routev3.HeaderMatcher {
	var out []*routev3.HeaderMatcher
	for _, not := range []bool{false, true} {
		tags := map[string]string{}
		for _, m := range matchers {
			if m.Not == not {
				tags[m.Key] = m.Value
			}
		}
		if len(tags) == 0 {
			continue
		}
		out = append(out, &routev3.HeaderMatcher{Name: effect.TagsHeader, InvertMatch: not, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: &matcherv3.RegexMatcher{Regex: effect.TagsExpression(tags)},
			}},
		}})
	}
	return out
}
