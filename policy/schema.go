package policy

import (
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// NeedOneOf is the schema's check of an enumeration that must have a value.
func NeedOneOf(f *resource.Faults, p resource.Path, value string, allowed ...string) {
	if value == "" {
		f.Add(p, "in body is required")
	}
	f.OneOf(p, value, allowed...)
}

// CheckBounds is the schema's check of a number; an absent one passes.
func CheckBounds(f *resource.Faults, p resource.Path, n *uint32, low, high uint32) {
	switch {
	case n == nil:
	case *n < low:
		f.Add(p, "in body should be greater than or equal to "+strconv.FormatUint(uint64(low), 10))
	case *n > high:
		f.Add(p, "in body should be less than or equal to "+strconv.FormatUint(uint64(high), 10))
	}
}

// NeedText is the schema's check of a text that must not be empty.
func NeedText(f *resource.Faults, p resource.Path, value string) {
	if value == "" {
		f.Add(p, "in body should be at least 1 chars long")
	}
}

// The schema's expression for names of headers (contract policies.md §3.5), and its parts.
const (
	headerSyntax     = "^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$"
	headerCharacters = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
	maxHeaderLength  = 256
)

// CheckHeaderName is the schema's check of the name of a header: lower case, 1 to 256 characters.
func CheckHeaderName(f *resource.Faults, p resource.Path, name string) {
	switch {
	case name == "":
		NeedText(f, p, name)
	case len(name) > maxHeaderLength:
		f.Add(p, "in body should be at most 256 chars long")
	case strings.Trim(name, headerCharacters) != "":
		f.Add(p, "in body should match '"+headerSyntax+"'")
	}
}
