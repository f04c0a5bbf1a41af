package resource

import (
	"encoding/hex"
	"hash/fnv"
	"io"
)

// hashAlphabet has no vowels, and no characters that are easily taken for others.
const hashAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// SyncedName is the name under which other control planes know a resource: its display name and a hash of what tells it
// apart from those of the same name, so that resources of several zones do not clash (contract policies.md §1.5). It is
// the same wherever it is computed, for the display name and the labels travel along. The display name is cut to keep
// the whole within 253 characters.
func SyncedName(m *Meta) string {
	display := m.DisplayName()
	h := fnv.New64a()
	for _, part := range []string{m.Mesh, display, m.Labels[LabelZone], m.Labels[LabelNamespace]} {
		_, _ = io.WriteString(h, part)
	}
	hash := hex.AppendEncode(nil, h.Sum(nil))
	for i, b := range hash {
		hash[i] = hashAlphabet[int(b)%len(hashAlphabet)]
	}
	suffix := "-" + string(hash)
	if limit := maxNameLength - len(suffix); len(display) > limit {
		display = display[:limit]
	}
	return display + suffix
}
