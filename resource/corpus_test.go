package resource_test

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TestAcceptedCorpus puts every resource that was given to Kuma 2.9.13 while its effects on Envoy were captured: it took
// them all, and kept all that they say but zeroes and what is empty.
func TestAcceptedCorpus(t *testing.T) {
	file, err := os.Open("testdata/accepted.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	registry, kinds := registry(), map[resource.Kind]int{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		r, err := registry.Decode(lines.Bytes())
		if err != nil {
			t.Errorf("line %d: %v", n, err)
			continue
		}
		kinds[r.Kind]++
		if faults := resource.Validate(r); len(faults) > 0 {
			t.Errorf("line %d, %s: %v", n, r.Key, faults)
		}
		encoded, err := registry.Encode(r, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(substance(t, lines.Bytes()), substance(t, encoded)); diff != "" {
			t.Errorf("line %d, %s (-given +kept):\n%s", n, r.Key, diff)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []resource.Kind{
		resource.KindMesh, resource.KindDataplane, resource.KindMeshService, resource.KindMeshExternalService,
		resource.KindMeshMultiZoneService, resource.KindZoneIngress, resource.KindZoneEgress,
		resource.KindTrafficPermission, resource.KindTrafficLog, resource.KindTrafficTrace, resource.KindFaultInjection, resource.KindRateLimit,
	} {
		if kinds[kind] == 0 {
			t.Errorf("no %s in the corpus", kind)
		}
	}
}

// substance is JSON without zeroes, first values of enumerations and empty texts, which the older kinds do not keep, and without what is then empty.
func substance(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return prune(v)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			first := map[string]string{"mode": "STRICT", "type": "DELEGATED", "state": "Ready"}
			if value == first[key] || key == "mode" && value == "Disabled" {
				value = nil // the first of an enumeration is none
			}
			if v[key] = prune(value); v[key] == nil {
				delete(v, key)
			}
		}
		if len(v) == 0 {
			return nil
		}
		return v
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if v = slices.DeleteFunc(v, func(e any) bool { return e == nil }); len(v) == 0 {
			return nil
		}
		return v
	case float64:
		if v == 0 {
			return nil
		}
		return v
	case string:
		if v == "" {
			return nil
		}
		return v
	case bool:
		if !v {
			return nil
		}
		return v
	default:
		return v
	}
}
