package effect

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TagsHeader is the header of requests with the tags of the client's proxy, see Env.SourceTags.
const TagsHeader = "x-kuma-tags"

// TagsExpression matches the header TagsHeader with all the tags; a value also matches one that ends with
// it, since all values of a key stand in one list and Kuma does not look at what is before it. Tags of real proxies have no character
// of regular expressions but the dot; what else a policy holds is quoted too, so that Envoy takes the expression. The keys
// stay as they are, as in Kuma.
func TagsExpression(tags map[string]string) string {
	var b strings.Builder
	b.WriteString(".*")
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		value := ""
		if tags[k] != "*" {
			value = "[^&]*" + regexp.QuoteMeta(tags[k]) + "[,&]"
		}
		b.WriteString("&" + k + "=" + value + ".*")
	}
	return b.String()
}

const filterRequestLimit = "envoy.filters.http.local_ratelimit"

// TakeLimits makes limits on routes possible.
func (h *HCM) TakeLimits() {
	h.BeforeRouter(&Filter{Name: filterRequestLimit, Config: &limitv3.LocalRateLimit{StatPrefix: "rate_limit"}})
}

// NewRequestLimit lets through a number of requests in each interval (contract effects-security.md §8).
func NewRequestLimit(requests uint32, interval time.Duration) *limitv3.LocalRateLimit {
	always := func(runtimeKey string) *corev3.RuntimeFractionalPercent {
		return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}, RuntimeKey: runtimeKey}
	}
	return &limitv3.LocalRateLimit{
		StatPrefix: "rate_limit", TokenBucket: TokenBucket(requests, interval),
		FilterEnabled: always("local_rate_limit_enabled"), FilterEnforced: always("local_rate_limit_enforced"),
	}
}

// TokenBucket is full at first, and again after each interval.
func TokenBucket(tokens uint32, interval time.Duration) *typev3.TokenBucket {
	return &typev3.TokenBucket{MaxTokens: tokens, TokensPerFill: wrapperspb.UInt32(tokens), FillInterval: durationpb.New(interval)}
}

// LimitRoute puts a packed limit on a route.
func LimitRoute(route *routev3.Route, limit *anypb.Any) {
	if route.TypedPerFilterConfig == nil {
		route.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	route.TypedPerFilterConfig[filterRequestLimit] = limit
}
