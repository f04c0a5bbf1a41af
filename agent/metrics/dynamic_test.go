package metrics

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"observability":{"metrics":{"applications":null,"backends":[{"type":"Prometheus","name":null}],"extraLabels":{"a":"b"},
		"sidecar":{"profiles":{"appendProfiles":[{"name":"All"}],"exclude":[{"type":"Regex","match":"("}]}}}}}`), "envoy_server_live")
	f.Add([]byte(`{"observability":{"metrics":{"backends":[{"type":"OpenTelemetry","name":"a","openTelemetry":{"endpoint":"/run/kuma-otel-a.sock","refreshInterval":"30s"}}]}}}`), "")
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		c, err := parseConfiguration(body)
		if err != nil {
			return
		}
		for _, to := range first(c.collectors("/run")) {
			if filepath.Dir(to.Endpoint) != "/run" || to.Interval <= 0 {
				t.Errorf("pushes to %+v", to)
			}
		}
		c.Sidecar.filter(families{name: &dto.MetricFamily{Metric: []*dto.Metric{{}}}})
	})
}

func first[A, B any](a A, _ B) A { return a }

func TestCollectors(t *testing.T) {
	body := func(endpoint, interval string) string {
		return `{"type":"OpenTelemetry","name":"a","openTelemetry":{"endpoint":"` + endpoint + `","refreshInterval":"` + interval + `"}}`
	}
	for _, tc := range []struct {
		name, backend string
		want          []openTelemetry
		refused       int
	}{
		{"an interval", body("/run/kuma-otel-a.sock", "30s"), []openTelemetry{{"a", "/run/kuma-otel-a.sock", 30 * time.Second}}, 0},
		{"none", body("/run/kuma-otel-a.sock", ""), []openTelemetry{{"a", "/run/kuma-otel-a.sock", time.Minute}}, 0},
		{"a negative one", body("/run/kuma-otel-a.sock", "-1s"), []openTelemetry{{"a", "/run/kuma-otel-a.sock", time.Minute}}, 0},
		{"a tiny one", body("/run/kuma-otel-a.sock", "1ns"), []openTelemetry{{"a", "/run/kuma-otel-a.sock", 100 * time.Millisecond}}, 0},
		{"Prometheus", `{"type":"Prometheus","name":null}`, nil, 0},
		{"a socket elsewhere", body("/var/run/docker.sock", "1s"), nil, 1},
		{"a way out", body("/run/kuma-otel-/../../var/kuma-otel-a", "1s"), nil, 1},
		{"another socket of the agent", body("/run/kuma-xds.sock", "1s"), nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseConfiguration([]byte(`{"observability":{"metrics":{"backends":[` + tc.backend + `]}}}`))
			if err != nil {
				t.Fatal(err)
			}
			got, refused := c.collectors("/run")
			if !slices.Equal(got, tc.want) || len(refused) != tc.refused {
				t.Errorf("got %v, refused %v", got, refused)
			}
		})
	}
}

func TestProfiles(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       map[string]bool
	}{
		{"basic by default", `{}`, map[string]bool{"envoy_server_live": true, "envoy_odd": false, "envoy_rq_total": true}},
		{"all", `{"appendProfiles":[{"name":"None"},{"name":"All"}]}`, map[string]bool{"envoy_server_live": true, "envoy_odd": true, "envoy_rq_total": true}},
		{"none", `{"appendProfiles":[{"name":"None"}]}`, map[string]bool{"envoy_server_live": false, "envoy_odd": false, "envoy_rq_total": false}},
		{
			"exclude, then include", `{"exclude":[{"type":"Prefix","match":"envoy_"}],"include":[{"type":"Exact","match":"envoy_odd"}]}`,
			map[string]bool{"envoy_server_live": false, "envoy_odd": true, "envoy_rq_total": false},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseConfiguration([]byte(`{"observability":{"metrics":{"sidecar":{"profiles":` + tc.body + `}}}}`))
			if err != nil {
				t.Fatal(err)
			}
			f := families{}
			for name := range tc.want {
				f[name] = &dto.MetricFamily{Metric: []*dto.Metric{{}}}
			}
			c.Sidecar.filter(f)
			for name, want := range tc.want {
				if _, got := f[name]; got != want {
					t.Errorf("%s kept: %v, want %v", name, got, want)
				}
			}
		})
	}
}
