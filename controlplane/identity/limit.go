package identity

import (
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

// A proxy asks twice a day; one that restarts in a loop asks every few seconds. Ten at once and then one every six seconds
// leave the second alone, and bound what a stolen token costs us in signatures.
const (
	burst    = 10
	interval = 6 * time.Second
)

// bucket counts the requests of one proxy. It holds the moment at which it will be full again.
type bucket struct{ full time.Time }

// take says whether the proxy may ask now.
func (i *Issuer) take(key resource.Key) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	b := i.limits[key]
	if b == nil {
		b = &bucket{}
		i.limits[key] = b
	}
	now := i.now()
	if b.full.Before(now) {
		b.full = now
	}
	if b.full.Sub(now) > (burst-1)*interval {
		return false
	}
	b.full = b.full.Add(interval)
	return true
}
