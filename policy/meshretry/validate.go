package meshretry

import (
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.HTTP != nil {
			p := p.Field("http")
			checkResetHeaders(f, p, c.HTTP.RateLimitedBackOff)
			checkHeaders(f, p.Field("retriableResponseHeaders"), c.HTTP.RetriableResponseHeaders)
			checkHeaders(f, p.Field("retriableRequestHeaders"), c.HTTP.RetriableRequestHeaders)
		}
		if c.GRPC != nil {
			checkResetHeaders(f, p.Field("grpc"), c.GRPC.RateLimitedBackOff)
			for i, name := range c.GRPC.RetryOn {
				f.OneOf(p.Field("grpc").Field("retryOn").Index(i), name,
					"Canceled", "DeadlineExceeded", "Internal", "ResourceExhausted", "Unavailable")
			}
		}
	})
}

func checkResetHeaders(f *resource.Faults, p resource.Path, b *RateLimitedBackOff) {
	if b == nil {
		return
	}
	for i, h := range b.ResetHeaders {
		p := p.Field("rateLimitedBackOff").Field("resetHeaders").Index(i)
		checkHeaderName(f, p.Field("name"), h.Name)
		f.OneOf(p.Field("format"), h.Format, FormatSeconds, FormatUnixTimestamp)
	}
}

func checkHeaders(f *resource.Faults, p resource.Path, matches []HeaderMatch) {
	for i, m := range matches {
		f.OneOf(p.Index(i).Field("type"), m.Type, MatchExact, MatchPresent, MatchRegularExpression, MatchAbsent, MatchPrefix)
		checkHeaderName(f, p.Index(i).Field("name"), m.Name)
	}
}

// headerSyntax is the schema's expression for names of headers (contract policies.md §3.5).
const (
	headerSyntax    = "^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$"
	headerSymbols   = "!#$%&'*+-.^_`|~"
	maxHeaderLength = 256
)

func checkHeaderName(f *resource.Faults, p resource.Path, name string) {
	switch {
	case name == "":
		f.Add(p, "in body should be at least 1 chars long")
	case len(name) > maxHeaderLength:
		f.Add(p, "in body should be at most 256 chars long")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789"+headerSymbols) != "":
		f.Add(p, "in body should match '"+headerSyntax+"'")
	}
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.5).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway, policy.MeshHTTPRoute},
		To:          policy.ServicesUnlessGatewayOrRoute,
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		// The extra element is Kuma's.
		c.validate(f, p.Field("conf"))
	})
}

func (c *Conf) validate(f *resource.Faults, p resource.Path) {
	if *c == (Conf{}) {
		f.Add(p, "at least one of the 'tcp', 'http', 'grpc' must be specified")
	}
	if c.TCP != nil {
		if c.TCP.MaxConnectAttempt == nil {
			f.Add(p.Field("tcp").Field("maxConnectAttempt"), "must be defined")
		}
		f.Count(p.Field("tcp").Field("maxConnectAttempt"), c.TCP.MaxConnectAttempt)
	}
	if c.HTTP != nil {
		c.HTTP.validate(f, p.Field("http"))
	}
	if c.GRPC != nil {
		p := p.Field("grpc")
		f.AboveZero(p.Field("perTryTimeout"), c.GRPC.PerTryTimeout)
		c.GRPC.BackOff.validate(f, p.Field("backOff"))
		c.GRPC.RateLimitedBackOff.validate(f, p.Field("rateLimitedBackOff"))
	}
}

func (h *HTTP) validate(f *resource.Faults, p resource.Path) {
	f.AboveZero(p.Field("perTryTimeout"), h.PerTryTimeout)
	h.BackOff.validate(f, p.Field("backOff"))
	h.RateLimitedBackOff.validate(f, p.Field("rateLimitedBackOff"))
	for i, item := range h.RetryOn {
		if !isRetryOn(item) {
			f.Add(p.Field("retryOn").Index(i), "unknown item '"+item+"'")
		}
	}
	priorities := 0
	for i, s := range h.HostSelection {
		p := p.Field("hostSelection").Index(i)
		switch s.Predicate {
		case OmitPreviousHosts:
		case OmitHostsWithTags:
			if len(s.Tags) == 0 {
				f.Add(p.Field("tags"), "must be defined")
			}
		case OmitPreviousPriorities:
			if s.UpdateFrequency <= 0 {
				f.Add(p.Field("updateFrequency"), "must be greater than 0")
			}
			if priorities++; priorities == 2 {
				f.Add(p, "OmitPreviousPriorities must only be specified once")
			}
		default:
			f.Add(p.Field("predicate"), "unknown predicate type '"+s.Predicate+"'")
		}
	}
	if n := h.HostSelectionMaxAttempts; n != nil && *n < 1 {
		f.Add(p.Field("hostSelectionMaxAttempts"), "must be greater than 0")
	}
}

func isRetryOn(item string) bool {
	if HTTPConditions()[item] != "" {
		return true
	}
	if method, ok := strings.CutPrefix(item, MethodPrefix); ok {
		return Methods()[method] != ""
	}
	status, err := strconv.Atoi(item)
	return err == nil && isStatus(status)
}

// isStatus tells whether a status is registered. The list of net/http would bring a whole server along.
func isStatus(n int) bool {
	for _, r := range [][2]int{
		{100, 103},
		{200, 208},
		{226, 226},
		{300, 305},
		{307, 308},
		{400, 418},
		{421, 426},
		{428, 429},
		{431, 431},
		{451, 451},
		{500, 508},
		{510, 511},
	} {
		if n >= r[0] && n <= r[1] {
			return true
		}
	}
	return false
}

// Advice implements policy.Advised.
func (s *Spec) Advice() []resource.Violation {
	return policy.Advise(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.HTTP != nil {
			c.HTTP.BackOff.advise(f, p.Field("http").Field("backOff"))
		}
		if c.GRPC != nil {
			c.GRPC.BackOff.advise(f, p.Field("grpc").Field("backOff"))
		}
	})
}

func (b *BackOff) advise(f *resource.Faults, p resource.Path) {
	if b != nil && b.BaseInterval == nil {
		f.Add(p.Field("baseInterval"), "Envoy refuses the listener with a backOff that has none: set it, unless another policy does")
	}
}

func (b *BackOff) validate(f *resource.Faults, p resource.Path) {
	if b != nil {
		f.AboveZero(p.Field("baseInterval"), b.BaseInterval)
		f.AboveZero(p.Field("maxInterval"), b.MaxInterval)
	}
}

func (b *RateLimitedBackOff) validate(f *resource.Faults, p resource.Path) {
	if b == nil {
		return
	}
	if len(b.ResetHeaders) == 0 {
		f.Add(p.Field("resetHeaders"), "must be defined")
	}
	f.AboveZero(p.Field("maxInterval"), b.MaxInterval)
}
