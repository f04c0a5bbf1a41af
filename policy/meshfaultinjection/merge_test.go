package meshfaultinjection_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshfaultinjection"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestMerge(t *testing.T) {
	spec := func(conf string) string {
		return "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, default: {" + conf + "}}]"
	}
	abort := spec("http: [{abort: {httpStatus: 500, percentage: 1}}]")
	for _, c := range []struct{ name, higher, want string }{
		{"a list replaces", spec("http: [{delay: {value: 1s, percentage: '2.5'}}]"), `{"http":[{"delay":{"value":"1s","percentage":"2.5"}}]}`},
		{"an empty list too", spec("http: []"), `{"http":[]}`},
		{"an absent one does not", spec(""), `{"http":[{"abort":{"httpStatus":500,"percentage":1}}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := policytest.Merged(t, meshfaultinjection.Kind(), abort, c.higher); got != c.want {
				t.Errorf("merged = %s, want %s", got, c.want)
			}
		})
	}
}
