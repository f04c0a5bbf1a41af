package resource

import (
	"fmt"
	"regexp"
	"strings"
)

const empty = "cannot be empty"

// Validate checks selectors, tags and listeners, and that listeners of one port agree.
func (g *MeshGateway) Validate(*Meta) []Violation {
	var f Faults
	validateSelectors(&f, "selectors", g.Selectors, true)
	if _, ok := g.Tags[TagService]; ok {
		f.Add(Path("tags").Key(TagService), `tag name must not be "kuma.io/service"`)
	}
	validateTags(&f, "tags", g.Tags, isListenerTag)
	if g.Conf == nil {
		f.Add("conf", empty)
		return f
	}
	listeners := Path("conf.listeners")
	if len(g.Conf.Listeners) == 0 {
		f.Add(listeners, empty)
	}
	for i := range g.Conf.Listeners {
		g.Conf.Listeners[i].validate(&f, listeners.Index(i))
	}
	g.Conf.validatePorts(&f, listeners)
	return f
}

func (l *GatewayListener) validate(f *Faults, p Path) {
	f.port(p.Field("port"), l.Port)
	switch l.Protocol {
	case "", "NONE":
		f.Add(p.Field("protocol"), empty)
	case GatewayHTTP, GatewayHTTPS, GatewayTCP, GatewayTLSIn:
	default:
		f.OneOf(p.Field("protocol"), l.Protocol, GatewayTCP, GatewayTLSIn, GatewayHTTP, GatewayHTTPS)
	}
	validateHostname(f, p.Field("hostname"), l.Hostname)
	l.validateTLS(f, p.Field("tls"))
	if l.CrossMesh {
		if l.Protocol != GatewayHTTP {
			f.Add(p.Field("protocol"), "must be HTTP when crossMesh is set")
		}
		if strings.HasPrefix(l.Hostname, "*") {
			f.Add(p.Field("hostname"), "must not be a wildcard when crossMesh is set")
		}
	}
	if _, ok := l.Tags[TagService]; ok {
		f.Add(p.Field("tags").Key(TagService), `tag name must not be "kuma.io/service"`)
	}
	validateTags(f, p.Field("tags"), l.Tags, isListenerTag)
}

func (l *GatewayListener) validateTLS(f *Faults, p Path) {
	if l.TLS == nil {
		if l.Protocol == GatewayHTTPS || l.Protocol == GatewayTLSIn {
			f.Add(p, empty)
		}
		return
	}
	certificates := p.Field("certificates")
	switch l.TLS.Mode {
	case "", "NONE":
		f.Add(p.Field("mode"), empty)
	case GatewayPassthrough:
		if l.Protocol == GatewayHTTPS {
			f.Add(p.Field("mode"), "mode is not supported on HTTPS listeners")
		}
		if len(l.TLS.Certificates) > 0 {
			f.Add(certificates, "must be empty in TLS passthrough mode")
		}
	case GatewayTerminate:
		if len(l.TLS.Certificates) == 0 {
			f.Add(certificates, "cannot be empty in TLS termination mode")
		}
	default:
		f.OneOf(p.Field("mode"), l.TLS.Mode, GatewayTerminate, GatewayPassthrough)
	}
	for i, c := range l.TLS.Certificates {
		c.validate(f, certificates.Index(i))
	}
}

// validatePorts finds listeners of one port that cannot be served together.
func (c *GatewayConf) validatePorts(f *Faults, p Path) {
	first := map[uint32]GatewayListener{}
	hosts := map[string]bool{}
	for i, l := range c.Listeners {
		p := p.Index(i)
		host := l.Hostname
		if host == "" {
			host = "*"
		}
		key := fmt.Sprintf("%d %s", l.Port, host)
		before, again := first[l.Port]
		switch {
		case !again:
			first[l.Port] = l
		case before.Protocol != l.Protocol:
			f.Add(p, "protocol conflicts with other listeners on this port")
		case hosts[key]:
			f.Add(p, "multiple listeners for hostname on this port")
		}
		hosts[key] = true
		if again && before.limit() != l.limit() {
			f.Add(p.Field("resources").Field("connectionLimit"), "conflicting values for this port")
		}
	}
}

func (l *GatewayListener) limit() uint32 {
	if l.Resources == nil {
		return 0
	}
	return l.Resources.ConnectionLimit
}

