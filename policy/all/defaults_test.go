package all_test

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestDefaultPolicies(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	want := []string{
		`{"type":"MeshTimeout","mesh":"m","name":"mesh-gateways-timeout-all-m","spec":{"targetRef":{"kind":"Mesh","proxyTypes":["Gateway"]},` +
			`"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1h0m0s","http":{"streamIdleTimeout":"5s"}}}],` +
			`"from":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"5m0s","http":{"streamIdleTimeout":"5s","requestHeadersTimeout":"500ms"}}}]}}`,
		`{"type":"MeshTimeout","mesh":"m","name":"mesh-timeout-all-m","spec":{"targetRef":{"kind":"Mesh","proxyTypes":["Sidecar"]},` +
			`"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s","idleTimeout":"1h0m0s","http":{"requestTimeout":"15s","streamIdleTimeout":"30m0s"}}}],` +
			`"from":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"10s","idleTimeout":"2h0m0s","http":{"requestTimeout":"0s","streamIdleTimeout":"1h0m0s","maxStreamDuration":"0s"}}}]}}`,
		`{"type":"MeshCircuitBreaker","mesh":"m","name":"mesh-circuit-breaker-all-m","spec":{"targetRef":{"kind":"Mesh"},` +
			`"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionLimits":{"maxConnections":1024,"maxPendingRequests":1024,"maxRetries":3,"maxRequests":1024}}}]}}`,
		`{"type":"MeshRetry","mesh":"m","name":"mesh-retry-all-m","spec":{"targetRef":{"kind":"Mesh"},` +
			`"to":[{"targetRef":{"kind":"Mesh"},"default":{"tcp":{"maxConnectAttempt":5},"http":{"numRetries":5,"perTryTimeout":"16s","backOff":{"baseInterval":"25ms","maxInterval":"250ms"}},` +
			`"grpc":{"numRetries":5,"perTryTimeout":"16s","backOff":{"baseInterval":"25ms","maxInterval":"250ms"}}}}]}}`,
	}
	var got []string
	for _, p := range all.DefaultPolicies("m", nil) {
		if faults := resource.Validate(p); len(faults) > 0 {
			t.Errorf("%s: %v", p.Key, faults)
		}
		body, err := registry.Encode(p, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		skip []string
		want int
	}{{[]string{"*"}, 0}, {[]string{"MeshTimeout"}, 2}, {[]string{"MeshRetry", "MeshFoo"}, 3}} {
		if got := all.DefaultPolicies("m", tt.skip); len(got) != tt.want {
			t.Errorf("skip %v: %d policies, want %d", tt.skip, len(got), tt.want)
		}
	}
}

// FuzzPolicies feeds arbitrary bodies of policies: whatever decodes must be judged and written without a panic.
func FuzzPolicies(f *testing.F) {
	registry := resource.NewRegistry(all.Descriptors()...)
	for _, p := range all.DefaultPolicies("m", nil) {
		body, err := registry.Encode(p, resource.FormUniversal)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"type":"MeshTrafficPermission","mesh":"m","name":"p","spec":{"from":[{"targetRef":{"kind":"Mesh"},"default":{"action":"Deny"}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := registry.Decode(data)
		if err != nil {
			return
		}
		resource.Validate(r)
		first, err := registry.Encode(r, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		again, err := registry.Decode(first)
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, first)
		}
		second, err := registry.Encode(again, resource.FormUniversal)
		if err != nil || string(first) != string(second) {
			t.Fatalf("encodings differ, %v:\n%s\n%s", err, first, second)
		}
	})
}
