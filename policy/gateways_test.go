package policy_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
)

func TestIncludesGateways(t *testing.T) {
	for _, c := range []struct {
		name string
		top  policy.TargetRef
		want bool
	}{
		{"mesh", policy.TargetRef{Kind: policy.Mesh}, true},
		{"mesh of sidecars", policy.TargetRef{Kind: policy.Mesh, ProxyTypes: []string{policy.ProxySidecar}}, false},
		{"subset of both", policy.TargetRef{Kind: policy.MeshSubset, ProxyTypes: []string{policy.ProxySidecar, policy.ProxyGateway}}, true},
		{"gateway", policy.TargetRef{Kind: policy.MeshGateway}, true},
		{"route", policy.TargetRef{Kind: policy.MeshHTTPRoute}, true},
		{"service", policy.TargetRef{Kind: policy.MeshService}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := policy.IncludesGateways(c.top); got != c.want {
				t.Errorf("IncludesGateways = %v, want %v", got, c.want)
			}
			if got := len(policy.MeshIfGateways(c.top)) > 0; got != c.want {
				t.Errorf("MeshIfGateways has kinds: %v, want %v", got, c.want)
			}
			if got := len(policy.UnlessGateways(policy.Mesh)(c.top)) > 0; got == c.want {
				t.Errorf("UnlessGateways has kinds: %v, want %v", got, !c.want)
			}
		})
	}
}
