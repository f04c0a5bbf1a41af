package metrics

import (
	"io"
	"strings"
	"testing"
	"time"

	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func TestOTLP(t *testing.T) {
	const resource = `"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]}`
	const start = `"startTimeUnixNano":"1000000000","timeUnixNano":"2000000000"`
	for _, tc := range []struct{ name, page, want string }{
		{"gauge", "# HELP a what a is\n# TYPE a gauge\na{x=\"1\"} 2.5\n", `{"name":"a","description":"what a is","gauge":{"dataPoints":[{"attributes":[{"key":"x","value":{"stringValue":"1"}}],"timeUnixNano":"2000000000","asDouble":2.5}]}}`},
		{"time of a sample", "# TYPE a gauge\na 2 1500\n", `{"name":"a","gauge":{"dataPoints":[{"timeUnixNano":"1500000000","asDouble":2}]}}`},
		{"counter", "# TYPE a counter\na 2\n", `{"name":"a","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,"dataPoints":[{` + start + `,"asDouble":2}]}}`},
		{
			"histogram", "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"5\"} 2\na_bucket{le=\"10\"} 5\na_bucket{le=\"+Inf\"} 7\na_sum 50\na_count 7\n",
			`{"name":"a","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{` + start + `,"count":"7","sum":50,"explicitBounds":[1,5,10],"bucketCounts":["2","0","3","2"]}]}}`,
		},
		{
			"broken histogram", "# TYPE a histogram\na_bucket{le=\"1\"} 4\na_bucket{le=\"5\"} 3\na_sum 50\na_count 2\n",
			`{"name":"a","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[{` + start + `,"count":"4","sum":50,"explicitBounds":[1,5],"bucketCounts":["4","0","0"]}]}}`,
		},
		{
			"summary", "# TYPE a summary\na{quantile=\"0.5\"} 3\na_sum 9\na_count 4\n",
			`{"name":"a","summary":{"dataPoints":[{` + start + `,"count":"4","sum":9,"quantileValues":[{"quantile":0.5,"value":3}]}]}}`,
		},
		{"no type", "a 1\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := parse(io.NopCloser(strings.NewReader(tc.page)))
			if err != nil {
				t.Fatal(err)
			}
			got := otlp(f, "web", time.Unix(1, 0), time.Unix(2, 0))
			if tc.want == "" {
				if len(got) != 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			want := &metricsv1.MetricsData{}
			if err := protojson.Unmarshal([]byte(`{"resourceMetrics":[{`+resource+`,"scopeMetrics":[{"scope":{},"metrics":[`+tc.want+`]}]}]}`), want); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !proto.Equal(got[0], want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestOTLPSizes splits what is too much for one request, and keeps what applications say of their scope.
func TestOTLPSizes(t *testing.T) {
	var page strings.Builder
	long := strings.Repeat("x", 1000)
	for _, name := range []string{"a", "b", "c"} {
		page.WriteString("# TYPE " + name + " gauge\n")
		for i := range 1100 {
			page.WriteString(name + `{otel_scope_name="own",i="` + long + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + "\"} 1\n")
		}
	}
	f, err := parse(io.NopCloser(strings.NewReader(page.String())))
	if err != nil {
		t.Fatal(err)
	}
	requests := otlp(f, "web", time.Unix(1, 0), time.Unix(2, 0))
	if len(requests) != 3 {
		t.Errorf("%d requests, want 3", len(requests))
	}
	for _, r := range requests {
		s := r.ResourceMetrics[0].ScopeMetrics[0]
		if proto.Size(r) > maxRequest || s.Scope.Name != "own" || len(s.Metrics[0].GetGauge().DataPoints[0].Attributes) != 1 {
			t.Errorf("request of %d bytes in scope %q", proto.Size(r), s.Scope.Name)
		}
	}
}

func FuzzRejected(f *testing.F) {
	f.Add([]byte{10, 2, 8, 7})
	f.Fuzz(func(_ *testing.T, answer []byte) { rejected(answer) })
}
