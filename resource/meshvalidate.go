package resource

import (
	"encoding/json"
	"fmt"
	"time"
)

// Validate applies contract policies.md §2.8 and controlplane.md §5.1. It cannot see secrets and files: whether a
// provided certificate is fit to sign is checked where it is loaded.
func (m *Mesh) Validate(meta *Meta) []Violation {
	var f Faults
	if m.MTLS != nil {
		m.MTLS.validate(&f, meta.Name)
	}
	if m.Logging != nil {
		m.Logging.validate(&f, "logging")
	}
	if m.Tracing != nil {
		m.Tracing.validate(&f, "tracing")
	}
	validateMetrics(&f, "metrics", m.Metrics)
	if m.Routing != nil && m.Routing.ZoneEgress && (m.MTLS == nil || m.MTLS.EnabledBackend == "") {
		f.Add("mtls", "has to be set when zoneEgress enabled")
	}
	if c := m.Constraints; c != nil && c.DataplaneProxy != nil {
		p := Path("constraints").Field("dataplaneProxy")
		validateTagRules(&f, p.Field("requirements"), c.DataplaneProxy.Requirements)
		validateTagRules(&f, p.Field("restrictions"), c.DataplaneProxy.Restrictions)
	}
	if m.MeshServices != nil {
		f.OneOf("meshServices.mode", m.MeshServices.Mode,
			MeshServicesDisabled, MeshServicesEverywhere, MeshServicesReachableBackends, MeshServicesExclusive)
	}
	return f
}

// validateMetrics checks the names of the older backends for metrics and the choice of one; the rest of their bodies is
// stored as it is.
func validateMetrics(f *Faults, p Path, raw json.RawMessage) {
	var metrics map[string]json.RawMessage
	var backends []struct {
		Name string `json:"name"`
	}
	var enabled string
	if !decodeConf(f, p, raw, &metrics) ||
		!decodeConf(f, p.Field("backends"), metrics["backends"], &backends) ||
		!decodeConf(f, p.Field("enabledBackend"), metrics["enabledBackend"], &enabled) {
		return
	}
	names := make([]string, len(backends))
	for i, b := range backends {
		names[i] = b.Name
	}
	validateChoice(f, p, names, "enabledBackend", enabled, "has to be set to one of the backends in the mesh")
}

// ValidateMeshChange returns what forbids to replace old by new: the authority of a mesh cannot be exchanged while it is
// in force, for the proxies would not trust each other (contract controlplane.md §5.1), but by a rotation, where both are
// trusted before and after.
func ValidateMeshChange(old, new *Mesh) []Violation {
	before, after := old.EnabledBackend(), new.EnabledBackend()
	if before == nil || after == nil || before.Name == after.Name {
		return nil
	}
	reason := "Changing CA when mTLS is enabled is forbidden. Disable mTLS first and then change the CA"
	if old.MTLS.Rotation != nil && new.MTLS.Rotation != nil {
		if old.MTLS.backend(after.Name) != nil && new.MTLS.backend(before.Name) != nil {
			return nil
		}
		reason = fmt.Sprintf("backends %q and %q must both be there before and after the change: see `kumactl rotate authority`", before.Name, after.Name)
	}
	return []Violation{{Field: "mtls.enabledBackend", Reason: reason}}
}

func (m *MTLS) validate(f *Faults, mesh string) {
	p := Path("mtls")
	switch r := m.Rotation; {
	case r == nil && len(m.Backends) > 1:
		f.Add(p.Field("backends"), "cannot have more than 1 backends")
	case r == nil:
	case len(m.Backends) > 2:
		f.Add(p.Field("backends"), "cannot have more than 2 backends during a rotation")
	case m.EnabledBackend == "":
		f.Add(p.Field("rotation"), "needs an enabledBackend")
	case m.backend(r.To) == nil:
		f.Add(p.Field("rotation").Field("to"), "has to be set to one of the backends in the mesh")
	}
	seen := map[string]bool{}
	for i, b := range m.Backends {
		p := p.Field("backends").Index(i)
		if seen[b.Name] {
			f.Add(p.Field("name"), fmt.Sprintf("%q name is already used for another backend", b.Name))
		}
		seen[b.Name] = true
		b.validate(f, p, mesh, m.SkipValidation)
	}
	if m.EnabledBackend != "" && !seen[m.EnabledBackend] {
		f.Add(p.Field("enabledBackend"), "has to be set to one of the backends in the mesh")
	}
}

