package resource

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseBandwidth reads a bandwidth such as "64kbps", "3 Mbps" or "2Gbps" and returns it in kbps. Kuma's expression
// `^(\d*)\s?([GMk]+bps)$` also lets pass what no proxy can be given, such as "kbps" and "1GMbps" (contract policies.md
// §3.15); these are errors here.
func ParseBandwidth(s string) (kbps uint64, err error) {
	digits := strings.TrimRight(s, "GMkbps")
	factor := uint64(1)
	switch s[len(digits):] {
	case "kbps":
	case "Mbps":
		factor = 1_000
	case "Gbps":
		factor = 1_000_000
	default:
		return 0, fmt.Errorf("parse bandwidth %q: want a number with the unit kbps, Mbps or Gbps", s)
	}
	if n := len(digits); n > 0 && strings.IndexByte(" \t\n\f\r", digits[n-1]) >= 0 {
		digits = digits[:n-1]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse bandwidth %q: %w", s, err)
	}
	if n > math.MaxUint64/factor {
		return 0, fmt.Errorf("parse bandwidth %q: it is too large", s)
	}
	return n * factor, nil
}
