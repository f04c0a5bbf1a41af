package resource

import "slices"

// tlsVersions in ascending order.
var tlsVersions = []string{"TLSAuto", "TLS10", "TLS11", "TLS12", "TLS13"}

// CheckSchema checks the enumerations and the range of the port (contract policies.md §1.3, §2.5).
func (s *MeshExternalService) CheckSchema() []Violation {
	var f Faults
	match := Path("spec.match")
	switch port := match.Field("port"); {
	case s.Match.Port < 1:
		f.Add(port, "in body should be greater than or equal to 1")
	case s.Match.Port > 65535:
		f.Add(port, "in body should be less than or equal to 65535")
	}
	f.OneOf(match.Field("protocol"), s.Match.Protocol, "tcp", "grpc", "http", "http2")
	if s.TLS == nil {
		return f
	}
	tls := Path("spec.tls")
	if v := s.TLS.Version; v != nil {
		f.OneOf(tls.Field("version").Field("min"), v.Min, tlsVersions...)
		f.OneOf(tls.Field("version").Field("max"), v.Max, tlsVersions...)
	}
	if v := s.TLS.Verification; v != nil {
		p := tls.Field("verification")
		f.OneOf(p.Field("mode"), v.Mode, VerifySkipSAN, VerifySkipCA, VerifySecured, VerifySkipAll)
		for i, san := range v.SubjectAltNames {
			f.OneOf(p.Field("subjectAltNames").Index(i).Field("type"), san.Type, "Exact", "Prefix")
		}
	}
	return f
}

// Validate applies contract policies.md §2.5. The length of the name is checked with the name.
func (s *MeshExternalService) Validate(*Meta) []Violation {
	var f Faults
	match := Path("spec.match")
	if t := s.Match.Type; t != "" && t != MatchHostnameGenerator {
		f.Add(match.Field("type"), "unrecognized type '"+t+"' - only '"+MatchHostnameGenerator+"' is supported")
	}
	f.externalPort(match.Field("port"), s.Match.Port)
	if s.Match.Protocol == "" {
		f.Add(match.Field("protocol"), `"protocol" must be one of ["tcp", "grpc", "http", "http2"]`)
	}
	if s.Extension != nil && s.Extension.Type == "" {
		f.Add("spec.extension.type", "must not be empty")
	}
	for i, e := range s.Endpoints {
		p := Path("spec.endpoints").Index(i)
		if !isHost(e.Address) {
			f.Add(p.Field("address"), "address has to be a valid IP or hostname")
		}
		f.externalPort(p.Field("port"), e.Port)
	}
	if s.TLS != nil {
		s.TLS.validate(&f, "spec.tls")
	}
	return f
}

func (f *Faults) externalPort(p Path, n uint32) {
	if n < 1 || n > 65535 {
		f.Add(p, "port must be a valid (1-65535)")
	}
}

func (t *ExternalTLS) validate(f *Faults, p Path) {
	if v := t.Version; v != nil {
		// TLSAuto, the first, is no bound.
		if lowest, highest := slices.Index(tlsVersions, v.Min), slices.Index(tlsVersions, v.Max); highest > 0 && lowest > highest {
			f.Add(p.Field("version").Field("min"), "min version must be lower than max")
		}
	}
	v := t.Verification
	if v == nil {
		return
	}
	p = p.Field("verification")
	if v.ServerName != "" && !isSubdomain(v.ServerName) {
		f.Add(p.Field("serverName"), "must be a valid DNS name")
	}
	v.CACert.validate(f, p.Field("caCert"))
	v.ClientCert.validate(f, p.Field("clientCert"))
	v.ClientKey.validate(f, p.Field("clientKey"))
	switch {
	case v.ClientCert != nil && v.ClientKey == nil:
		f.Add(p.Field("clientKey"), "must be defined when clientCert is defined")
	case v.ClientCert == nil && v.ClientKey != nil:
		f.Add(p.Field("clientCert"), "must be defined when clientKey is defined")
	}
}

// validate wants exactly one source: what names none could only fail later, in the configuration of a proxy.
func (d *SecretDataSource) validate(f *Faults, p Path) {
	if d == nil {
		return
	}
	sources := 0
	for _, given := range []bool{d.Secret != "", len(d.Inline) > 0, d.InlineString != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		f.Add(p, "exactly one of secret, inline and inlineString must be defined")
	}
}
