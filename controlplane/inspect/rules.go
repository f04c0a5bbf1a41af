package inspect

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer of `_rules` (contract policies.md §4.8). Lists are never null.
type (
	rulesBody struct {
		HTTPMatches []httpMatch `json:"httpMatches"`
		Resource    meta        `json:"resource"`
		Rules       []kindRules `json:"rules"`
	}
	httpMatch struct {
		Hash  string `json:"hash"`
		Match any    `json:"match"`
	}
	kindRules struct {
		FromRules       []fromRule     `json:"fromRules"`
		ProxyRule       *proxyRule     `json:"proxyRule,omitempty"`
		ToResourceRules []resourceRule `json:"toResourceRules"`
		ToRules         []subsetRule   `json:"toRules"`
		Type            resource.Kind  `json:"type"`
		Warnings        []string       `json:"warnings"`
	}
	fromRule struct {
		Inbound inbound      `json:"inbound"`
		Rules   []subsetRule `json:"rules"`
	}
	inbound struct {
		Port uint32            `json:"port"`
		Tags map[string]string `json:"tags"`
	}
	subsetRule struct {
		Conf     any              `json:"conf"`
		Matchers []policy.Matcher `json:"matchers"`
		Origin   []meta           `json:"origin"`
	}
	resourceRule struct {
		Conf    []any    `json:"conf"`
		Origin  []origin `json:"origin"`
		Meta    meta     `json:"resourceMeta"`
		Section string   `json:"resourceSectionName"`
	}
	origin struct {
		Meta  meta `json:"resourceMeta"`
		Index int  `json:"ruleIndex"`
	}
	proxyRule struct {
		Conf   any    `json:"conf"`
		Origin []meta `json:"origin"`
	}
	meta struct {
		Labels map[string]string `json:"labels"`
		Mesh   string            `json:"mesh"`
		Name   string            `json:"name"`
		Type   resource.Kind     `json:"type"`
	}
)

func metaOf(key resource.Key, labels map[string]string) meta {
	if labels == nil {
		labels = map[string]string{}
	}
	return meta{labels, key.Mesh, key.Name, key.Kind}
}

func metas(list []*resource.Resource) []meta {
	out := make([]meta, len(list))
	for i, r := range list {
		out[i] = metaOf(r.Key, r.Labels)
	}
	return out
}

func (i *Inspector) rules(w http.ResponseWriter, req *http.Request) error {
	dp, mesh, err := i.resource(req, resource.KindDataplane)
	if err != nil {
		return err
	}
	rules, err := i.cfg.Proxies.Rules(dp.Mesh, dp.Name, false)
	if err := rulesError(err); err != nil {
		return err
	}
	return i.render(dp, mesh, rules).write(w)
}

func (i *Inspector) gatewayRules(w http.ResponseWriter, req *http.Request) error {
	gateway, mesh, err := i.resource(req, resource.KindMeshGateway)
	if err != nil {
		return err
	}
	rules, err := i.cfg.Proxies.GatewayRules(gateway.Mesh, gateway.Name)
	if err := rulesError(err); err != nil {
		return err
	}
	return i.render(gateway, mesh, rules).write(w)
}

func (i *Inspector) render(of *resource.Resource, mesh *resource.Mesh, rules []*policy.Rules) *rulesBody {
	body := &rulesBody{HTTPMatches: httpMatches(rules), Resource: metaOf(of.Key, of.Labels), Rules: []kindRules{}}
	for _, r := range rules {
		if one, ok := i.kind(r, mesh.ServicesMode() != resource.MeshServicesExclusive, i.labels); ok {
			body.Rules = append(body.Rules, one)
		}
	}
	return body
}

// httpMatches lists the matches of all routes that apply to the proxy, each by its hash.
func httpMatches(rules []*policy.Rules) []httpMatch {
	byHash := map[string]any{}
	for _, r := range rules {
		for _, m := range r.Policies {
			if route, ok := m.Policy.Spec.(policy.Routed); ok {
				for _, rule := range route.RouteRules() {
					byHash[rule.Hash] = rule.Matches
				}
			}
		}
	}
	out := make([]httpMatch, 0, len(byHash))
	for _, hash := range slices.Sorted(maps.Keys(byHash)) {
		out = append(out, httpMatch{hash, byHash[hash]})
	}
	return out
}

