package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// verdict is what becomes of a request.
type verdict uint8

const (
	ignored   verdict = iota // nothing is sent
	answered                 // the answer is complete
	forwarded                // somebody else knows
)

// responder is the hot path: it answers from the table. Its methods allocate nothing and are safe for concurrent use.
type responder struct {
	table atomic.Pointer[Table]
	hold  [][]byte // suffixes in wire form, see Config.HoldSuffixes
}

// respond reads msg into q and appends the answer to out. With verdict forwarded the query is well-formed and not ours.
func (r *responder) respond(out, msg []byte, q *query, tcp bool) ([]byte, verdict) {
	rcode, answerable := q.parse(msg)
	switch {
	case !answerable:
		return out, ignored
	case rcode != rcodeOK:
		// The question may be unreadable: the header alone goes back, never more bytes than came in.
		return appendHeader(out, q, rcode, 0), answered
	case q.version > 0:
		return appendEmpty(out, msg, q, rcodeBadVers, edeNone), answered
	case q.qclass != classIN:
		return appendEmpty(out, msg, q, rcodeRefused, edeNone), answered
	}
	t := r.table.Load()
	if t != nil {
		if e := t.find(q.name()); e != nil {
			return appendAddrs(out, msg, q, t, e, q.limit(tcp)), answered
		}
	}
	addr, reverse := reverseAddr(q.name())
	switch {
	case t == nil && (r.held(q.name()) || (reverse && reserved(addr))):
		return appendEmpty(out, msg, q, rcodeServFail, edeNotReady), answered
	case t == nil || !reverse:
		return r.other(out, msg, q)
	}
	if name := t.ownerOf(addr); name != nil {
		return appendPTR(out, msg, q, name, t.ttl, q.limit(tcp)), answered
	}
	if reserved(addr) {
		return appendUnknown(out, msg, q, t.ttl), answered
	}
	return r.other(out, msg, q)
}

func (r *responder) other(out, msg []byte, q *query) ([]byte, verdict) {
	if q.qtype == typeAXFR || q.qtype == typeIXFR {
		return appendEmpty(out, msg, q, rcodeRefused, edeNone), answered // many messages, and nothing a workload needs
	}
	return out, forwarded
}

// held says whether a name could be the mesh's before the first table has told (contract dns.md §4.8): asking an upstream
// would bring an NXDOMAIN that clients remember.
func (r *responder) held(name []byte) bool {
	for _, s := range r.hold {
		if bytes.HasSuffix(name, s) && atLabel(name, len(name)-len(s)) {
			return true
		}
	}
	return false
}

// atLabel says whether a label begins at offset at.
func atLabel(name []byte, at int) bool {
	off := 0
	for off < at {
		off += 1 + int(name[off])
	}
	return off == at
}

// reserved is the range that control planes take VIPs from by default. Nobody else can know a name in it, so asking an
// upstream would only leak the question, whatever its type.
func reserved(a netip.Addr) bool {
	a = a.Unmap()
	return a.Is4() && a.As4()[0] >= 240
}

// appendHeader writes a header whose question and record counts are still zero, except those of flags.
func appendHeader(out []byte, q *query, rcode int, flags uint16) []byte {
	flags |= flagQR | flagRA | q.flags&(flagRD|flagCD|opcodeMask) | uint16(rcode&rcodeMask)
	out = binary.BigEndian.AppendUint16(out, q.id)
	out = binary.BigEndian.AppendUint16(out, flags)
	return append(out, 0, 0, 0, 0, 0, 0, 0, 0)
}

// appendStart writes the header and the question as the client spelled it: resolvers that mix letter case check it.
func appendStart(out, msg []byte, q *query, rcode int, flags uint16) []byte {
	start := len(out)
	out = appendHeader(out, q, rcode, flags)
	out[start+5] = 1
	return append(out, msg[headerLen:q.end]...)
}

// appendOPT ends an answer to a client that speaks EDNS.
func appendOPT(out []byte, start int, q *query, rcode int, ede uint16) []byte {
	if !q.edns {
		return out
	}
	out[start+11] = 1
	out = append(out, 0, 0, typeOPT)
	out = binary.BigEndian.AppendUint16(out, offeredUDP)
	var do uint16
	if q.do {
		do = doBit
	}
	out = append(out, byte(rcode>>4), 0)
	out = binary.BigEndian.AppendUint16(out, do)
	if ede == edeNone {
		return append(out, 0, 0)
	}
	out = append(out, 0, 6, 0, optionEDE, 0, 2)
	return binary.BigEndian.AppendUint16(out, ede)
}

// appendEmpty writes an answer without records.
func appendEmpty(out, msg []byte, q *query, rcode int, ede uint16) []byte {
	start := len(out)
	return appendOPT(appendStart(out, msg, q, rcode, 0), start, q, rcode, ede)
}

