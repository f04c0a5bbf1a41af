package resource_test

import (
	"math"
	"strconv"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

func TestParseBandwidth(t *testing.T) {
	const bad = math.MaxUint64
	for _, c := range []struct {
		in   string
		want uint64
	}{
		{"64kbps", 64},
		{"3 Mbps", 3_000},
		{"2Gbps", 2_000_000},
		{"0kbps", 0},
		{"1\tkbps", 1},
		{"", bad},
		{"kbps", bad},
		{" kbps", bad},
		{"1", bad},
		{"1bps", bad},
		{"1Kbps", bad},
		{"1GMbps", bad},
		{"1kbpskbps", bad},
		{"1  kbps", bad},
		{"-1kbps", bad},
		{"+1kbps", bad},
		{"1.5Mbps", bad},
		{"1kbps ", bad},
		{"18446744073709551615kbps", math.MaxUint64},
		{"18446744073709551616kbps", bad},
		{"18446744073709552Mbps", bad},
	} {
		t.Run(strconv.Quote(c.in), func(t *testing.T) {
			got, err := resource.ParseBandwidth(c.in)
			if err != nil {
				got = bad
			}
			if got != c.want {
				t.Errorf("ParseBandwidth = %d, %v, want %d", got, err, c.want)
			}
		})
	}
}

func FuzzParseBandwidth(f *testing.F) {
	for _, s := range []string{"64kbps", "3 Mbps", "2Gbps", "kbps", "1GMbps", "99999999999999999999Gbps"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := resource.ParseBandwidth(s)
		if err != nil {
			return
		}
		// What was read means the same in the smallest unit.
		again, err := resource.ParseBandwidth(strconv.FormatUint(n, 10) + "kbps")
		if err != nil || again != n {
			t.Errorf("ParseBandwidth(%q) = %d, read again %d, %v", s, n, again, err)
		}
	})
}
