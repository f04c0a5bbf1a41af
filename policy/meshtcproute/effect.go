package meshtcproute

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// RouteOutbound says where the connections of an outbound go that leads to own by itself (contract effects-routing.md §4).
// Requests is what MeshHTTPRoutes say about it, nil when nothing: on ports of requests they come first, on others they are
// given up, but for their clusters, unless no ref counts.
func RouteOutbound(own *effect.Target, r *policy.Rules, requests *effect.Routing, resolve effect.Resolver) *effect.Routing {
	confs, origin := own.Rule(r)
	byRule := len(confs) > 0 && len(origin) > 0
	ofRequests := effect.IsHTTP(own.Protocol)
	if !byRule && (ofRequests || requests == nil) || ofRequests && requests != nil {
		return requests
	}
	out := &effect.Routing{}
	if requests != nil {
		out.Targets = slices.Clone(requests.Targets)
	}
	if ofRequests {
		out.Targets = append(out.Targets, own) // 2.9 has made its cluster already
	}
	kept := []effect.Share{{Target: own, Weight: 1}}
	if byRule {
		kept = nil
		conf, _ := confs[0].(*Conf)
		for _, ref := range conf.BackendRefs() {
			// The one rule is that of the highest precedence.
			if t, counts := resolve(ref, lastWriter(origin)); counts {
				kept = append(kept, effect.Share{Target: t, Weight: ref.Share()})
			}
		}
		if len(kept) == 0 {
			// 2.9 makes no listener here, which leaves that of requests where there is one.
			if requests != nil || ofRequests {
				return requests
			}
			out.Closed = true
		}
	}
	for _, s := range kept {
		if s.Target != nil && s.Weight > 0 && s.Target.Accepts() {
			out.Connections = append(out.Connections, s)
			out.Targets = append(out.Targets, s.Target)
		}
	}
	out.Connections = effect.Weigh(out.Connections)
	return out
}

func lastWriter(origin []policy.RuleOrigin) *resource.Resource {
	return origin[len(origin)-1].Policy
}
