package resource

import "strings"

// Limits of contract policies.md §1.2.
const (
	maxNameLength        = 253
	maxServiceNameLength = 63
)

const (
	badSubdomain = "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, " +
		"'-' or '.', and must start and end with an alphanumeric character"
	badOldName = "invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols."
)

// checkName adds the faults of a name: the rules of creation, or, when older is set, the wider ones for objects that
// exist already.
func (f *Faults) checkName(p Path, name string, older bool) {
	switch {
	case name == "":
		f.Add(p, "cannot be empty")
		return
	case len(name) > maxNameLength:
		f.Add(p, "value length must less or equal 253")
	}
	switch {
	case older && !isOldName(name):
		f.Add(p, badOldName)
	case !older && !isSubdomain(name):
		f.Add(p, badSubdomain)
	}
}

// isSubdomain is RFC 1123 without the limits of length: labels of [a-z0-9-], each with an alphanumeric at both ends.
func isSubdomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func isOldName(s string) bool {
	for i := range len(s) {
		if !isLowerAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isAlnum(c byte) bool { return isLowerAlnum(c) || c >= 'A' && c <= 'Z' }
