package all_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// validation is one PUT into mesh default and what Kuma 2.9.13 answered.
type validation struct {
	Type    resource.Kind   `json:"type"`
	Spec    json.RawMessage `json:"spec"`
	Status  int             `json:"status"`
	Invalid []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"invalid_parameters"`
	Warnings []string `json:"warnings"`
	Stored   any      `json:"stored_spec"`
}

func TestValidationCorpus(t *testing.T) {
	data, err := os.ReadFile(captured + "/validation.json")
	if err != nil {
		t.Fatal(err)
	}
	var corpus []validation
	if err := json.Unmarshal(data, &corpus); err != nil {
		t.Fatal(err)
	}
	registry := resource.NewRegistry(all.Descriptors()...)
	ran := 0
	for i, v := range corpus {
		if registry.ByKind(v.Type) == nil {
			continue
		}
		ran++
		t.Run(fmt.Sprintf("%02d-%s", i, v.Type), func(t *testing.T) {
			body := fmt.Sprintf(`{"type":%q,"mesh":"default","name":"x","spec":%s}`, v.Type, v.Spec)
			var got []resource.Violation
			r, err := registry.Decode([]byte(body))
			if wrong, ok := errors.AsType[*resource.DecodeError](err); ok {
				got = wrong.Faults
			} else if err != nil {
				t.Fatal(err)
			} else {
				got = resource.Validate(r)
			}
			var want []resource.Violation
			for _, f := range v.Invalid {
				want = append(want, resource.Violation{Field: f.Field, Reason: f.Reason})
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("faults differ (-want +got):\n%s", diff)
			}
			if v.Status != 201 {
				return
			}
			if diff := gocmp.Diff(v.Warnings, policy.Deprecations(r)); diff != "" {
				t.Errorf("warnings differ (-want +got):\n%s", diff)
			}
			resource.SetDefaults(r, resource.ZoneInfo{})
			encoded, err := registry.Encode(r, resource.FormUniversal)
			if err != nil {
				t.Fatal(err)
			}
			var stored struct{ Spec any }
			if err := json.Unmarshal(encoded, &stored); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(v.Stored, stored.Spec); diff != "" {
				t.Errorf("stored spec differs (-want +got):\n%s", diff)
			}
		})
	}
	if ran < 12 {
		t.Errorf("only %d of the corpus are of known kinds", ran)
	}
}
