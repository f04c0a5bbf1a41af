package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

const maxDynamic = 1 << 20

// configuration is what a MeshMetric policy says, read from Envoy at each scrape: there is nothing to poll for in between
// (contract agent.md §4.5). Its backends are left out: whoever asks is one, and package relay tells of those that would
// have to be pushed to.
type configuration struct {
	Applications []Application     `json:"applications"`
	Sidecar      sidecar           `json:"sidecar"`
	ExtraLabels  map[string]string `json:"extraLabels"`
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

func (h *Hijacker) configuration(ctx context.Context) (*configuration, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/meshmetric", nil)
	if err != nil {
		return nil, err
	}
	answer, err := h.dynamic.Do(q)
	if err != nil {
		return nil, fmt.Errorf("read MeshMetric configuration from envoy: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxDynamic+1))
	if err != nil || len(body) > maxDynamic || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read MeshMetric configuration from envoy: status %d, %d bytes: %w", answer.StatusCode, len(body), err)
	}
	return parseConfiguration(body)
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
