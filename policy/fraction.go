package policy

import (
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Decimal reads a number that policies write as a whole number or, with a fraction, as a string ("33.3"). It is false for
// anything else, also for Go's other notations such as "0x1p4" and "Inf".
func Decimal(v resource.IntOrString) (float64, bool) {
	s := v.String()
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// CheckDecimalPercent wants a Decimal of 0 to 100 when there is a number (contract policies.md §3.1).
func CheckDecimalPercent(f *resource.Faults, p resource.Path, v *resource.IntOrString) {
	if v == nil {
		return
	}
	switch n, ok := Decimal(*v); {
	case !ok:
		f.Add(p, "string must be a valid number")
	case n < 0 || n > 100:
		f.Add(p, "must be in inclusive range [0.0, 100.0]")
	}
}
