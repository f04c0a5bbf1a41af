package policytest

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// FuzzSpec feeds specs to decoding and validation, starting from those of a file for Corpus: nothing may panic, and what
// is valid stays valid and the same when it is stored and read again.
func FuzzSpec(f *testing.F, kind policy.Kind, path string) {
	f.Helper()
	seed(f, path)
	registry := resource.NewRegistry(kind.Descriptor)
	f.Fuzz(func(t *testing.T, spec []byte) {
		if !json.Valid(spec) {
			return
		}
		r, err := registry.Decode(fmt.Appendf(nil, `{"type":%q,"mesh":"m","name":"p","spec":%s}`, kind.Descriptor.Kind, spec))
		if err != nil || len(resource.Validate(r)) > 0 {
			return
		}
		once, err := registry.Encode(r, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		again, err := registry.Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if faults := resource.Validate(again); len(faults) > 0 {
			t.Errorf("stored and read again it has faults: %v", faults)
		}
		twice, err := registry.Encode(again, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(once), string(twice)); diff != "" {
			t.Errorf("stored twice (-once +twice):\n%s", diff)
		}
	})
}

// FuzzConf hands the confs of specs that are accepted to check, starting from those of a file for Corpus.
func FuzzConf(f *testing.F, kind policy.Kind, path string, check func(t *testing.T, conf any)) {
	f.Helper()
	seed(f, path)
	registry := resource.NewRegistry(kind.Descriptor)
	f.Fuzz(func(t *testing.T, spec []byte) {
		if !json.Valid(spec) {
			return
		}
		r, err := registry.Decode(fmt.Appendf(nil, `{"type":%q,"mesh":"m","name":"p","spec":%s}`, kind.Descriptor.Kind, spec))
		if err != nil || len(resource.Validate(r)) > 0 {
			return
		}
		if s, ok := r.Spec.(policy.Targeted); ok {
			for _, item := range append(s.ToItems(), s.FromItems()...) {
				check(t, item.Conf)
			}
		}
	})
}

func seed(f *testing.F, path string) {
	f.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	var corpus []struct {
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(data, &corpus); err != nil {
		f.Fatal(err)
	}
	for _, c := range corpus {
		f.Add([]byte(c.Spec))
	}
}
