package resource

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// ZoneInfo says what kind of control plane computes and checks labels.
type ZoneInfo struct {
	// Global is set on a global control plane, which names no zone.
	Global bool
	// Federated is set on a zone that has a global control plane.
	Federated bool
	// Zone is the name of this zone, "default" when none was configured.
	Zone string
	// Env is EnvUniversal (also when empty) or EnvKubernetes.
	Env string
}

// Values of the label kuma.io/env.
const (
	EnvUniversal  = "universal"
	EnvKubernetes = "kubernetes"
)

// ComputeLabels adds the labels that the control plane gives to a resource and leaves those that it has (contract
// policies.md §1.4). It is for resources of users: on creation, and for a Dataplane on update too. It gives r a new map
// of labels. The role of a policy on Kubernetes is not its business, see policy.ComputeRole.
func ComputeLabels(r *Resource, info ZoneInfo) {
	labels := maps.Clone(r.Labels)
	set := func(key, value string) {
		if _, given := labels[key]; given {
			return
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value
	}
	if scopeOf(r.Kind) == ScopeMesh {
		mesh := r.Mesh
		if mesh == "" {
			mesh = "default"
		}
		set(LabelMesh, mesh)
	}
	if !info.Global && creatableInZone(r.Kind) {
		set(LabelOrigin, OriginZone)
		if labels[LabelOrigin] != OriginGlobal {
			env := info.Env
			if env == "" {
				env = EnvUniversal
			}
			set(LabelZone, info.Zone)
			set(LabelEnv, env)
		}
	}
	r.Labels = labels
}

// ValidateLabels returns the faults of labels that depend on where they are written: a zone's own objects must not claim
// to be another zone's or another mesh's (contract policies.md §1.4). It is for requests of users, beside Validate.
func ValidateLabels(r *Resource, info ZoneInfo) []Violation {
	var f Faults
	origin := r.Labels[LabelOrigin]
	if info.Global || origin == OriginGlobal && !info.Federated {
		return nil
	}
	labels := Path("labels")
	if info.Federated && creatableInZone(r.Kind) && r.Kind != KindDataplane && origin != OriginZone {
		f.Add(labels.Key(LabelOrigin), "the origin label must be set to 'zone'")
	}
	if zone, ok := r.Labels[LabelZone]; ok && zone != info.Zone {
		f.Add(labels.Key(LabelZone), "kuma.io/zone label should have "+info.Zone+" value")
	}
	if mesh, ok := r.Labels[LabelMesh]; ok && scopeOf(r.Kind) == ScopeMesh && mesh != r.Mesh {
		f.Add(labels.Key(LabelMesh), "kuma.io/mesh label must not differ from mesh set on resource")
	}
	return f
}

// checkLabels adds the faults of labels that do not depend on the control plane.
func (f *Faults) checkLabels(labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value, p := labels[key], Path("labels").Key(key)
		if reason := badLabelKey(key); reason != "" {
			f.Add(p, reason)
		}
		if reason := badLabelValue(value); reason != "" && !computedLabel(key, value) {
			f.Add(p, reason)
		}
		if key == LabelOrigin && value != OriginGlobal && value != OriginZone {
			f.Add(p, `unknown resource origin "`+value+`"`)
		}
	}
}

// computedLabel tells whether a label is one that the control plane itself writes although Kubernetes would not take its
// value, the time of contract policies.md §1.4: whoever reads a generated MeshService must be able to write it back.
func computedLabel(key, value string) bool {
	if key != LabelGraceStart {
		return false
	}
	_, err := time.Parse(time.RFC3339, value)
	return err == nil
}

const (
	maxLabelName = 63
	badName      = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)

// badLabelKey applies the syntax of Kubernetes: an optional DNS name and "/", then a name.
func badLabelKey(key string) string {
	name := key
	if prefix, rest, ok := strings.Cut(key, "/"); ok {
		name = rest
		if prefix == "" || len(prefix) > maxNameLength || !isSubdomain(prefix) {
			return "prefix part must be a lowercase RFC 1123 subdomain of at most 253 characters"
		}
	}
	switch {
	case name == "":
		return "name part must be non-empty"
	case len(name) > maxLabelName:
		return "name part must be no more than 63 characters"
	case !isQualifiedName(name):
		return badName
	}
	return ""
}

func badLabelValue(value string) string {
	switch {
	case value == "":
		return ""
	case len(value) > maxLabelName:
		return "must be no more than 63 characters"
	case !isQualifiedName(value):
		return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', " +
			"and must start and end with an alphanumeric character"
	}
	return ""
}

func isQualifiedName(s string) bool {
	for i := range len(s) {
		edge := i == 0 || i == len(s)-1
		if !isAlnum(s[i]) && (edge || s[i] != '-' && s[i] != '_' && s[i] != '.') {
			return false
		}
	}
	return true
}
