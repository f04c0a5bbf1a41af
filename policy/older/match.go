package older

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Of several policies one is chosen by how much it says, and else by its age. No fact tells how 2.9.13 chooses; this is the
// rule that the kinds are known for.

// rank is how much a selector says: tags with a value, and tags with "*".
type rank struct{ exact, any int }

func rankOf(s resource.Selector) (r rank) {
	for _, v := range s.Match {
		if v == "*" {
			r.any++
		} else {
			r.exact++
		}
	}
	return r
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.exact, o.exact), cmp.Compare(r.any, o.any))
}

func (r rank) plus(o rank) rank { return rank{r.exact + o.exact, r.any + o.any} }

// highest is the rank of the selector that says most.
func highest(selectors []resource.Selector) (high rank) {
	for _, s := range selectors {
		if r := rankOf(s); r.compare(high) > 0 {
			high = r
		}
	}
	return high
}

// best returns the highest rank of the selectors that one of the sets of tags meets; not ok when there is none.
func best(selectors []resource.Selector, sets ...map[string]string) (high rank, ok bool) {
	for _, s := range selectors {
		if !slices.ContainsFunc(sets, func(tags map[string]string) bool { return policy.HasTags(tags, s.Match) }) {
			continue
		}
		if r := rankOf(s); !ok || r.compare(high) > 0 {
			high, ok = r, true
		}
	}
	return high, ok
}

type match struct {
	policy *resource.Resource
	rank   rank
}

// ordered returns the policies that say most first; of those that say as much, the newest.
func ordered(found []match) []*resource.Resource {
	slices.SortFunc(found, func(a, b match) int {
		return cmp.Or(b.rank.compare(a.rank), b.policy.CreationTime.Compare(a.policy.CreationTime), strings.Compare(a.policy.Name, b.policy.Name))
	})
	var out []*resource.Resource
	for _, m := range found {
		out = append(out, m.policy)
	}
	return out
}

// ends are the tags of a proxy as one end of a connection: those of each inbound, or of its gateway. As with the kinds that
// took their place, an inbound that is ignored is selected by nobody.
func ends(n *resource.Networking, zone string) []map[string]string {
	var out []map[string]string
	for _, in := range n.Inbound {
		if in.State != resource.InboundIgnored {
			out = append(out, effect.WithZone(in.Tags, zone))
		}
	}
	if n.Gateway != nil {
		out = append(out, n.Gateway.Tags)
	}
	return out
}

// Matches tells whether a policy is for a proxy. Zone is added to the tags of its inbounds.
func Matches(p, dp *resource.Resource, zone string) bool {
	spec, ok := p.Spec.(resource.OlderPolicy)
	proxy, isProxy := dp.Spec.(*resource.Dataplane)
	if !ok || !isProxy || proxy.Networking == nil {
		return false
	}
	_, found := best(spec.Proxies(), ends(proxy.Networking, zone)...)
	return found
}