// appendAddrs answers for a name of the mesh. A family or type it lacks is no data, never an unknown name: resolvers that
// ask for A and AAAA at once take an unknown name as the answer to both (contract dns.md §4.6).
func appendAddrs(out, msg []byte, q *query, t *Table, e *entry, limit int) []byte {
	start := len(out)
	out = appendStart(out, msg, q, rcodeOK, flagAA)
	room := limit - (len(out) - start)
	if q.edns {
		room -= optLen
	}
	v4, v6 := t.addrs(e)
	n, cut := 0, false
	if q.qtype == typeA || q.qtype == typeANY {
		out, n, cut = appendFamily(out, v4, e.v4.first(), 4, typeA, t.ttl, room)
	}
	if (q.qtype == typeAAAA || q.qtype == typeANY) && !cut {
		var m int
		out, m, cut = appendFamily(out, v6, e.v6.first(), 16, typeAAAA, t.ttl, room-n*(recordLen+4))
		n += m
	}
	switch {
	case cut:
		binary.BigEndian.PutUint16(out[start+2:], binary.BigEndian.Uint16(out[start+2:])|flagTC)
		fallthrough
	case n > 0:
		binary.BigEndian.PutUint16(out[start+6:], uint16(n))
	default:
		out = appendSOA(out, start, headerLen, t.ttl)
	}
	return appendOPT(out, start, q, rcodeOK, edeNone)
}

// appendFamily writes the records that fit whole, from the first one that is wanted, round the end of the list.
func appendFamily(out, addrs []byte, first, size int, typ uint16, ttl uint32, room int) (_ []byte, n int, cut bool) {
	at := first * size
	for range len(addrs) / size {
		if room < recordLen+size {
			return out, n, true
		}
		out = appendRecord(out, headerLen, typ, ttl, size)
		out = append(out, addrs[at:at+size]...)
		if at += size; at == len(addrs) {
			at = 0
		}
		room -= recordLen + size
		n++
	}
	return out, n, false
}

// appendPTR answers with the name of a VIP, which is all there is at the name of its address.
func appendPTR(out, msg []byte, q *query, name []byte, ttl uint32, limit int) []byte {
	start := len(out)
	out = appendStart(out, msg, q, rcodeOK, flagAA)
	switch {
	case q.qtype != typePTR && q.qtype != typeANY:
		out = appendSOA(out, start, headerLen, ttl)
	case len(out)-start+recordLen+len(name)+optLen > limit: // only a question of the longest kind and the longest name
		binary.BigEndian.PutUint16(out[start+2:], binary.BigEndian.Uint16(out[start+2:])|flagTC)
	default:
		out[start+7] = 1
		out = appendRecord(out, headerLen, typePTR, ttl, len(name))
		out = append(out, name...)
	}
	return appendOPT(out, start, q, rcodeOK, edeNone)
}

// appendUnknown says that a name does not exist, on the authority of the name above it.
func appendUnknown(out, msg []byte, q *query, ttl uint32) []byte {
	start := len(out)
	out = appendStart(out, msg, q, rcodeNXDomain, flagAA)
	out = appendSOA(out, start, headerLen+1+int(msg[headerLen]), ttl)
	return appendOPT(out, start, q, rcodeNXDomain, edeNone)
}

// appendRecord writes a record up to its data. owner is the offset of its name in the message.
func appendRecord(out []byte, owner int, typ uint16, ttl uint32, size int) []byte {
	out = binary.BigEndian.AppendUint16(out, namePointer|uint16(owner))
	out = binary.BigEndian.AppendUint16(out, typ)
	out = append(out, 0, classIN)
	out = binary.BigEndian.AppendUint32(out, ttl)
	return binary.BigEndian.AppendUint16(out, uint16(size))
}

// appendSOA writes the authority record that lets clients remember an empty answer for ttl (RFC 2308 §2). Nobody transfers
// the zone, so the server is the zone itself and the other numbers are customary ones.
func appendSOA(out []byte, start, owner int, ttl uint32) []byte {
	out[start+9] = 1
	out = appendRecord(out, owner, typeSOA, ttl, 2+1+5*4)
	out = binary.BigEndian.AppendUint16(out, namePointer|uint16(owner))
	out = append(out, 0)
	for _, n := range [...]uint32{1, 3600, 600, 86400, ttl} {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	return out
}

// appendCut turns an answer of an upstream that is too large for the client into one without records that says so.
func appendCut(out, msg []byte, q *query, resp []byte) []byte {
	start := len(out)
	out = append(out, resp[:4]...)
	out[start+2] |= flagTC >> 8
	out = append(out, 0, 1, 0, 0, 0, 0, 0, 0)
	out = append(out, msg[headerLen:q.end]...)
	return appendOPT(out, start, q, rcodeOK, edeNone)
}
