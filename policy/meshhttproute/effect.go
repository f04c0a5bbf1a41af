package meshhttproute

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// RouteOutbound makes the routes of an outbound that leads to own by itself (contract effects-routing.md §3). It returns
// nil when no policy is about the outbound. A route that leads nowhere is left out: its requests fall to the next one that
// matches.
func RouteOutbound(own *effect.Target, r *policy.Rules, _ *effect.Routing, resolve effect.Resolver) *effect.Routing {
	confs, origin := own.Rule(r)
	i := slices.IndexFunc(confs, func(c any) bool { conf, ok := c.(*Conf); return ok && len(conf.Hostnames) == 0 })
	if i < 0 {
		return nil
	}
	b := &builder{own: own, origin: origin, resolve: resolve}
	for _, route := range Routes(confs[i].(*Conf).Rules) {
		b.add(route)
	}
	b.out.Closed = len(b.out.Requests) == 0
	return &b.out
}

type builder struct {
	own     *effect.Target
	origin  []policy.RuleOrigin
	resolve effect.Resolver
	out     effect.Routing
}

// warn says what of a rule has no effect. A rule with several matches says it once.
func (b *builder) warn(route string, format string, args ...any) {
	text := fmt.Sprintf("MeshHTTPRoute, destination %s, route %s: ", b.own.Cluster, route) + fmt.Sprintf(format, args...)
	if !slices.Contains(b.out.Warnings, text) {
		b.out.Warnings = append(b.out.Warnings, text)
	}
}

func (b *builder) add(route Route) {
	shares := b.shares(route.Rule)
	if len(shares) == 0 {
		return
	}
	var changes []change
	if route.Rule != nil {
		changes = b.changes(route)
	}
	made := false
	for _, half := range halves(route.Match) {
		e := &routev3.Route{Name: route.Name, Match: half.envoy(), Action: &routev3.Route_Route{Route: forward(shares)}}
		for _, c := range changes {
			c(e)
		}
		if err := fault(half, e); err != nil {
			b.warn(route.Name, "Envoy does not take it, so that it matches nothing: %v", err)
			continue
		}
		b.out.Requests = append(b.out.Requests, e)
		made = true
	}
	if !made {
		return
	}
	for _, s := range shares {
		b.out.Targets = append(b.out.Targets, s.Target)
	}
}

// shares are the backends of a rule that take requests, the destination itself when it names none (contract
// effects-routing.md §3.2).
func (b *builder) shares(rule *Rule) []effect.Share {
	var kept, out []effect.Share
	if rule != nil {
		writer := Writer(b.origin, "", rule)
		for _, ref := range rule.Default.BackendRefs {
			if t, counts := b.resolve(ref, writer); counts {
				kept = append(kept, effect.Share{Target: t, Weight: ref.Share()})
			}
		}
	}
	if len(kept) == 0 {
		kept = []effect.Share{{Target: b.own, Weight: 1}}
	}
	for _, s := range kept {
		if s.Target != nil && s.Weight > 0 && effect.IsHTTP(s.Target.Protocol) {
			out = append(out, s)
		}
	}
	return effect.Weigh(out)
}

func forward(shares []effect.Share) *routev3.RouteAction {
	a := &routev3.RouteAction{Timeout: durationpb.New(0)}
	if len(shares) == 1 {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: shares[0].Target.Cluster}
	} else {
		weighted := &routev3.WeightedCluster{}
		for _, s := range shares {
			weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{
				Name: s.Target.Cluster, Weight: wrapperspb.UInt32(s.Weight),
			})
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
	if slices.ContainsFunc(shares, func(s effect.Share) bool { return s.Target.External }) {
		effect.RewriteHost(a)
	}
	return a
}

// halves are the matches that Envoy needs for one: a prefix ends at a slash or at the end of the path.
func halves(m Match) []Match {
	if m.Path.Type != PathPrefix || m.Path.Value == "/" {
		return []Match{m}
	}
	prefix := strings.TrimSuffix(m.Path.Value, "/")
	exact, below := m, m
	exact.Path = &PathMatch{Type: Exact, Value: prefix}
	below.Path = &PathMatch{Type: PathPrefix, Value: prefix + "/"}
	return []Match{exact, below}
}

// envoy is contract effects-routing.md §3.1.
func (m Match) envoy() *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	switch m.Path.Type {
	case Exact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Value}
	case RegularExpression:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.Path.Value}}
	default:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: m.Path.Value}
	}
	if m.Method != "" {
		out.Headers = append(out.Headers, HeaderMatch{Name: ":method", Value: m.Method}.envoy())
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, h.envoy())
	}
	for i, q := range m.QueryParams {
		if slices.ContainsFunc(m.QueryParams[:i], func(earlier QueryMatch) bool { return earlier.Name == q.Name }) {
			continue
		}
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name: q.Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{
				StringMatch: stringMatch(q.Type, q.Value),
			},
		})
	}
	return out
}

func (h HeaderMatch) envoy() *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: h.Name}
	switch {
	case h.Type == HeaderPresent, h.Type == HeaderAbsent, h.Type == HeaderPrefix && h.Value == "":
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: h.Type != HeaderAbsent}
	default:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatch(h.Type, h.Value)}
	}
	return out
}

func stringMatch(kind, value string) *matcherv3.StringMatcher {
	switch kind {
	case RegularExpression:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: value}}}
	case HeaderPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: value}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}

// fault tells why Envoy would refuse the route, and with it all others of the listener: the schema lets through regular
// expressions that are none, and characters that no header has.
func fault(m Match, e *routev3.Route) error {
	var expressions []string
	if m.Path.Type == RegularExpression {
		expressions = append(expressions, m.Path.Value)
	}
	for _, h := range m.Headers {
		if h.Type == RegularExpression {
			expressions = append(expressions, h.Value)
		}
	}
	for _, q := range m.QueryParams {
		if q.Type == RegularExpression {
			expressions = append(expressions, q.Value)
		}
	}
	for _, x := range expressions {
		if _, err := regexp.Compile(x); err != nil { // the syntax of Envoy too: RE2
			return err
		}
	}
	return e.ValidateAll()
}