// validateHostname accepts a domain name, "*" and "*." before a domain name.
func validateHostname(f *Faults, p Path, host string) {
	if host == "" || host == "*" {
		return
	}
	if name := strings.TrimPrefix(host, "*."); !isHost(name) || isAddress(name) {
		f.Add(p, "invalid hostname")
	}
}

// validateSelectors wants one selector at least, each with a tag; with service set, kuma.io/service among them.
func validateSelectors(f *Faults, p Path, selectors []Selector, service bool) {
	if len(selectors) == 0 {
		f.Add(p, "must have at least one element")
	}
	for i, s := range selectors {
		validateSelector(f, p.Index(i).Field("match"), s.Match, service)
	}
}

func validateSelector(f *Faults, p Path, tags map[string]string, service bool) {
	if len(tags) == 0 {
		f.Add(p, "must have at least one tag")
	}
	validateTags(f, p, tags, isListenerTag)
	if _, ok := tags[TagService]; service && !ok {
		f.Add(p, `mandatory tag "kuma.io/service" is missing`)
	}
}

// Validate checks selectors and the one route.
func (r *MeshGatewayRoute) Validate(*Meta) []Violation {
	var f Faults
	validateSelectors(&f, "selectors", r.Selectors, false)
	switch {
	case r.Conf == nil || r.Conf.HTTP == nil && r.Conf.TCP == nil:
		f.Add("conf", empty)
	case r.Conf.HTTP != nil && r.Conf.TCP != nil:
		f.Add("conf", "must have exactly one defined: http, tcp")
	case r.Conf.HTTP != nil:
		r.Conf.HTTP.validate(&f, "conf.http")
	default:
		rules := Path("conf.tcp.rules")
		if len(r.Conf.TCP.Rules) == 0 {
			f.Add(rules, empty)
		}
		for i, rule := range r.Conf.TCP.Rules {
			validateBackends(&f, rules.Index(i).Field("backends"), rule.Backends, true)
		}
	}
	return f
}

func (r *GatewayHTTPRoute) validate(f *Faults, p Path) {
	for i, host := range r.Hostnames {
		if host == "" {
			f.Add(p.Field("hostnames").Index(i), empty)
		}
		validateHostname(f, p.Field("hostnames").Index(i), host)
	}
	rules := p.Field("rules")
	if len(r.Rules) == 0 {
		f.Add(rules, empty)
	}
	for i := range r.Rules {
		r.Rules[i].validate(f, rules.Index(i))
	}
}

func (r *GatewayHTTPRule) validate(f *Faults, p Path) {
	if len(r.Matches) == 0 {
		f.Add(p.Field("matches"), empty)
	}
	prefixes := len(r.Matches) > 0
	for i, m := range r.Matches {
		m.validate(f, p.Field("matches").Index(i))
		prefixes = prefixes && m.Path != nil && m.Path.Match == "PREFIX"
	}
	redirects := false
	for i, filter := range r.Filters {
		filter.validate(f, p.Field("filters").Index(i), prefixes)
		redirects = redirects || filter.Redirect != nil
	}
	validateBackends(f, p.Field("backends"), r.Backends, !redirects)
}

