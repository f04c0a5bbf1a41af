package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Duration is a time span in Go's form: "1h0m0s", "500ms". It is what policies use.
type Duration struct {
	time.Duration
}

// MarshalJSON writes Go's form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.Duration.String()) }

// UnmarshalJSON reads Go's form.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read a duration: %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("read a duration: %w", err)
	}
	d.Duration = v
	return nil
}

const (
	day  = 24 * time.Hour
	week = 7 * day
	year = 365 * day
)

// ParseDuration reads the grammar of Mesh (contract controlplane.md §5.1): one whole number and one unit of
// ms, s, m, h, d, w, y (365 days), or the bare "0".
func ParseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == 0 {
		return 0, fmt.Errorf("parse duration %q: want a whole number and a unit, such as 24h or 30d", s)
	}
	var unit time.Duration
	switch s[i:] {
	case "ms":
		unit = time.Millisecond
	case "s":
		unit = time.Second
	case "m":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		unit = day
	case "w":
		unit = week
	case "y":
		unit = year
	default:
		return 0, fmt.Errorf("parse duration %q: unit %q is none of ms, s, m, h, d, w, y", s, s[i:])
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse duration %q: %w", s, errors.Unwrap(err))
	}
	if n > math.MaxInt64/int64(unit) {
		return 0, fmt.Errorf("parse duration %q: it is longer than 292 years", s)
	}
	return time.Duration(n) * unit, nil
}
