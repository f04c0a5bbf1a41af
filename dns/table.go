package dns

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
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
	// Addrs become A and AAAA records. Each answer begins one address further than the one before, so that clients which
	// take the first one spread. An IPv4-mapped IPv6 address is an AAAA record: that is how control planes give an IPv4 VIP
	// to clients that ask for IPv6 (contract dns.md §2.5).
	Addrs []netip.Addr
}

// Table maps names to addresses and addresses back to names. Its content never changes once made, so it is safe for use by
// many goroutines. Letter case does not matter in lookups.
//
// All bytes lie one after the other in one slice and are referred to by their offset there: the garbage collector sees five
// objects, however many names there are.
type Table struct {
	data    []byte // of each name: its length, its wire form as given, its IPv4 and its IPv6 addresses
	entries []entry
	vips    []vip
	byName  index // of entries
	byAddr  index // of vips
	ttl     uint32
	skipped []error
}

// entry is a name.
type entry struct {
	at     uint32 // in data
	v4, v6 family
}

// family is the addresses of one kind that a name has.
type family struct {
	n    uint32
	turn atomic.Uint32 // how many answers have been given, when there is a choice
}

// vip is an address and the name it belongs to.
type vip struct {
	at, name uint32 // in data
	size     uint32
}

// NewTable makes a table. Answers may be kept for ttl, rounded down to seconds. Of two records with the same name the later
// one counts, as it does for the control plane (contract dns.md §2.3). Records that cannot be served are left out; Skipped
// tells which, so that one bad name does not take the others away.
func NewTable(records []Record, ttl time.Duration) *Table {
	size, count := 0, 0
	for i := range records {
		size += 1 + len(records[i].Name) + 2
		count += len(records[i].Addrs)
		for _, a := range records[i].Addrs {
			size += a.BitLen() / 8
		}
	}
	t := &Table{
		data:    make([]byte, 0, size),
		entries: make([]entry, 0, len(records)),
		vips:    make([]vip, 0, count),
		byName:  newIndex(len(records)),
		byAddr:  newIndex(count),
		ttl:     uint32(min(max(ttl, 0)/time.Second, 1<<31-1)), // RFC 2181 §8: a larger number means zero
	}
	for i := range records {
		t.add(&records[i])
	}
	return t
}

// add takes a record in, as far as it can be served.
func (t *Table) add(r *Record) {
	at := len(t.data)
	if uint64(at)+2*maxName+16*uint64(len(r.Addrs)) > math.MaxUint32 { // offsets would not reach it
		t.skipped = append(t.skipped, fmt.Errorf("name %.64q: the table is full", r.Name))
		return
	}
	data, err := appendName(append(t.data, 0), r.Name)
	if err != nil {
		t.skipped = append(t.skipped, err)
		return
	}
	data[at] = byte(len(data) - at - 1)
	var n4, n6 uint32
	for _, a := range r.Addrs {
		switch {
		case !a.IsValid():
			t.skipped = append(t.skipped, fmt.Errorf("name %q: address is not set", r.Name))
		case a.Is4():
			ip := a.As4()
			data = append(data, ip[:]...)
			n4++
		default:
			n6++
		}
	}
	for _, a := range r.Addrs {
		if a.Is6() {
			ip := a.As16()
			data = append(data, ip[:]...)
		}
	}
	t.data = data
	e := t.place(uint32(at))
	e.at, e.v4.n, e.v6.n = uint32(at), n4, n6
	off := uint32(len(data)) - 4*n4 - 16*n6
	for range n4 {
		t.addVIP(vip{at: off, size: 4, name: uint32(at)})
		off += 4
	}
	for range n6 {
		t.addVIP(vip{at: off, size: 16, name: uint32(at)})
		off += 16
	}
}

// place returns the entry of the name at an offset, which is a new one unless an earlier record has the same name.
func (t *Table) place(at uint32) *entry {
	var key [maxName]byte
	name := fold(key[:copy(key[:], t.name(at))])
	if e := t.find(name); e != nil {
		return e
	}
	t.byName.add(t.byName.hash(name), len(t.entries))
	t.entries = append(t.entries, entry{})
	return &t.entries[len(t.entries)-1]
}

