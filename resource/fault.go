package resource

import (
	"slices"
	"strconv"
	"strings"
)

// Path is the place of a field as a user sees it, such as `spec.to[0].default.http`. The empty Path is the root.
type Path string

// Field returns the path of a field of p.
func (p Path) Field(name string) Path {
	if p == "" {
		return Path(name)
	}
	return p + "." + Path(name)
}

// Index returns the path of an element of the list p.
func (p Path) Index(i int) Path { return p + Path("["+strconv.Itoa(i)+"]") }

// Key returns the path of a value of the map p: `labels["a"]`.
func (p Path) Key(key string) Path { return p + Path("["+strconv.Quote(key)+"]") }

// Faults collects violations. Its methods add one when the value is at fault, with the texts of contract
// policies.md §3.1, so that every kind says the same thing about the same mistake. The zero value is ready.
type Faults []Violation

// Add notes a violation.
func (f *Faults) Add(p Path, reason string) {
	*f = append(*f, Violation{Field: string(p), Reason: reason})
}

// OneOf is the schema's check of an enumeration; an absent (empty) value passes.
func (f *Faults) OneOf(p Path, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		f.Add(p, "in body should be one of ["+strings.Join(allowed, " ")+"]")
	}
}

// AboveZero wants a duration of more than zero when there is one.
func (f *Faults) AboveZero(p Path, d *Duration) {
	if d != nil && d.Duration <= 0 {
		f.Add(p, "must be greater than zero when defined")
	}
}

// NotNegative wants a duration of zero or more when there is one.
func (f *Faults) NotNegative(p Path, d *Duration) {
	if d != nil && d.Duration < 0 {
		f.Add(p, "must not be negative when defined")
	}
}

// Count wants a number of at least one when there is one.
func (f *Faults) Count(p Path, n *uint32) {
	if n != nil && *n == 0 {
		f.Add(p, "must be greater than 0")
	}
}

// Percent wants a number of 0 to 100 when there is one.
func (f *Faults) Percent(p Path, n *uint32) {
	if n != nil && *n > 100 {
		f.Add(p, "must be in inclusive range [0, 100]")
	}
}

// port wants 1 to 65535.
func (f *Faults) port(p Path, n uint32) {
	if n < 1 || n > 65535 {
		f.Add(p, "port must be in the range [1, 65535]")
	}
}