// kind renders the rules of one kind. Left out is a kind that has nothing to show and, as 2.9 has it, one that has
// neither rules by tags, nor a selected inbound, nor a rule of the proxy, whatever it says about real services. labels are
// those of targets.
func (i *Inspector) kind(r *policy.Rules, byTags bool, labels func(resource.Key) map[string]string) (kindRules, bool) {
	out := kindRules{
		Type: r.Kind, FromRules: []fromRule{}, ToRules: []subsetRule{}, ToResourceRules: []resourceRule{}, Warnings: []string{},
	}
	inbounds := len(r.From)+len(r.Listeners) > 0 && i.hasFrom(r.Kind)
	if !r.Tagged && len(r.To) == 0 && !inbounds && r.Single == nil {
		return out, false
	}
	out.Warnings = append(out.Warnings, r.Warnings...)
	for _, f := range r.From {
		if len(f.Rules) > 0 {
			out.FromRules = append(out.FromRules, fromRule{inbound{f.Inbound.Port, f.Inbound.Tags}, subsets(f.Rules)})
		}
	}
	// Listeners of one port share their rules; the first one stands for all.
	for n, l := range r.Listeners {
		if len(l.From) > 0 && (n == 0 || r.Listeners[n-1].Listener.Port != l.Listener.Port) {
			tags := l.Listener.Tags
			if tags == nil {
				tags = map[string]string{}
			}
			out.FromRules = append(out.FromRules, fromRule{inbound{l.Listener.Port, tags}, subsets(l.From)})
		}
	}
	slices.SortStableFunc(out.FromRules, func(a, b fromRule) int { return cmp.Compare(a.Inbound.Port, b.Inbound.Port) })
	if byTags {
		out.ToRules = subsets(r.To)
	}
	for _, t := range r.ToResources {
		out.ToResourceRules = append(out.ToResourceRules, newResourceRule(t, labels))
	}
	slices.SortStableFunc(out.ToResourceRules, func(a, b resourceRule) int { return cmp.Compare(a.Meta.Name, b.Meta.Name) })
	if s := r.Single; s != nil {
		out.ProxyRule = &proxyRule{s.Conf, metas(s.Origin)}
	}
	return out, len(out.FromRules)+len(out.ToRules)+len(out.ToResourceRules) > 0 || out.ProxyRule != nil
}

// hasFrom tells whether policies of a kind can tell clients apart.
func (i *Inspector) hasFrom(kind resource.Kind) bool {
	return slices.ContainsFunc(i.cfg.Kinds, func(k policy.Kind) bool {
		return k.Descriptor.Kind == kind && k.Descriptor.Policy != nil && k.Descriptor.Policy.HasFrom
	})
}

func subsets(rules []policy.SubsetRule) []subsetRule {
	out := make([]subsetRule, len(rules))
	for n, r := range rules {
		out[n] = subsetRule{r.Conf, append([]policy.Matcher{}, r.Matchers...), metas(r.Origin)}
	}
	return out
}

func newResourceRule(r policy.ResourceRule, labels func(resource.Key) map[string]string) resourceRule {
	out := resourceRule{Conf: r.Conf, Origin: make([]origin, len(r.Origin)), Meta: metaOf(r.Target, labels(r.Target)), Section: r.Section}
	for n, o := range r.Origin {
		out.Origin[n] = origin{metaOf(o.Policy.Key, o.Policy.Labels), o.Index}
	}
	return out
}

// labels are those of a resource that is stored; nil of one that has just been deleted.
func (i *Inspector) labels(key resource.Key) map[string]string {
	r, err := i.cfg.Store.Get(key)
	if err != nil {
		return nil
	}
	return r.Labels
}
