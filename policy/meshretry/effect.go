package meshretry

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	omithostv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_host_metadata/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// What is retried when a policy names no conditions (contract effects-routing.md §7).
const (
	defaultHTTPRetryOn = "gateway-error,connect-failure,refused-stream"
	defaultGRPCRetryOn = "cancelled,connect-failure,gateway-error,refused-stream,reset,resource-exhausted,unavailable"
	retriableCodes     = "retriable-status-codes"
)

// Apply writes retries into the outbounds: those of the protocol of the port only, and none for http2 and kafka (contract
// effects-routing.md §7, §1.4).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, x := range brokenExpressions(r) {
		p.Warn("MeshRetry: requests are not retried where the regular expression %q of a header applies, which Envoy refuses", x)
	}
	for _, out := range p.Outbounds {
		if err := set(out, r); err != nil {
			return fmt.Errorf("set retries of %s: %w", out.Listener.Name, err)
		}
	}
	return nil
}

func set(out *effect.Outbound, r *policy.Rules) error {
	chain := out.Listener.Chains[0]
	conf, _ := out.Conf(r).(*Conf)
	if out.Protocol == effect.TCP && conf != nil && conf.TCP != nil && conf.TCP.MaxConnectAttempt != nil {
		if t := chain.TCPProxy(); t != nil {
			t.MaxConnectAttempts = wrapperspb.UInt32(*conf.TCP.MaxConnectAttempt)
		}
		return nil
	}
	h := chain.HCM()
	if h == nil {
		return nil
	}
	var err error
	h.RouteActions(func(route *routev3.Route, a *routev3.RouteAction) {
		conf, ok := out.RouteConf(r, route.Name).(*Conf)
		switch {
		case !ok || err != nil:
		case out.Protocol == effect.HTTP && conf.HTTP != nil:
			if _, bad := conf.HTTP.brokenExpression(); bad {
				return
			}
			a.RetryPolicy, err = conf.HTTP.envoy()
		case out.Protocol == effect.GRPC && conf.GRPC != nil:
			a.RetryPolicy = conf.GRPC.envoy()
		}
	})
	return err
}

func common(numRetries *uint32, perTry *resource.Duration, b *BackOff, limited *RateLimitedBackOff) *routev3.RetryPolicy {
	rp := &routev3.RetryPolicy{PerTryTimeout: span(perTry)}
	if numRetries != nil {
		rp.NumRetries = wrapperspb.UInt32(*numRetries)
	}
	if b != nil {
		rp.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: span(b.BaseInterval), MaxInterval: span(b.MaxInterval)}
	}
	if limited != nil {
		rl := &routev3.RetryPolicy_RateLimitedRetryBackOff{MaxInterval: span(limited.MaxInterval)}
		for _, h := range limited.ResetHeaders {
			format := routev3.RetryPolicy_SECONDS
			if h.Format == FormatUnixTimestamp {
				format = routev3.RetryPolicy_UNIX_TIMESTAMP
			}
			rl.ResetHeaders = append(rl.ResetHeaders, &routev3.RetryPolicy_ResetHeader{Name: h.Name, Format: format})
		}
		rp.RateLimitedRetryBackOff = rl
	}
	return rp
}

// envoy returns nil when retries are switched off.
func (h *HTTP) envoy() (*routev3.RetryPolicy, error) {
	if h.NumRetries != nil && *h.NumRetries == 0 {
		return nil, nil
	}
	rp := common(h.NumRetries, h.PerTryTimeout, h.BackOff, h.RateLimitedBackOff)
	h.conditions(rp)
	for _, m := range h.RetriableRequestHeaders {
		rp.RetriableRequestHeaders = append(rp.RetriableRequestHeaders, m.envoy())
	}
	for _, m := range h.RetriableResponseHeaders {
		rp.RetriableHeaders = append(rp.RetriableHeaders, m.envoy())
	}
	for _, s := range h.HostSelection {
		if err := s.add(rp); err != nil {
			return nil, err
		}
	}
	if h.HostSelectionMaxAttempts != nil {
		rp.HostSelectionRetryMaxAttempts = *h.HostSelectionMaxAttempts
	}
	return rp, nil
}

