package all_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// captured are questions that Kuma 2.9.13 answered; the tree has them once.
const captured = "../../test/conformance/testdata/cases"

// TestRulesOfCases compares the rules of every kind in every case.
func TestRulesOfCases(t *testing.T) {
	// These hold timeouts of routes and of services over zones, which a single kind does not know: they are asked of a whole
	// control plane, in test/conformance.
	needMore := map[resource.Kind][]string{"MeshTimeout": {"16-mzms", "19-mode-everywhere", "20-mode-disabled"}}
	for _, kind := range all.Kinds() {
		t.Run(string(kind.Descriptor.Kind), func(t *testing.T) {
			policytest.Rules(t, kind, captured, needMore[kind.Descriptor.Kind]...)
		})
	}
}
