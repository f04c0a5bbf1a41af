package meshaccesslog

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i := range c.Backends {
			c.Backends[i].checkSchema(f, p.Field("backends").Index(i))
		}
	})
}

func (b *Backend) checkSchema(f *resource.Faults, p resource.Path) {
	if b.File != nil {
		b.File.Format.checkSchema(f, p.Field("file").Field("format"))
		policy.NeedText(f, p.Field("file").Field("path"), b.File.Path)
	}
	if b.OpenTelemetry != nil {
		policy.NeedText(f, p.Field("openTelemetry").Field("endpoint"), b.OpenTelemetry.Endpoint)
	}
	if b.TCP != nil {
		policy.NeedText(f, p.Field("tcp").Field("address"), b.TCP.Address)
		b.TCP.Format.checkSchema(f, p.Field("tcp").Field("format"))
	}
	policy.NeedOneOf(f, p.Field("type"), b.Type, BackendTCP, BackendFile, BackendOpenTelemetry)
}

func (t *Format) checkSchema(f *resource.Faults, p resource.Path) {
	if t != nil {
		policy.NeedOneOf(f, p.Field("type"), t.Type, FormatPlain, FormatJSON)
	}
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.11).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top: append(policy.AnyTop(), policy.MeshGateway),
		To: func(top policy.TargetRef) []string {
			if top.Kind == policy.MeshGateway {
				return []string{policy.Mesh}
			}
			return []string{policy.Mesh, policy.MeshService, policy.MeshExternalService, policy.MeshMultiZoneService}
		},
		From:        func(policy.TargetRef) []string { return []string{policy.Mesh} },
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		p = p.Field("backends")
		if c.Backends == nil {
			f.Add(p, "must be defined")
		}
		for i := range c.Backends {
			c.Backends[i].validate(f, p.Index(i))
		}
	})
}

// Advice implements policy.Advised.
func (s *Spec) Advice() []resource.Violation {
	return policy.Advise(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i, b := range c.Backends {
			if o := b.OpenTelemetry; b.Type == BackendOpenTelemetry && o != nil {
				o.advise(f, p.Field("backends").Index(i).Field("openTelemetry"))
			}
		}
	})
}

func (o *OpenTelemetry) advise(f *resource.Faults, p resource.Path) {
	if _, _, ok := effect.SplitCollector(o.Endpoint); !ok {
		f.Add(p.Field("endpoint"), "it has no host, nothing is sent")
	}
	if !textual(o.body("", nil)) {
		f.Add(p.Field("body"), "Envoy refuses the listener with values other than stringValue, arrayValue and kvlistValue: write numbers as texts")
	}
}

func (b *Backend) validate(f *resource.Faults, p resource.Path) {
	switch b.Type {
	case BackendFile:
		p := p.Field("file")
		if b.File == nil {
			f.Add(p, "must be defined")
			return
		}
		if !isFilePath(b.File.Path) {
			f.Add(p.Field("path"), "file backend requires a valid path")
		}
		b.File.Format.validate(f, p.Field("format"))
	case BackendTCP:
		p := p.Field("tcp")
		if b.TCP == nil {
			f.Add(p, "must be defined")
			return
		}
		if !isAddress(b.TCP.Address) {
			f.Add(p.Field("address"), "tcp backend requires valid address")
		}
		b.TCP.Format.validate(f, p.Field("format"))
	case BackendOpenTelemetry:
		p := p.Field("openTelemetry")
		if b.OpenTelemetry == nil {
			f.Add(p, "must be defined")
		}
	}
}

func (t *Format) validate(f *resource.Faults, p resource.Path) {
	switch {
	case t == nil:
	case t.Type == FormatPlain:
		p := p.Field("plain")
		switch {
		case t.Plain == nil:
			f.Add(p, "must be defined")
		case *t.Plain == "":
			f.Add(p, "must not be empty")
		}
	case t.Type == FormatJSON:
		p := p.Field("json")
		switch {
		case t.JSON == nil:
			f.Add(p, "must be defined")
		case len(t.JSON) == 0:
			f.Add(p, "must not be empty")
		}
		for i, member := range t.JSON {
			member.validate(f, p.Index(i))
		}
	}
}

func (m KeyValue) validate(f *resource.Faults, p resource.Path) {
	if m.Key == "" {
		f.Add(p.Field("key"), "key cannot be empty")
	}
	if m.Value == "" {
		f.Add(p.Field("value"), "value cannot be empty")
	}
	// Kuma puts key and value between quotes as they are.
	if !json.Valid([]byte(`{"` + m.Key + `":"` + m.Value + `"}`)) {
		f.Add(p, "is not a valid JSON object")
	}
}

func isFilePath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.Contains(path, "\x00")
}

// isAddress wants host:port: nothing can be sent to less.
func isAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, " /\t\r\n\"") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
