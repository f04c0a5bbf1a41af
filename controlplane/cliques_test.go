package controlplane

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCliquesCanBeDisabled: the variable of 2.9 makes the rules of older versions.
func TestCliquesCanBeDisabled(t *testing.T) {
	for value, want := range map[string][]string{
		"false": {"b", "a", "!b", "!a"}, // a clique for each service: it, and all others
		"true":  {"b", "a", "!a !b"},    // one group: each service, and all others
	} {
		t.Run(value, func(t *testing.T) {
			t.Setenv("KUMA_MESH_TRAFFIC_PERMISSION_DISABLE_CLIQUES_ALGORITHM", value)
			loaded, err := Load("")
			if err != nil {
				t.Fatal(err)
			}
			cfg := testConfig(t.TempDir())
			cfg.Store.Type, cfg.Policies = StoreMemory, loaded.Policies
			r := start(t, cfg)
			r.call("PUT", "/meshes/default/meshtrafficpermissions/p", `{"type":"MeshTrafficPermission","mesh":"default","name":"p","spec":{"from":[
				{"targetRef":{"kind":"Mesh"},"default":{"action":"Allow"}},
				{"targetRef":{"kind":"MeshSubset","tags":{"kuma.io/service":"a"}},"default":{"action":"Deny"}},
				{"targetRef":{"kind":"MeshSubset","tags":{"kuma.io/service":"b"}},"default":{"action":"Deny"}}]}}`)
			r.call("PUT", "/meshes/default/dataplanes/web-1", dataplaneJSON("web-1", "web", "192.0.2.1"))
			// What was written takes a moment to be in force.
			late := time.After(20 * time.Second)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				got := permissionRules(r)
				if slices.Equal(got, want) {
					return
				}
				select {
				case <-late:
					t.Fatalf("rules for %q, want %q", got, want)
				case <-tick.C:
				}
			}
		})
	}
}

// permissionRules are the clients of each rule for the inbound of web-1.
func permissionRules(r *running) []string {
	var answer struct {
		Rules []struct {
			Type      string
			FromRules []struct {
				Rules []struct {
					Matchers []struct {
						Value string
						Not   bool
					}
				}
			}
		}
	}
	status, body := r.answer("GET", "/meshes/default/dataplanes/web-1/_rules", "")
	if status != http.StatusOK {
		return nil // not known yet
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, kind := range answer.Rules {
		if kind.Type != "MeshTrafficPermission" {
			continue
		}
		for _, from := range kind.FromRules {
			for _, rule := range from.Rules {
				var values []string
				for _, m := range rule.Matchers {
					if m.Not {
						m.Value = "!" + m.Value
					}
					values = append(values, m.Value)
				}
				out = append(out, strings.Join(values, " "))
			}
		}
	}
	return out
}
