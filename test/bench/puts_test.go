//go:build linux

package main

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane"
)

// BenchmarkPut writes small policies over REST: in parallel what a crowd gets, alone what one client gets.
func BenchmarkPut(b *testing.B) {
	for _, store := range []string{controlplane.StoreMemory, controlplane.StoreBolt} {
		p, err := startPlane(b.Context(), b.TempDir(), store)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(store+"/parallel", func(b *testing.B) {
			b.SetParallelism(putClients / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := p.put(b.Context()); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
		b.Run(store+"/alone", func(b *testing.B) {
			for b.Loop() {
				if err := p.put(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
		if err := p.stop(); err != nil {
			b.Error(err)
		}
	}
}
