package xds

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestAcceptedPolicies: no policy that is accepted keeps a proxy from its configuration, and where one breaks a rule of
// Envoy's fields, its author has been told.
func TestAcceptedPolicies(t *testing.T) {
	expectRefused(t, unknownStatus, zeroDelay, noBaseInterval)
	files, err := filepath.Glob("../../policy/*/testdata/corpus.json")
	if err != nil || len(files) < 16 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	reg := resource.NewRegistry(all.Descriptors()...)
	kinds := map[string]policy.Kind{}
	for _, k := range all.Kinds() {
		kinds[strings.ToLower(string(k.Descriptor.Kind))] = k
	}
	proxies, broken := 0, 0
	checked := map[string]error{} // by version
	for _, world := range []string{"everywhere", "sec-strict"} {
		base, err := os.ReadFile(filepath.Join("testdata/effects/worlds", world, "world.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{zone: "zone-a"}
		if skipped := s.add(t, base); skipped != nil {
			t.Fatal(skipped)
		}
		vips := 0
		vip := func(int, string) string { vips++; return fmt.Sprintf("241.0.0.%d", vips) }
		s.world(t, vip, nil) // with what it adds
		g := NewGenerator(all.Effects())
		for _, file := range files {
			var corpus []struct {
				Case   string
				Spec   json.RawMessage
				Status int
			}
			readJSON(t, file, &corpus)
			kind := kinds[filepath.Base(filepath.Dir(filepath.Dir(file)))].Descriptor.Kind
			for _, c := range corpus {
				if c.Status >= 400 {
					continue
				}
				p, err := reg.Decode(fmt.Appendf(nil, `{"type":%q,"mesh":"m","name":"x","spec":%s}`, kind, c.Spec))
				if err != nil {
					t.Fatal(err)
				}
				w := (&scene{zone: s.zone, resources: append(slices.Clone(s.resources), p)}).world(t, vip, nil)
				for _, dp := range w.Meshes["m"].Dataplanes {
					proxies++
					snap := generate(t, g, w, "m", dp.Name, Meta{}, "zone-a")
					if err := breaks(snap, checked); err != nil {
						broken++
						if policy.Advice(p) == nil {
							t.Errorf("%s %s: nobody is told that Envoy refuses a part of %s: %v", kind, c.Case, dp.Name, err)
						}
					}
				}
			}
		}
	}
	if proxies < 1000 || broken == 0 {
		t.Errorf("%d proxies were made, %d of them broken", proxies, broken)
	}
}

// breaks tells which rule of Envoy's fields a part of a snapshot breaks.
func breaks(s *Snapshot, checked map[string]error) error {
	for _, typeURL := range []string{TypeListener, TypeCluster} {
		for name, r := range s.Resources(typeURL) {
			err, known := checked[r.Version]
			if !known {
				err = r.check()
				checked[r.Version] = err
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
