package meshtrace_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtrace"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestMerge(t *testing.T) {
	const low = "default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: a}}], tags: [{name: a, literal: b}], sampling: {client: 1, random: \"0.5\"}}"
	for _, tt := range []struct{ name, high, want string }{
		{
			"sampling is merged", "default: {backends: [{type: Zipkin, zipkin: {url: \"http://b:1/x\"}}], sampling: {client: 0, overall: 5}}",
			`{"backends":[{"type":"Zipkin","zipkin":{"url":"http://b:1/x"}}],"sampling":{"overall":5,"client":0,"random":"0.5"},"tags":[{"name":"a","literal":"b"}]}`,
		},
		{
			"empty lists replace", "default: {backends: [], tags: []}",
			`{"backends":[],"sampling":{"client":1,"random":"0.5"},"tags":[]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := policytest.Merged(t, meshtrace.Kind(), low, tt.high); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