func (m *GatewayMatch) validate(f *Faults, p Path) {
	if m.Path == nil && m.Method == "" && len(m.Headers) == 0 && len(m.QueryParameters) == 0 {
		f.Add(p, empty)
	}
	if m.Path != nil {
		at := p.Field("path")
		f.OneOf(at.Field("match"), m.Path.Match, "EXACT", "PREFIX", "REGEX")
		switch at = at.Field("value"); {
		case m.Path.Value == "":
			f.Add(at, empty)
		case m.Path.Match == "REGEX":
			validateRegex(f, at, m.Path.Value)
		case !strings.HasPrefix(m.Path.Value, "/"):
			f.Add(at, "must be an absolute path")
		}
	}
	f.OneOf(p.Field("method"), m.Method, "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
	for i, h := range m.Headers {
		h.validate(f, p.Field("headers").Index(i), "EXACT", "REGEX", "ABSENT", "PRESENT")
	}
	for i, q := range m.QueryParameters {
		q.validate(f, p.Field("queryParameters").Index(i), "EXACT", "REGEX")
	}
}

func (m *GatewayValueMatch) validate(f *Faults, p Path, kinds ...string) {
	f.OneOf(p.Field("match"), m.Match, kinds...)
	if m.Name == "" {
		f.Add(p.Field("name"), empty)
	}
	valueless := m.Match == "PRESENT" || m.Match == "ABSENT"
	switch {
	case valueless:
	case m.Value == "":
		f.Add(p.Field("value"), empty)
	case m.Match == "REGEX":
		validateRegex(f, p.Field("value"), m.Value)
	}
}

func validateRegex(f *Faults, p Path, expression string) {
	if _, err := regexp.Compile(expression); err != nil {
		f.Add(p, "invalid regular expression")
	}
}

// validate checks one filter; prefixes says that every match of the rule is by prefix.
func (g *GatewayFilter) validate(f *Faults, p Path, prefixes bool) {
	defined := 0
	for _, set := range []bool{g.RequestHeader != nil, g.ResponseHeader != nil, g.Mirror != nil, g.Redirect != nil, g.Rewrite != nil} {
		if set {
			defined++
		}
	}
	if defined != 1 {
		f.Add(p, "must have exactly one defined: requestHeader, responseHeader, mirror, redirect, rewrite")
	}
	g.RequestHeader.validate(f, p.Field("requestHeader"))
	g.ResponseHeader.validate(f, p.Field("responseHeader"))
	if m := g.Mirror; m != nil {
		p := p.Field("mirror")
		if m.Backend == nil {
			f.Add(p.Field("backend"), empty)
		} else {
			m.Backend.validate(f, p.Field("backend"))
		}
		if n := m.Percentage; n == nil || *n < 0 || *n > 100 {
			f.Add(p.Field("percentage"), "has to be in [0.0 - 100.0] range")
		}
	}
	g.Redirect.validate(f, p.Field("redirect"), prefixes)
	g.Rewrite.validate(f, p.Field("rewrite"), prefixes)
}

func (h *GatewayHeaders) validate(f *Faults, p Path) {
	if h == nil {
		return
	}
	if len(h.Set)+len(h.Add)+len(h.Remove) == 0 {
		f.Add(p, empty)
	}
	for _, list := range []struct {
		name    string
		headers []GatewayHeader
	}{{"set", h.Set}, {"add", h.Add}} {
		for i, header := range list.headers {
			p := p.Field(list.name).Index(i)
			if header.Name == "" {
				f.Add(p.Field("name"), empty)
			}
			if header.Value == "" {
				f.Add(p.Field("value"), empty)
			}
		}
	}
	for i, name := range h.Remove {
		if name == "" {
			f.Add(p.Field("remove").Index(i), empty)
		}
	}
}

func (r *GatewayRedirect) validate(f *Faults, p Path, prefixes bool) {
	if r == nil {
		return
	}
	f.OneOf(p.Field("scheme"), r.Scheme, "http", "https")
	validateHostname(f, p.Field("hostname"), r.Hostname)
	if r.Port > 65535 {
		f.port(p.Field("port"), r.Port)
	}
	if r.StatusCode < 300 || r.StatusCode > 308 {
		f.Add(p.Field("statusCode"), "must be in the range [300, 308]")
	}
	r.Path.validate(f, p.Field("path"), prefixes)
}

func (r *GatewayRewrite) validate(f *Faults, p Path, prefixes bool) {
	switch {
	case r == nil:
		return
	case r.ReplaceFull != nil && r.ReplacePrefixMatch != nil:
		f.Add(p, "must have only one type defined: replaceFull, replacePrefixMatch")
	case r.ReplaceFull == nil && r.ReplacePrefixMatch == nil && !r.HostToBackendHostname:
		f.Add(p, empty)
	}
	if r.ReplacePrefixMatch != nil && !prefixes {
		f.Add(p.Field("replacePrefixMatch"), "cannot be used without a match on path prefix")
	}
}

func validateBackends(f *Faults, p Path, backends []GatewayBackend, required bool) {
	if required && len(backends) == 0 {
		f.Add(p, empty)
	}
	for i := range backends {
		backends[i].validate(f, p.Index(i))
	}
}

func (b *GatewayBackend) validate(f *Faults, p Path) {
	validateSelector(f, p.Field("destination"), b.Destination, true)
}
