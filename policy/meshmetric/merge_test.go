package meshmetric_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshmetric"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		name  string
		specs []string
		want  string
	}{
		{
			"profiles are joined", // The confs of contract policies.md §6, case 11, and its captured result.
			[]string{
				"default: {sidecar: {profiles: {appendProfiles: [{name: None}], include: [{type: Exact, match: x}]}}, backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}",
				"default: {sidecar: {includeUnused: true, profiles: {appendProfiles: [{name: Basic}], include: [{type: Exact, match: \"y\"}]}}}",
			},
			`{"sidecar":{"profiles":{"appendProfiles":[{"name":"None"},{"name":"Basic"}],"include":[{"type":"Exact","match":"y"}]},"includeUnused":true},"backends":[{"type":"Prometheus","prometheus":{"port":5670,"path":"/metrics"}}]}`,
		},
		{
			"empty lists replace",
			[]string{
				"default: {sidecar: {profiles: {include: [{type: Exact, match: x}]}}, applications: [{port: 1}], backends: [{type: Prometheus, prometheus: {port: 1, path: /}}]}",
				"default: {sidecar: {profiles: {include: []}}, applications: [], backends: []}",
			},
			`{"sidecar":{"profiles":{"include":[]}},"applications":[],"backends":[]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := policytest.Merged(t, meshmetric.Kind(), tt.specs...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
