package meshmetric

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// defaultInterval is the time between two pushes.
const defaultInterval = time.Minute

// What the agent is told. The order of the members is that of Kuma, whose answers are compared as text (contract
// effects-security.md §6).
type (
	dynamic struct {
		Observability struct {
			Metrics metrics `json:"metrics"`
		} `json:"observability"`
	}
	metrics struct {
		Applications []application     `json:"applications"`
		Backends     []dynamicBackend  `json:"backends"`
		Sidecar      *Sidecar          `json:"sidecar,omitempty"`
		ExtraLabels  map[string]string `json:"extraLabels"`
	}
	application struct {
		Name    *string `json:"name,omitempty"`
		Path    string  `json:"path"`
		Port    uint32  `json:"port"`
		Address string  `json:"address"`
	}
	dynamicBackend struct {
		Type          string   `json:"type"`
		Name          *string  `json:"name"`
		OpenTelemetry *dynOTel `json:"openTelemetry,omitempty"`
	}
	dynOTel struct {
		Endpoint        string `json:"endpoint"`
		RefreshInterval string `json:"refreshInterval"`
	}
)

func (c *Conf) body(env effect.Env) ([]byte, error) {
	m := metrics{Sidecar: c.Sidecar, ExtraLabels: extraLabels(env)}
	for _, a := range c.Applications {
		out := application{Name: a.Name, Path: "/metrics"}
		if a.Path != nil {
			out.Path = cmp.Or(*a.Path, out.Path)
		}
		if a.Port != nil {
			out.Port = *a.Port
		}
		if a.Address != nil {
			out.Address = *a.Address
		}
		m.Applications = append(m.Applications, out)
	}
	if c.has(BackendPrometheus) {
		m.Backends = append(m.Backends, dynamicBackend{Type: BackendPrometheus})
	}
	for _, b := range c.Backends {
		o := b.OpenTelemetry
		if b.Type != BackendOpenTelemetry || o == nil {
			continue
		}
		if _, _, ok := effect.SplitCollector(o.Endpoint); !ok {
			continue
		}
		interval := defaultInterval
		if o.RefreshInterval != nil {
			interval = o.RefreshInterval.Duration
		}
		m.Backends = append(m.Backends, dynamicBackend{
			Type: BackendOpenTelemetry, Name: new(o.name()),
			OpenTelemetry: &dynOTel{Endpoint: o.socket(env), RefreshInterval: interval.String()},
		})
	}
	doc := dynamic{}
	doc.Observability.Metrics = m
	return json.Marshal(doc)
}

// extraLabels are, for every tag of the proxy, its first value, and all values in the plural.
func extraLabels(env effect.Env) map[string]string {
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(env.Tags)) { // two keys may give one name
		values, name := env.Tags[key], labelName(key)
		out[name] = values[0]
		out[name+"s"] = "," + strings.Join(values, ",") + ","
	}
	return out
}

// labelName replaces what a label of Prometheus cannot have.
func labelName(tag string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, tag)
}
