package metrics

import (
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"observability":{"metrics":{"applications":null,"backends":[{"type":"Prometheus","name":null}],"extraLabels":{"a":"b"},
		"sidecar":{"profiles":{"appendProfiles":[{"name":"All"}],"exclude":[{"type":"Regex","match":"("}]}}}}}`), "envoy_server_live")
	f.Fuzz(func(_ *testing.T, body []byte, name string) {
		c, err := parseConfiguration(body)
		if err != nil {
			return
		}
		c.Sidecar.filter(families{name: &dto.MetricFamily{Metric: []*dto.Metric{{}}}})
	})
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
