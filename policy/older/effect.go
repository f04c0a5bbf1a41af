package older

import (
	"encoding/json"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Apply does what 2.9.13 does before any of the kinds that took their place, so that these find it there: they leave alone
// an inbound that has faults or limits, and replace permissions, spans and logs of outbounds where they have their own.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, w := range r.Warnings {
		p.Warn("%s", w)
	}
	if !effect.Effective(r) {
		return nil
	}
	Permit(p, r)
	if err := inject(p, r); err != nil {
		return err
	}
	if err := limit(p, r); err != nil {
		return err
	}
	if err := log(p, r); err != nil {
		return err
	}
	return trace(p, r)
}

// Key tells what flows into listeners besides their own rules: the tracing backend, and for logs the own address, service
// and pipe.
func Key(env effect.Env, r *policy.Rules) string {
	var parts []string
	if len(r.To) > 0 || r.Single != nil {
		parts = append(parts, env.Service())
	}
	if len(r.To) > 0 {
		parts = append(parts, env.Address, env.Socket("kuma-al"))
	}
	if r.Single != nil {
		backend, err := json.Marshal(r.Single.Conf)
		if err != nil { // it came from JSON
			return err.Error()
		}
		parts = append(parts, string(backend))
	}
	return strings.Join(parts, "\n")
}

// log adds a logger to outbounds by tags, and to what passes by (contract effects-security.md §1.4, §5). Outbounds to service
// objects have none (case inbound/36), nor has what comes in.
func log(p *effect.Proxy, r *policy.Rules) error {
	add := func(l *effect.Listener, conf any, destination string) error {
		c, _ := conf.(*logConf)
		if c == nil || c.Backend == nil {
			return nil
		}
		t := effect.Traffic{Source: p.Service(), Destination: destination, Direction: effect.Outgoing}
		return l.AddLog(func(format string) (*accesslogv3.AccessLog, error) {
			if c.Backend.Format != "" {
				format = c.Backend.Format
			}
			line := t.Placeholders(p.Env).Replace(format) + "\n"
			path := c.Backend.Conf.Path
			if c.Backend.Type == resource.LoggingTCP {
				// The agent reads where a line goes from its beginning (contract agent.md §4.6).
				path, line = p.Socket("kuma-al"), c.Backend.Conf.Address+";"+line
			}
			return effect.NewLog(effect.FileLogger, effect.FileLog(path, effect.TextLog(line)))
		})
	}
	for _, out := range p.Outbounds {
		if out.LegacyService == "" {
			continue
		}
		if err := add(out.Listener, out.Conf(r), out.LegacyService); err != nil {
			return err
		}
	}
	for _, pass := range p.Passthrough {
		if err := add(pass.Listener, r.ForLegacyService(effect.PassThrough), effect.Outside); err != nil {
			return err
		}
	}
	return nil
}

// trace makes requests spans of the backend, and adds its cluster (contract effects-security.md §7).
func trace(p *effect.Proxy, r *policy.Rules) error {
	if r.Single == nil {
		return nil
	}
	b := r.Single.Conf.(*resource.TracingBackend)
	cluster := "tracing:" + b.Name
	var t *effect.Tracer
	switch b.Type {
	case resource.TracingZipkin:
		if b.Conf.APIVersion == resource.ZipkinJSONV1 {
			p.Warn("tracing backend %s: Envoy speaks %s no more, spans are sent as %s", b.Name, resource.ZipkinJSONV1, resource.ZipkinJSON)
		}
		t = effect.Zipkin{
			URL: b.Conf.URL, TraceID128Bit: b.Conf.TraceID128Bit, Proto: b.Conf.APIVersion == resource.ZipkinProto,
			SharedSpanContext: b.Conf.SharedSpanContext,
		}.Tracer(cluster)
	case resource.TracingDatadog:
		t = effect.NewDatadog(cluster, b.Conf.Address, b.Conf.Port, b.Conf.SplitService)
	}
	if t == nil {
		p.Warn("tracing backend %s: no spans are made, its url has no host", b.Name)
		return nil
	}
	return t.Trace(p, effect.OriginTracing, func() *hcmv3.HttpConnectionManager_Tracing {
		tracing := &hcmv3.HttpConnectionManager_Tracing{}
		if b.Sampling != nil {
			tracing.OverallSampling = &typev3.Percent{Value: *b.Sampling}
		}
		return tracing
	})
}