// brokenExpressions are all that rules have, each once.
func brokenExpressions(r *policy.Rules) []string {
	var out []string
	look := func(conf any) {
		if c, ok := conf.(*Conf); ok && c.HTTP != nil {
			if x, bad := c.HTTP.brokenExpression(); bad && !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	for _, rule := range r.To {
		look(rule.Conf)
	}
	for _, rule := range r.ToResources {
		for _, conf := range rule.Conf {
			look(conf)
		}
	}
	return out
}

// brokenExpression finds what would make Envoy refuse the whole listener.
func (h *HTTP) brokenExpression() (string, bool) {
	for _, m := range slices.Concat(h.RetriableRequestHeaders, h.RetriableResponseHeaders) {
		if m.Type != MatchRegularExpression {
			continue
		}
		if _, err := regexp.Compile(m.Value); err != nil || m.Value == "" { // the syntax of Envoy too: RE2
			return m.Value, true
		}
	}
	return "", false
}

// conditions sorts the items of retryOn into names, methods and statuses. Methods do not count as names: with nothing
// else the default names stay.
func (h *HTTP) conditions(rp *routev3.RetryPolicy) {
	var names []string
	words, methods := HTTPConditions(), Methods()
	for _, item := range h.RetryOn {
		method, isMethod := strings.CutPrefix(item, MethodPrefix)
		code, err := strconv.ParseUint(item, 10, 32)
		switch {
		case words[item] != "":
			names = append(names, words[item])
		case isMethod && methods[method] != "":
			rp.RetriableRequestHeaders = append(rp.RetriableRequestHeaders, HeaderMatch{Name: ":method", Value: methods[method]}.envoy())
		case err == nil:
			rp.RetriableStatusCodes = append(rp.RetriableStatusCodes, uint32(code))
		}
	}
	rp.RetryOn = defaultHTTPRetryOn
	if len(names) > 0 {
		rp.RetryOn = strings.Join(names, ",")
	}
	if len(rp.RetriableStatusCodes) > 0 && !slices.Contains(names, retriableCodes) {
		rp.RetryOn += "," + retriableCodes
	}
}

// envoy returns nil when retries are switched off.
func (g *GRPC) envoy() *routev3.RetryPolicy {
	if g.NumRetries != nil && *g.NumRetries == 0 {
		return nil
	}
	rp := common(g.NumRetries, g.PerTryTimeout, g.BackOff, g.RateLimitedBackOff)
	var names []string
	words := GRPCConditions()
	for _, item := range g.RetryOn {
		if words[item] != "" {
			names = append(names, words[item])
		}
	}
	rp.RetryOn = defaultGRPCRetryOn
	if len(names) > 0 {
		rp.RetryOn = strings.Join(names, ",")
	}
	return rp
}

func (m HeaderMatch) envoy() *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: m.Name}
	text := func(s *matcherv3.StringMatcher) {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: s}
	}
	switch {
	// An empty prefix, which Envoy refuses, is that of every value.
	case m.Type == MatchPresent, m.Type == MatchAbsent, m.Type == MatchPrefix && m.Value == "":
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: m.Type != MatchAbsent}
	case m.Type == MatchPrefix:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: m.Value}})
	case m.Type == MatchRegularExpression:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: m.Value},
		}})
	default:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: m.Value}})
	}
	return out
}

func (s *HostPredicate) add(rp *routev3.RetryPolicy) error {
	switch s.Predicate {
	case OmitPreviousHosts:
		a, err := effect.Pack(&previoushostsv3.PreviousHostsPredicate{})
		if err != nil {
			return err
		}
		rp.RetryHostPredicate = append(rp.RetryHostPredicate, &routev3.RetryPolicy_RetryHostPredicate{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: a},
		})
	case OmitHostsWithTags:
		a, err := effect.Pack(&omithostv3.OmitHostMetadataConfig{MetadataMatch: &corev3.Metadata{
			FilterMetadata: map[string]*structpb.Struct{"envoy.lb": effect.TagStruct(s.Tags)},
		}})
		if err != nil {
			return err
		}
		rp.RetryHostPredicate = append(rp.RetryHostPredicate, &routev3.RetryPolicy_RetryHostPredicate{
			Name:       "envoy.retry_host_predicates.omit_host_metadata",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: a},
		})
	case OmitPreviousPriorities:
		a, err := effect.Pack(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: s.UpdateFrequency})
		if err != nil {
			return err
		}
		rp.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name:       "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: a},
		}
	}
	return nil
}

func span(d *resource.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(d.Duration)
}
