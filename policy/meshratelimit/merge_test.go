package meshratelimit_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshratelimit"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestMerge(t *testing.T) {
	spec := func(http string) string {
		return "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, default: {local: {http: {" + http + "}}}}]"
	}
	got := policytest.Merged(t, meshratelimit.Kind(), spec("requestRate: {num: 7, interval: 11s}"), spec("onRateLimit: {status: 499}"), spec("disabled: true"))
	const want = `{"local":{"http":{"disabled":true,"requestRate":{"num":7,"interval":"11s"},"onRateLimit":{"status":499}}}}`
	if got != want {
		t.Errorf("merged = %s, want %s", got, want)
	}
}