// addVIP lets an address be looked up, unless an earlier record has it.
func (t *Table) addVIP(v vip) {
	ip := t.data[v.at:][:v.size]
	if t.owner(ip) == nil {
		t.byAddr.add(t.byAddr.hash(ip), len(t.vips))
		t.vips = append(t.vips, v)
	}
}

// find returns what a folded name in wire form resolves to, nil when the table does not have it.
func (t *Table) find(name []byte) *entry {
	hash := t.byName.hash(name)
	for i := hash; ; i++ {
		n, ok := t.byName.probe(&i, hash)
		if !ok {
			return nil
		}
		if e := &t.entries[n]; equalFold(t.name(e.at), name) {
			return e
		}
	}
}

// owner returns the name in wire form that an address belongs to, nil when there is none.
func (t *Table) owner(ip []byte) []byte {
	hash := t.byAddr.hash(ip)
	for i := hash; ; i++ {
		n, ok := t.byAddr.probe(&i, hash)
		if !ok {
			return nil
		}
		if v := t.vips[n]; bytes.Equal(t.data[v.at:][:v.size], ip) {
			return t.name(v.name)
		}
	}
}

// ownerOf is owner without an allocation.
func (t *Table) ownerOf(a netip.Addr) []byte {
	ip := a.As16()
	if a.Is4() {
		return t.owner(ip[12:])
	}
	return t.owner(ip[:])
}

// name returns the name at an offset, in wire form and as it was given.
func (t *Table) name(at uint32) []byte { return t.data[at+1:][:t.data[at]] }

// addrs returns the addresses of a name as bytes: four or sixteen for each.
func (t *Table) addrs(e *entry) (v4, v6 []byte) {
	rest := t.data[int(e.at)+1+int(t.data[e.at]):]
	return rest[:4*e.v4.n], rest[4*e.v4.n:][:16*e.v6.n]
}

// first returns which address the next answer begins with.
func (f *family) first() int {
	if f.n < 2 {
		return 0
	}
	return int((f.turn.Add(1) - 1) % f.n)
}

// Len returns the number of names.
func (t *Table) Len() int { return len(t.entries) }

// TTL returns how long answers may be kept.
func (t *Table) TTL() time.Duration { return time.Duration(t.ttl) * time.Second }

// Skipped returns why records were left out, nil when none were.
func (t *Table) Skipped() []error { return slices.Clone(t.skipped) }

// Lookup returns the addresses of a name, the IPv4 ones first, and whether the table has it at all.
func (t *Table) Lookup(name string) ([]netip.Addr, bool) {
	packed, err := appendName(nil, name)
	if err != nil {
		return nil, false
	}
	e := t.find(fold(packed))
	if e == nil {
		return nil, false
	}
	return t.list(e), true
}

// LookupAddr returns the name an address belongs to, without the dot at its end: the first one in the order of the records.
func (t *Table) LookupAddr(a netip.Addr) (string, bool) {
	name := t.ownerOf(a)
	return unpackName(name), name != nil
}

// Records returns the content sorted by name, for people to look at. Names are in lower case.
func (t *Table) Records() []Record {
	out := make([]Record, 0, len(t.entries))
	for i := range t.entries {
		e := &t.entries[i]
		out = append(out, Record{Name: unpackName(fold(slices.Clone(t.name(e.at)))), Addrs: t.list(e)})
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (t *Table) list(e *entry) []netip.Addr {
	v4, v6 := t.addrs(e)
	out := make([]netip.Addr, 0, e.v4.n+e.v6.n)
	for b := range slices.Chunk(v4, 4) {
		out = append(out, netip.AddrFrom4([4]byte(b)))
	}
	for b := range slices.Chunk(v6, 16) {
		out = append(out, netip.AddrFrom16([16]byte(b)))
	}
	return out
}
