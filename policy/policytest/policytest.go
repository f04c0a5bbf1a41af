// Package policytest holds what the tests of every policy kind do alike.
package policytest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Case is a spec, written as the inside of a YAML flow mapping, and what its validation says.
type Case struct {
	Name, Spec string
	// Want holds "field: reason" in order, none for a valid policy.
	Want []string
}

// Validate runs cases as subtests.
func Validate(t *testing.T, kind policy.Kind, cases []Case) {
	t.Helper()
	registry := resource.NewRegistry(kind.Descriptor)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			r, err := registry.DecodeYAML([]byte("{type: " + string(kind.Descriptor.Kind) + ", mesh: m, name: p, spec: {" + c.Spec + "}}"))
			var faults []resource.Violation
			if wrong, ok := errors.AsType[*resource.DecodeError](err); ok {
				faults = wrong.Faults
			} else if err != nil {
				t.Fatal(err)
			} else {
				faults = resource.Validate(r)
			}
			var got []string
			for _, f := range faults {
				got = append(got, f.Field+": "+f.Reason)
			}
			if diff := cmp.Diff(c.Want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
