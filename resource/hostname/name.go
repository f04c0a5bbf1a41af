package hostname

import (
	"fmt"
	"strings"
)

const (
	maxName  = 253
	maxLabel = 63
)

const badSubdomain = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and ` +
	`end with an alphanumeric character (e.g. 'example.com', regex used for validation is ` +
	`'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

// Unserved says why a name cannot be served by DNS, nothing when it can. Upper case and underscores can: 2.9 publishes them
// (contract dns.md §1.3, §5.4).
func Unserved(name string) []string {
	return reasons(name, func(c byte) bool { return alphanumeric(c) || c == '_' || c >= 'A' && c <= 'Z' })
}

// Irregular says in which ways a name is not an RFC 1123 subdomain, which a new template must give.
func Irregular(name string) []string { return reasons(name, alphanumeric) }

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func reasons(name string, letter func(c byte) bool) (out []string) {
	if len(name) > maxName {
		out = append(out, tooLong())
	}
	long, bad := false, false
	for part := range strings.SplitSeq(name, ".") {
		long = long || len(part) > maxLabel
		bad = bad || !isLabel(part, letter)
	}
	if bad {
		out = append(out, badSubdomain)
	}
	if long {
		out = append(out, fmt.Sprintf("each part must be no more than %d characters", maxLabel))
	}
	return out
}

func tooLong() string { return fmt.Sprintf("must be no more than %d characters", maxName) }

// isLabel tells whether s is made of letters, and of hyphens between them.
func isLabel(s string, letter func(c byte) bool) bool {
	for i := range len(s) {
		if c := s[i]; !letter(c) && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}
