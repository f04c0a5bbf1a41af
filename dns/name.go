package dns

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// packName turns a name into its wire form. Escapes do not exist here: templates of hostnames cannot mean them.
func packName(name string) (string, error) {
	packed, err := appendName(nil, name)
	return string(packed), err
}

// appendName is packName behind the bytes of out.
func appendName(out []byte, name string) ([]byte, error) {
	trimmed := strings.TrimSuffix(name, ".")
	if trimmed == "" {
		return nil, errors.New("name is empty")
	}
	if len(trimmed) > maxName-2 {
		return nil, fmt.Errorf("name %.64q…: %d bytes are more than the %d a name can have", name, len(trimmed), maxName-2)
	}
	for label := range strings.SplitSeq(trimmed, ".") {
		if label == "" || len(label) > 63 {
			return nil, fmt.Errorf("name %q: label %q has %d bytes, need 1 to 63", name, label, len(label))
		}
		for _, c := range []byte(label) {
			if c <= ' ' || c == 0x7f {
				return nil, fmt.Errorf("name %q: label %q holds a space or control character", name, label)
			}
		}
		out = append(out, byte(len(label)))
		out = append(out, label...)
	}
	return append(out, 0), nil
}

func unpackName(wire []byte) string {
	var b strings.Builder
	for len(wire) > 1 {
		n := int(wire[0])
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.Write(wire[1 : 1+n])
		wire = wire[1+n:]
	}
	return b.String()
}

// fold lowers ASCII letters in place; length bytes are at most 63 and so never letters.
func fold(b []byte) []byte {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

// equalFold says whether a name is, apart from letter case, the folded one.
func equalFold(name, folded []byte) bool {
	if bytes.Equal(name, folded) {
		return true
	}
	if len(name) != len(folded) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != folded[i] {
			return false
		}
	}
	return true
}
