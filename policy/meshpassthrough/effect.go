package meshpassthrough

import (
	"fmt"
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Apply lets outgoing traffic that no outbound takes pass, or stops it (contract effects-security.md §11).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if r.Single == nil || !p.Transparent {
		return nil
	}
	conf, ok := r.Single.Conf.(*Conf)
	if !ok {
		return fmt.Errorf("conf is a %T", r.Single.Conf)
	}
	for _, pass := range p.Passthrough {
		switch {
		case conf.PassthroughMode != ModeAll:
			pass.Cluster = nil
		case pass.Cluster == nil:
			pass.Open()
		}
	}
	if len(p.Passthrough) == 0 || conf.PassthroughMode == ModeAll || conf.PassthroughMode == ModeNone {
		return nil
	}
	matches, dropped := withoutClashes(conf.AppendMatch)
	for _, m := range dropped {
		p.Warn("%s: match %s (%s) is left out: it has no protocol, or a policy of higher precedence takes the same connections in another way",
			Name, m.place(), m.Protocol)
	}
	places := destinations(matches, !p.Shown)
	for _, pass := range p.Passthrough {
		chains := chainsOf(p.Env, places, pass.IPv6)
		if len(chains) == 0 {
			continue
		}
		pass.Listener.ListenerFilters = []*effect.Filter{effect.TLSInspector(), effect.HTTPInspector()}
		pass.Listener.Chains = chains
	}
	for _, d := range places {
		if slices.ContainsFunc(p.Passthrough, func(pass *effect.Passthrough) bool { return d.concerns(pass.IPv6) }) {
			p.AddCluster(effect.OriginPassthrough, d.toCluster())
		}
	}
	return nil
}

func (d destination) toCluster() *effect.Cluster {
	c := effect.NewCluster(d.cluster())
	c.SetOriginalDst()
	if d.protocol == ProtocolHTTP2 || d.protocol == ProtocolGRPC {
		c.HTTP = effect.HTTPOptions(true)
	}
	return c
}
