package controlplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// expiry shows when certificate authorities end, so that somebody can be woken before they do.
type expiry struct {
	store store.Reader
	ids   *identity.Issuer
}

var expiryDesc = prometheus.NewDesc("kuma_cp_authority_expiration_timestamp_seconds",
	"When the certificate authority of a backend ends, Unix time.", []string{"mesh", "backend"}, nil)

// Describe tells what there is.
func (e expiry) Describe(out chan<- *prometheus.Desc) { out <- expiryDesc }

// Collect looks at all meshes. One without mTLS has no authorities; one whose cannot be read is missing, and its proxies tell why.
func (e expiry) Collect(out chan<- prometheus.Metric) {
	for _, mesh := range e.store.List(resource.KindMesh, "") {
		backends, err := e.ids.Backends(mesh.Name)
		if err != nil {
			continue
		}
		for _, b := range backends {
			out <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(b.Certificate.NotAfter.Unix()), mesh.Name, b.Name)
		}
	}
}
