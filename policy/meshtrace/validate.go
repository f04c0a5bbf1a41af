package meshtrace

import (
	"net/url"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		p = p.Field("backends")
		for i := range c.Backends {
			c.Backends[i].checkSchema(f, p.Index(i))
		}
		if len(c.Backends) > 1 {
			f.Add(p, "in body should have at most 1 items")
		}
	})
}

func (b *Backend) checkSchema(f *resource.Faults, p resource.Path) {
	if b.OpenTelemetry != nil {
		policy.NeedText(f, p.Field("openTelemetry").Field("endpoint"), b.OpenTelemetry.Endpoint)
	}
	policy.NeedOneOf(f, p.Field("type"), b.Type, BackendZipkin, BackendDatadog, BackendOpenTelemetry)
	if b.Zipkin != nil {
		f.OneOf(p.Field("zipkin").Field("apiVersion"), b.Zipkin.APIVersion, APIVersionJSON, APIVersionProto)
	}
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.13).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{Top: policy.AnyTop(), TopSystem: []string{policy.MeshGateway}}
	return policy.Validate(s, meta, grammar, validateConf)
}

// Advice implements policy.Advised.
func (s *Spec) Advice() []resource.Violation {
	return policy.Advise(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i, b := range c.Backends {
			if b.Type == BackendOpenTelemetry && newBackend(b) == nil {
				f.Add(p.Field("backends").Index(i).Field("openTelemetry").Field("endpoint"), "it has no host, no spans are made")
			}
		}
	})
}

func validateConf(f *resource.Faults, p resource.Path, c *Conf) {
	if c.Backends == nil {
		f.Add(p.Field("backends"), "must be defined")
	}
	for i := range c.Backends {
		c.Backends[i].validate(f, p.Field("backends").Index(i))
	}
	if s := c.Sampling; s != nil {
		p := p.Field("sampling")
		checkPercent(f, p.Field("overall"), s.Overall)
		checkPercent(f, p.Field("client"), s.Client)
		checkPercent(f, p.Field("random"), s.Random)
	}
	for i, tag := range c.Tags {
		tag.validate(f, p.Field("tags").Index(i))
	}
}

// checkPercent is policy.CheckDecimalPercent with the text of this kind.
func checkPercent(f *resource.Faults, p resource.Path, v *resource.IntOrString) {
	if v == nil {
		return
	}
	switch n, ok := policy.Decimal(*v); {
	case !ok:
		f.Add(p, "string must be a valid number")
	case n < 0 || n > 100:
		f.Add(p, "must be between 0 and 100")
	}
}

func (b *Backend) validate(f *resource.Faults, p resource.Path) {
	switch b.Type {
	case BackendZipkin:
		p := p.Field("zipkin")
		if b.Zipkin == nil {
			f.Add(p, "must be defined")
			return
		}
		checkURL(f, p.Field("url"), b.Zipkin.URL)
	case BackendDatadog:
		p := p.Field("datadog")
		if b.Datadog == nil {
			f.Add(p, "must be defined")
			return
		}
		p = p.Field("url")
		if u := checkURL(f, p, b.Datadog.URL); u != nil {
			if u.Scheme != "http" {
				f.Add(p, "scheme must be http")
			}
			if u.Port() == "" {
				f.Add(p, "port must be defined")
			}
		}
	case BackendOpenTelemetry:
		if b.OpenTelemetry == nil {
			f.Add(p.Field("openTelemetry"), "must be defined")
		}
	}
}

// checkURL returns nil for what is no absolute URL with a host.
func checkURL(f *resource.Faults, p resource.Path, s string) *url.URL {
	if s == "" {
		f.Add(p, "must not be empty")
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		f.Add(p, "must be a valid url")
		return nil
	}
	return u
}

func (t Tag) validate(f *resource.Faults, p resource.Path) {
	if t.Name == "" {
		f.Add(p.Field("name"), "must not be empty")
	}
	if (t.Literal == nil) == (t.Header == nil) {
		f.Add(p, "tag must have only one type defined: header, literal")
		return
	}
	if t.Header != nil && t.Header.Name == "" {
		f.Add(p.Field("header").Field("name"), "must not be empty")
	}
}
