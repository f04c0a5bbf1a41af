package policytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// captured is one PUT into mesh default and what Kuma 2.9.13 answered.
type captured struct {
	// Case says where it comes from.
	Case   string          `json:"case"`
	Spec   json.RawMessage `json:"spec"`
	Status int             `json:"status"`
	// Invalid is the list of faults of a refusal.
	Invalid []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"invalid_parameters"`
	Warnings []string `json:"warnings"`
}

// Corpus puts the specs of a file, a list of captured answers, and compares faults, their order and warnings. What is
// accepted must survive being stored.
func Corpus(t *testing.T, kind policy.Kind, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var corpus []captured
	if err := json.Unmarshal(data, &corpus); err != nil {
		t.Fatal(err)
	}
	if len(corpus) == 0 {
		t.Fatalf("%s is empty", path)
	}
	registry := resource.NewRegistry(kind.Descriptor)
	for i, c := range corpus {
		t.Run(fmt.Sprintf("%02d-%s", i, c.Case), func(t *testing.T) {
			var want, got []resource.Violation
			for _, f := range c.Invalid {
				want = append(want, resource.Violation{Field: f.Field, Reason: f.Reason})
			}
			r, err := registry.Decode(fmt.Appendf(nil, `{"type":%q,"mesh":"default","name":"x","spec":%s}`, kind.Descriptor.Kind, c.Spec))
			if wrong, ok := errors.AsType[*resource.DecodeError](err); ok {
				got = wrong.Faults
			} else if err != nil {
				t.Fatal(err)
			} else {
				got = resource.Validate(r)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("faults (-want +got):\n%s", diff)
			}
			if refused := len(got) > 0; refused != (c.Status >= 400) {
				t.Fatalf("%d faults for a captured status of %d", len(got), c.Status)
			}
			if len(got) > 0 {
				return
			}
			if diff := cmp.Diff(c.Warnings, policy.Deprecations(r)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			first := encode(t, registry, r)
			again, err := registry.Decode(first)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(first), string(encode(t, registry, again.Clone()))); diff != "" {
				t.Errorf("stored form (-first +again):\n%s", diff)
			}
		})
	}
}

func encode(t *testing.T, registry *resource.Registry, r *resource.Resource) []byte {
	t.Helper()
	out, err := registry.Encode(r, resource.FormUniversal)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
