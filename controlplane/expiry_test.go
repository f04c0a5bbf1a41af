package controlplane

import (
	"strconv"
	"testing"
	"time"
)

// TestExpiryOfAuthorities: the metric has an authority while its mesh has mTLS.
func TestExpiryOfAuthorities(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	const name = `kuma_cp_authority_expiration_timestamp_seconds{backend="ca-1",mesh="default"}`
	if got := r.metric(name); got != "" {
		t.Errorf("without mTLS the metric is %q", got)
	}
	r.call("PUT", "/meshes/default", strictMesh)
	got, err := strconv.ParseFloat(r.metric(name), 64)
	// A builtin authority lives for ten years (contract controlplane.md §5.1).
	if end := time.Unix(int64(got), 0); err != nil || end.Before(time.Now().AddDate(9, 0, 0)) || end.After(time.Now().AddDate(11, 0, 0)) {
		t.Errorf("the authority ends at %s, %v", end, err)
	}
}
