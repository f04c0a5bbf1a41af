package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultTTL is what control planes send with their tables. It is short on purpose: a name may move to another address.
const DefaultTTL = 30 * time.Second

// maxName is the longest name in wire form, root label included (RFC 1035 §3.1).
const maxName = 255

// Record gives a name its addresses.
type Record struct {
	// Name is the hostname, with or without the dot at its end, in any letter case. Anything of the right length is
	// served, also names that are no hostnames such as backend_demo_svc_80.mesh.
	Name string
	// Addrs become A and AAAA records in the order given. An IPv4-mapped IPv6 address is an AAAA record: that is how
	// control planes give an IPv4 VIP to clients that ask for IPv6 (contract dns.md §2.5).
	Addrs []netip.Addr
}

// entry is what a name resolves to, as the bytes of the records: four or sixteen for each address.
type entry struct{ v4, v6 []byte }

// Table maps names to addresses and addresses back to names. It never changes once made, so it is safe for use by many
// goroutines. Letter case does not matter in lookups.
type Table struct {
	names   map[string]entry // keyed by the folded name in wire form, which is what a query contains
	reverse map[netip.Addr]string
	ttl     uint32
	skipped []error
}

// NewTable makes a table. Answers may be kept for ttl, rounded down to seconds. Of two records with the same name the later
// one counts, as it does for the control plane (contract dns.md §2.3). Records that cannot be served are left out; Skipped
// tells which, so that one bad name does not take the others away.
func NewTable(records []Record, ttl time.Duration) *Table {
	t := &Table{
		names:   make(map[string]entry, len(records)),
		reverse: make(map[netip.Addr]string, len(records)),
		ttl:     uint32(min(max(ttl, 0)/time.Second, 1<<31-1)), // RFC 2181 §8: a larger number means zero
	}
	for _, r := range records {
		name, err := packName(r.Name)
		if err != nil {
			t.skipped = append(t.skipped, err)
			continue
		}
		var e entry
		for _, a := range r.Addrs {
			switch {
			case !a.IsValid():
				t.skipped = append(t.skipped, fmt.Errorf("name %q: address is not set", r.Name))
				continue
			case a.Is4():
				e.v4 = append(e.v4, a.AsSlice()...)
			default:
				a = a.WithZone("")
				e.v6 = append(e.v6, a.AsSlice()...)
			}
			if _, taken := t.reverse[a]; !taken {
				t.reverse[a] = name
			}
		}
		t.names[string(fold([]byte(name)))] = e
	}
	return t
}

// Len returns the number of names.
func (t *Table) Len() int { return len(t.names) }

// TTL returns how long answers may be kept.
func (t *Table) TTL() time.Duration { return time.Duration(t.ttl) * time.Second }

// Skipped returns why records were left out, nil when none were.
func (t *Table) Skipped() []error { return slices.Clone(t.skipped) }

// Lookup returns the addresses of a name, the IPv4 ones first, and whether the table has it at all.
func (t *Table) Lookup(name string) ([]netip.Addr, bool) {
	packed, err := packName(name)
	if err != nil {
		return nil, false
	}
	e, ok := t.names[string(fold([]byte(packed)))]
	if !ok {
		return nil, false
	}
	return e.addrs(), true
}

// LookupAddr returns the name an address belongs to, without the dot at its end: the first one in the order of the records.
func (t *Table) LookupAddr(a netip.Addr) (string, bool) {
	name, ok := t.reverse[a]
	return unpackName(name), ok
}

// Records returns the content sorted by name, for people to look at. Names are in lower case.
func (t *Table) Records() []Record {
	out := make([]Record, 0, len(t.names))
	for name, e := range t.names {
		out = append(out, Record{Name: unpackName(name), Addrs: e.addrs()})
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (e entry) addrs() []netip.Addr {
	out := make([]netip.Addr, 0, len(e.v4)/4+len(e.v6)/16)
	for b := range slices.Chunk(e.v4, 4) {
		out = append(out, netip.AddrFrom4([4]byte(b)))
	}
	for b := range slices.Chunk(e.v6, 16) {
		out = append(out, netip.AddrFrom16([16]byte(b)))
	}
	return out
}

// packName turns a name into its wire form. Escapes do not exist here: templates of hostnames cannot mean them.
func packName(name string) (string, error) {
	trimmed := strings.TrimSuffix(name, ".")
	if trimmed == "" {
		return "", errors.New("name is empty")
	}
	if len(trimmed) > maxName-2 {
		return "", fmt.Errorf("name %.64q…: %d bytes are more than the %d a name can have", name, len(trimmed), maxName-2)
	}
	out := make([]byte, 0, len(trimmed)+2)
	for label := range strings.SplitSeq(trimmed, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("name %q: label %q has %d bytes, need 1 to 63", name, label, len(label))
		}
		if i := strings.IndexFunc(label, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
			return "", fmt.Errorf("name %q: label %q holds a space or control character", name, label)
		}
		out = append(out, byte(len(label)))
		out = append(out, label...)
	}
	return string(append(out, 0)), nil
}

func unpackName(wire string) string {
	var b strings.Builder
	for len(wire) > 1 {
		n := int(wire[0])
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(wire[1 : 1+n])
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