func (b *MTLSBackend) validate(f *Faults, p Path, mesh string, skipConf bool) {
	// The name becomes part of the names of two secrets.
	switch secret := mesh + ".ca-builtin-cert-" + b.Name; {
	case b.Name == "":
		f.Add(p.Field("name"), "cannot be empty")
	case !isSubdomain(b.Name) || len(secret) > 255:
		f.Add(p.Field("name"), badSubdomain)
	}
	f.OneOf(p.Field("mode"), b.Mode, MTLSStrict, MTLSPermissive)
	if b.DpCert != nil {
		if b.DpCert.Rotation == nil || !isRotation(b.DpCert.Rotation.Expiration) {
			f.Add(p.Field("dpcert").Field("rotation").Field("expiration"), "has to be a valid format")
		}
		validateTimeout(f, p.Field("dpcert").Field("requestTimeout"), b.DpCert.RequestTimeout)
	}
	if b.RootChain != nil {
		validateTimeout(f, p.Field("rootChain").Field("requestTimeout"), b.RootChain.RequestTimeout)
	}
	switch b.Type {
	case BackendBuiltin:
		b.validateBuiltin(f, p.Field("conf"))
	case BackendProvided:
		if !skipConf {
			b.validateProvided(f, p.Field("conf"))
		}
	default:
		f.Add(p.Field("type"), "could not find installed plugin for this type")
	}
}

// RSA sizes: less is unsafe, more keeps the control plane busy for minutes.
const minRSABits, maxRSABits = 2048, 8192

func (b *MTLSBackend) validateBuiltin(f *Faults, p Path) {
	var conf BuiltinConf
	if !decodeConf(f, p, b.Conf, &conf) || conf.CACert == nil {
		return
	}
	p = p.Field("caCert")
	if n := conf.CACert.RSABits; n != 0 && (n < minRSABits || n > maxRSABits) {
		f.Add(p.Field("RSAbits"), fmt.Sprintf("must be in inclusive range [%d, %d]", minRSABits, maxRSABits))
	}
	f.OneOf(p.Field("keyType"), conf.CACert.KeyType, KeyRSA, KeyECDSA)
	if e := conf.CACert.Expiration; e != "" && !isRotation(e) {
		f.Add(p.Field("expiration"), "has to be a valid format")
	}
}

func (b *MTLSBackend) validateProvided(f *Faults, p Path) {
	var conf ProvidedConf
	if !decodeConf(f, p, b.Conf, &conf) {
		return
	}
	before := len(*f)
	conf.Cert.validate(f, p.Field("cert"))
	conf.Key.validate(f, p.Field("key"))
	if len(*f) > before {
		return
	}
	if cert, key := conf.Cert.inMesh(), conf.Key.inMesh(); cert != nil && key != nil {
		validateAuthority(f, p.Field("cert"), cert, key)
	}
}

func (d *DataSource) validate(f *Faults, p Path) {
	if d == nil {
		f.Add(p, "has to be defined")
		return
	}
	set := 0
	for _, given := range []bool{d.Secret != "", d.File != "", len(d.Inline) > 0, d.InlineString != ""} {
		if given {
			set++
		}
	}
	if set != 1 {
		f.Add(p, "exactly one of secret, file, inline, inlineString has to be defined")
	}
}

// decodeConf reads a backend's conf and tells whether that went well; an absent one is empty.
func decodeConf(f *Faults, p Path, raw json.RawMessage, into any) bool {
	if !present(raw) {
		return true
	}
	err := json.Unmarshal(raw, into)
	if err == nil {
		return true
	}
	faults := typeFaults(raw, into, p)
	if len(faults) == 0 {
		faults = []Violation{{Field: string(p), Reason: err.Error()}}
	}
	*f = append(*f, faults...)
	return false
}

func isRotation(s string) bool {
	d, err := ParseDuration(s)
	return err == nil && d > 0
}

// validateTimeout checks a duration of the older kinds, such as "10s".
func validateTimeout(f *Faults, p Path, s string) {
	if s == "" {
		return
	}
	if d, err := time.ParseDuration(s); err != nil || d <= 0 {
		f.Add(p, "has to be a duration of more than zero, such as 10s")
	}
}

func validateTagRules(f *Faults, p Path, rules []TagRule) {
	for i, rule := range rules {
		p := p.Index(i).Field("tags")
		if len(rule.Tags) == 0 {
			f.Add(p, "must have at least one tag")
		}
		validateTags(f, p, rule.Tags, isTagPattern)
	}
}
