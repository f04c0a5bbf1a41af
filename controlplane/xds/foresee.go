package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Bounds of Foresee: how many proxies are tried, for how long the next one is, and how many of the differing warnings are
// told.
const (
	maxForeseen = 10
	foreseeFor  = 200 * time.Millisecond
	maxForecast = 5
)

// Foresee tells, of a policy of a kind that patches, what it cannot do at proxies that it selects now, or what their Envoys
// will refuse, whether it is stored yet or not. Proxies with the same inbounds count as one, and some of those that differ
// are tried. Others than these kinds are checked well enough when they are validated.
func (s *Server) Foresee(p *resource.Resource) []string {
	w := s.cfg.Topology.Current()
	m := w.Meshes[p.Mesh]
	patches := func(k policy.Kind) bool {
		return k.Descriptor.Kind == p.Kind && slices.ContainsFunc(s.generator.effects, func(e effect.Kind) bool { return e.Kind == p.Kind && e.Patch != nil })
	}
	i := slices.IndexFunc(s.cfg.Kinds, patches)
	if i < 0 || m == nil {
		return nil
	}
	next := withPolicy(m, p)
	set := policy.NewSet(s.cfg.Kinds[i], []*resource.Resource{p}, nil, nil)
	view := policy.View{Zone: s.cfg.Zone, Gateways: m.Gateways}
	book := newRulebook(s.cfg.Kinds, s.cfg.Zone)
	tried, start := map[string]bool{}, time.Now()
	var out []forecast
	for _, dp := range m.Dataplanes {
		if matched, _ := set.Matched(dp.Resource, view); len(matched) == 0 {
			continue
		}
		alike := inboundsOf(dp)
		if tried[alike] {
			continue
		}
		if len(tried) == maxForeseen || len(tried) > 0 && time.Since(start) > foreseeFor {
			break
		}
		tried[alike] = true
		for _, text := range s.foresee(book, w, next, dp, p) {
			if i := slices.IndexFunc(out, func(f forecast) bool { return f.text == text }); i >= 0 {
				out[i].more = true
			} else if len(out) < maxForecast {
				out = append(out, forecast{text: text, proxy: dp.Name})
			}
		}
	}
	var texts []string
	for _, f := range out {
		texts = append(texts, f.String())
	}
	return texts
}

// forecast is a warning and where it applies.
type forecast struct {
	text, proxy string
	more        bool
}

func (f forecast) String() string {
	if f.more {
		return fmt.Sprintf("on %s and other proxies: %s", f.proxy, f.text)
	}
	return fmt.Sprintf("on %s: %s", f.proxy, f.text)
}

// foresee returns what is said of a policy at one proxy.
func (s *Server) foresee(book *rulebook, w *topology.World, m *topology.Mesh, dp *topology.Dataplane, p *resource.Resource) []string {
	made := s.remake(book, w, m, dp, Meta{})
	if made.snap == nil {
		return nil // for a reason that it does not have with this policy alone, as it is valid
	}
	var out []string
	for _, text := range made.snap.patchWarnings[p.Kind] {
		if rest, ok := strings.CutPrefix(text, fmt.Sprintf("%s %s: ", p.Kind, p.Name)); ok {
			out = append(out, rest)
		}
	}
	return out
}

// withPolicy is the mesh as if the policy was stored.
func withPolicy(m *topology.Mesh, p *resource.Resource) *topology.Mesh {
	next := withoutPolicy(m, p.Kind, p)
	next.Policies[p.Kind] = append(next.Policies[p.Kind], p)
	slices.SortFunc(next.Policies[p.Kind], func(a, b *resource.Resource) int { return strings.Compare(a.Name, b.Name) })
	return next
}

// inboundsOf are equal for proxies that a policy will hardly tell apart.
func inboundsOf(dp *topology.Dataplane) string {
	net := dp.Spec.Networking // not nil where a policy matches
	var b strings.Builder
	for _, in := range net.Inbound {
		fmt.Fprintln(&b, in.Port, in.ServicePort, in.State, in.Tags)
	}
	if net.Gateway != nil {
		fmt.Fprintln(&b, net.Gateway.Type, net.Gateway.Tags)
	}
	return b.String()
}
