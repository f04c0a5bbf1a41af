package metrics

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// configuration is what a MeshMetric policy says (contract agent.md §4.5).
type configuration struct {
	Applications []Application     `json:"applications"`
	Sidecar      sidecar           `json:"sidecar"`
	ExtraLabels  map[string]string `json:"extraLabels"`
	Backends     []struct {
		Type          string `json:"type"`
		Name          string `json:"name"`
		OpenTelemetry *struct {
			Endpoint        string `json:"endpoint"`
			RefreshInterval string `json:"refreshInterval"`
		} `json:"openTelemetry"`
	} `json:"backends"`
}

// collectors are the backends that are pushed to. Only sockets in dir are: the agent may open more than the control plane
// has to know of.
func (c *configuration) collectors(dir string) (out []openTelemetry, refused []string) {
	if c == nil {
		return nil, nil
	}
	for _, b := range c.Backends {
		if b.OpenTelemetry == nil {
			continue
		}
		endpoint := filepath.Clean(b.OpenTelemetry.Endpoint)
		if filepath.Dir(endpoint) != dir || !strings.HasPrefix(filepath.Base(endpoint), "kuma-otel-") {
			refused = append(refused, b.OpenTelemetry.Endpoint)
			continue
		}
		interval, err := time.ParseDuration(b.OpenTelemetry.RefreshInterval)
		if err != nil || interval <= 0 {
			interval = defaultInterval
		}
		out = append(out, openTelemetry{b.Name, endpoint, max(interval, leastInterval)})
	}
	return out, refused
}

// sidecar selects among Envoy's metrics.
type sidecar struct {
	Profiles struct {
		AppendProfiles []struct {
			Name string `json:"name"`
		} `json:"appendProfiles"`
		Exclude []selector `json:"exclude"`
		Include []selector `json:"include"`
	} `json:"profiles"`
	IncludeUnused bool `json:"includeUnused"`
}

type selector struct {
	Type  string `json:"type"`
	Match string `json:"match"`
}

// openTelemetry is a collector that metrics are pushed to. Endpoint is a socket of Envoy's, which leads there.
type openTelemetry struct {
	Name, Endpoint string
	Interval       time.Duration
}

const (
	defaultInterval = time.Minute
	leastInterval   = 100 * time.Millisecond // a shorter one would only burn the workload's time
)

// Configure takes what a MeshMetric policy says, JSON, from the next page and push on; nil ends them. It does not block.
func (h *Hijacker) Configure(body []byte) {
	var c *configuration
	if body != nil {
		var err error
		if c, err = parseConfiguration(body); err != nil {
			h.cfg.Log.Warn("metrics stay as they were", "reason", err.Error())
			return
		}
	}
	h.policy.Store(c)
	select {
	case h.changed <- struct{}{}:
	default: // it will be seen
	}
}

func parseConfiguration(body []byte) (*configuration, error) {
	var doc struct {
		Observability struct {
			Metrics configuration `json:"metrics"`
		} `json:"observability"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("read MeshMetric configuration: %w", err)
	}
	return &doc.Observability.Metrics, nil
}

// The Basic profile, and what it counts as internal.
var (
	basicContains = strings.Fields(`rq_time cx_length_ms cx_count _rq bytes timeout health_check lb_healthy_panic cx_destroy error
		fail reset eject overflow cancelled max_duration_reached no_cluster no_route no_filter_chain reject denied
		days_until_first_cert_expiring rbac cx_active cx_connect`)
	basicExact = []string{
		"envoy_cluster_membership_degraded", "envoy_cluster_membership_healthy", "envoy_cluster_membership_total",
		"envoy_cluster_ssl_handshake",
	}
	basicPrefix = []string{"envoy_server", "envoy_control_plane"}
)

// filter leaves in f what profiles, exclusions and inclusions select. Inclusions win.
func (s *sidecar) filter(f families) {
	profile := "Basic"
	rank := map[string]int{"None": 0, "Basic": 1, "All": 2}
	for i, p := range s.Profiles.AppendProfiles {
		if i == 0 || rank[p.Name] > rank[profile] {
			profile = p.Name
		}
	}
	for name, family := range f {
		keep := profile == "All" || profile == "Basic" && basic(name)
		if keep && slices.ContainsFunc(s.Profiles.Exclude, func(x selector) bool { return x.matches(name) }) {
			keep = false
		}
		included := slices.ContainsFunc(s.Profiles.Include, func(x selector) bool { return x.matches(name) })
		if !keep && !included {
			delete(f, name)
			continue
		}
		if profile == "Basic" && !included {
			family.Metric = slices.DeleteFunc(family.Metric, internalCluster)
			if len(family.Metric) == 0 {
				delete(f, name)
			}
		}
	}
}

func basic(name string) bool {
	return slices.Contains(basicExact, name) ||
		slices.ContainsFunc(basicPrefix, func(p string) bool { return strings.HasPrefix(name, p) }) ||
		slices.ContainsFunc(basicContains, func(p string) bool { return strings.Contains(name, p) })
}

func internalCluster(m *dto.Metric) bool {
	for _, l := range m.GetLabel() {
		if l.GetName() == "envoy_cluster_name" {
			v := l.GetValue()
			return strings.HasPrefix(v, "_") || strings.HasPrefix(v, "tracing") || v == "ads_cluster" || v == "access_log_sink"
		}
	}
	return false
}

func (s selector) matches(name string) bool {
	switch s.Type {
	case "Contains":
		return strings.Contains(name, s.Match)
	case "Prefix":
		return strings.HasPrefix(name, s.Match)
	case "Exact":
		return name == s.Match
	case "Regex":
		re, err := regexp.Compile(s.Match)
		return err == nil && re.MatchString(name)
	}
	return false
}
