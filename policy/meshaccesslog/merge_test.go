package meshaccesslog_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshaccesslog"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestMerge(t *testing.T) {
	file := func(path string) string { return from("{type: File, file: {path: " + path + "}}") }
	for _, tt := range []struct {
		name  string
		specs []string
		want  string
	}{
		{"backends replace", []string{file("/a"), file("/b")}, `{"backends":[{"type":"File","file":{"path":"/b"}}]}`},
		{"no backends replace too", []string{file("/a"), from("")}, `{"backends":[]}`},
		{
			"body is kept as written",
			[]string{file("/a"), from("{type: OpenTelemetry, openTelemetry: {endpoint: a, body: {intValue: 9007199254740993}}}")},
			`{"backends":[{"type":"OpenTelemetry","openTelemetry":{"endpoint":"a","body":{"intValue":9007199254740993}}}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := policytest.Merged(t, meshaccesslog.Kind(), tt.specs...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
