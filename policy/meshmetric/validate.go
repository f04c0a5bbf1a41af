package meshmetric

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i := range c.Backends {
			c.Backends[i].checkSchema(f, p.Field("backends").Index(i))
		}
		if c.Sidecar != nil {
			c.Sidecar.Profiles.checkSchema(f, p.Field("sidecar").Field("profiles"))
		}
	})
}

func (b *Backend) checkSchema(f *resource.Faults, p resource.Path) {
	if b.Prometheus != nil {
		p := p.Field("prometheus")
		if b.Prometheus.TLS != nil {
			f.OneOf(p.Field("tls").Field("mode"), b.Prometheus.TLS.Mode, TLSDisabled, TLSProvided, TLSActiveMTLSBackend)
		}
		if b.Prometheus.Path == nil {
			f.Add(p.Field("path"), "in body is required")
		}
		if b.Prometheus.Port == nil {
			f.Add(p.Field("port"), "in body is required")
		}
	}
	policy.NeedOneOf(f, p.Field("type"), b.Type, BackendPrometheus, BackendOpenTelemetry)
}

func (s *Profiles) checkSchema(f *resource.Faults, p resource.Path) {
	if s == nil {
		return
	}
	for i, profile := range s.AppendProfiles {
		policy.NeedOneOf(f, p.Field("appendProfiles").Index(i).Field("name"), profile.Name, ProfileAll, ProfileBasic, ProfileNone)
	}
	each := func(p resource.Path, selectors []Selector) {
		for i, s := range selectors {
			policy.NeedOneOf(f, p.Index(i).Field("type"), s.Type, SelectPrefix, SelectRegex, SelectExact, SelectContains)
		}
	}
	each(p.Field("exclude"), s.Exclude)
	each(p.Field("include"), s.Include)
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.12).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway},
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.Sidecar != nil {
			c.Sidecar.Profiles.validate(f, p.Field("sidecar").Field("profiles"))
		}
		for i, a := range c.Applications {
			checkPort(f, p.Field("applications").Index(i).Field("port"), a.Port)
		}
		for i := range c.Backends {
			c.Backends[i].validate(f, p.Field("backends").Index(i))
		}
	})
}

func (s *Profiles) validate(f *resource.Faults, p resource.Path) {
	if s == nil {
		return
	}
	each := func(p resource.Path, selectors []Selector) {
		for i, s := range selectors {
			if _, err := regexp.Compile(s.Match); s.Type == SelectRegex && err != nil {
				f.Add(p.Index(i).Field("match"), "invalid regex")
			}
		}
	}
	each(p.Field("exclude"), s.Exclude)
	each(p.Field("include"), s.Include)
}

func (b *Backend) validate(f *resource.Faults, p resource.Path) {
	switch b.Type {
	case BackendPrometheus:
		p := p.Field("prometheus")
		if b.Prometheus == nil {
			f.Add(p, "must be defined")
			return
		}
		checkPort(f, p.Field("port"), b.Prometheus.Port)
	case BackendOpenTelemetry:
		p := p.Field("openTelemetry")
		if b.OpenTelemetry == nil {
			f.Add(p, "must be defined")
			return
		}
		checkEndpoint(f, p.Field("endpoint"), b.OpenTelemetry.Endpoint)
		f.AboveZero(p.Field("refreshInterval"), b.OpenTelemetry.RefreshInterval)
	}
}

// checkPort wants a port; an absent one is 0.
func checkPort(f *resource.Faults, p resource.Path, port *uint32) {
	if port == nil || *port < 1 || *port > 65535 {
		f.Add(p, "port must be a valid (1-65535)")
	}
}

// checkEndpoint wants host, host:port and possibly a path, without a scheme: the protocol is always gRPC.
func checkEndpoint(f *resource.Faults, p resource.Path, endpoint string) {
	if strings.Contains(endpoint, "://") {
		f.Add(p, "must not use schema")
		return
	}
	if u, err := url.Parse("//" + endpoint); err != nil || u.Hostname() == "" {
		f.Add(p, "must be a valid url")
	}
}
