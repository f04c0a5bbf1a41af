//go:build linux

package nftables

import (
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// BenchmarkBackend prints how long planning, installing, replacing, installing again, checking and removing take, dual
// stack with DNS, and installing and checking long lists. Entering the namespace is not measured.
func BenchmarkBackend(b *testing.B) {
	h := redirectlab.NewHosts(b, "tp-nftbench", "mesh")[0]
	be := newBackend(b)
	plan := redirectlab.NewPlan(b, func(c *tp.Config) { c.DNS.Enabled = true })
	other := redirectlab.NewPlan(b, func(c *tp.Config) { c.DNS.CaptureAll = true })
	long := longPlan(b)
	apply := func(p *tp.Plan) error { return be.Apply(b.Context(), p) }
	remove := func() error { _, err := be.Remove(b.Context()); return err }
	check := func(p *tp.Plan) error {
		d, err := be.Check(b.Context(), p)
		if err == nil && len(d) > 0 {
			err = fmt.Errorf("%d differences, first %v", len(d), d[0])
		}
		return err
	}
	for _, bm := range []struct {
		name       string
		before, do func(i int) error
		onceBefore func() error
	}{
		{name: "plan", do: func(int) error { redirectlab.NewPlan(b, func(c *tp.Config) { c.DNS.Enabled = true }); return nil }},
		{name: "facts", do: func(int) error { return be.Facts(b.Context(), &tp.Host{}) }},
		{name: "fresh", before: func(int) error { return remove() }, do: func(int) error { return apply(plan) }},
		{name: "replace", do: func(i int) error { return apply([]*tp.Plan{plan, other}[i%2]) }},
		{name: "again", onceBefore: func() error { return apply(plan) }, do: func(int) error { return apply(plan) }},
		{name: "check", onceBefore: func() error { return apply(plan) }, do: func(int) error { return check(plan) }},
		{name: "remove", before: func(int) error { return apply(plan) }, do: func(int) error { return remove() }},
		{name: "long fresh", before: func(int) error { return remove() }, do: func(int) error { return apply(long) }},
		{name: "long check", onceBefore: func() error { return apply(long) }, do: func(int) error { return check(long) }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			err := h.Do(func() error {
				if bm.onceBefore != nil {
					if err := bm.onceBefore(); err != nil {
						return err
					}
				}
				for i := 0; b.Loop(); i++ {
					if bm.before != nil {
						b.StopTimer()
						if err := bm.before(i); err != nil {
							return err
						}
						b.StartTimer()
					}
					if err := bm.do(i); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
