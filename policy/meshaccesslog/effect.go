package meshaccesslog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// unknown is what is told of a client.
const unknown = "unknown"

// Key tells what flows into listeners: the own address, service and pipe, and whether it is only shown.
func Key(env effect.Env, _ *policy.Rules) string {
	return strings.Join([]string{env.Service(), env.Address, env.Socket("kuma-al"), strconv.FormatBool(env.Shown)}, "\n")
}

// Whole asks for all parts where the collectors are numbered over all of them.
func Whole(r *policy.Rules) bool {
	for _, m := range r.Policies {
		spec, ok := m.Policy.Spec.(policy.Targeted)
		if !ok {
			continue
		}
		for _, item := range slices.Concat(spec.ToItems(), spec.FromItems()) {
			if c, ok := item.Conf.(*Conf); ok && slices.ContainsFunc(c.Backends, func(b Backend) bool { return b.Type == BackendOpenTelemetry }) {
				return true
			}
		}
	}
	return false
}

// Apply adds a logger for every backend to inbounds, outbounds, and what passes by (contract effects-security.md §5).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if !effect.Effective(r) {
		return nil
	}
	l := &loggers{
		env: p.Env, collectors: map[collector]string{}, refused: map[string]bool{}, warn: p.Warn,
		add: func(c *effect.Cluster) { p.AddCluster(effect.OriginAccessLog, c) },
	}
	own := p.Service()
	for _, in := range p.Inbounds {
		if rules, _ := r.ForInbound(in.Resource); len(rules) > 0 {
			if err := l.log(in.Listener, rules[0].Conf, effect.Traffic{Source: unknown, Destination: own, Direction: effect.Incoming}); err != nil {
				return err
			}
		}
	}
	// Collectors are numbered in the order of use: outbounds by tags before all else that goes out, services last.
	outbounds := func(legacy bool) error {
		for _, out := range p.Outbounds {
			if (out.LegacyService != "") != legacy {
				continue
			}
			to := out.Name
			if legacy {
				to = out.LegacyService
			}
			conf := out.Conf(r)
			if conf != nil {
				out.Listener.DropLogs() // those of TrafficLogs (ibid. case 32)
			}
			if err := l.log(out.Listener, conf, effect.Traffic{Source: own, Destination: to, Direction: effect.Outgoing}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := outbounds(true); err != nil {
		return err
	}
	if len(p.Passthrough)+len(p.Direct) > 0 {
		if err := l.outside(p, r); err != nil {
			return err
		}
	}
	return outbounds(false)
}

// outside logs what goes to no service of the mesh, and to the first instance that is reached by its address: Kuma takes
// one of these, whichever comes first to its hand.
func (l *loggers) outside(p *effect.Proxy, r *policy.Rules) error {
	conf, err := r.ForOutside(Kind(), map[string]string{resource.TagService: effect.PassThrough})
	if err != nil {
		return fmt.Errorf("merge logs of passing traffic: %w", err)
	}
	t := effect.Traffic{Source: p.Service(), Destination: effect.Outside, Direction: effect.Outgoing}
	for _, pass := range p.Passthrough {
		if err := l.log(pass.Listener, conf, t); err != nil {
			return err
		}
	}
	if len(p.Direct) > 0 {
		t.Destination = p.Direct[0].Name
		return l.log(p.Direct[0], conf, t)
	}
	return nil
}

// log adds the loggers of a conf, a *Conf or nil, to every chain of a listener.
func (l *loggers) log(listener *effect.Listener, conf any, t effect.Traffic) error {
	c, _ := conf.(*Conf)
	if c == nil {
		return nil
	}
	names := t.Placeholders(l.env)
	for _, b := range c.Backends {
		if err := listener.AddLog(func(format string) (*accesslogv3.AccessLog, error) { return l.logger(b, format, names) }); err != nil {
			return err
		}
	}
	return nil
}
