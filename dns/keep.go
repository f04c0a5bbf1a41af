package dns

import (
	"encoding/binary"
	"time"
)

const (
	flagAD     = 1 << 5
	flagZ      = 1 << 6
	typeTKEY   = 249 // with it begin the types that are no records of a zone; they end before ANY
	keyMax     = maxName + 4
	maxTTLSane = 1<<31 - 1 // RFC 2181 §8: a larger one means zero
)

// Options of EDNS that do not change what an answer says: cookies, keepalive, padding, and that extended errors are welcome.
const (
	optionCookie    = 10
	optionKeepalive = 11
	optionPadding   = 12
)

// cacheKey writes what tells questions with different answers apart: name, type, and what the client understands. It returns
// false for a query that is not an ordinary one: its answer is nobody else's.
func cacheKey(buf *[keyMax]byte, msg []byte, q *query) ([]byte, bool) {
	additional := 0
	if q.edns {
		additional = 1
	}
	if q.qclass != classIN || q.flags&(flagRD|flagAA|flagTC|flagRA|flagZ) != flagRD || (q.qtype >= typeTKEY && q.qtype < typeANY) ||
		binary.BigEndian.Uint32(msg[6:]) != 0 || int(binary.BigEndian.Uint16(msg[10:])) != additional {
		return nil, false
	}
	var flags byte
	if q.edns {
		if !plainOPT(msg[q.end:]) {
			return nil, false
		}
		flags = 1
	}
	if q.do {
		flags |= 2
	}
	key := buf[:copy(buf[:], q.name())]
	key = binary.BigEndian.AppendUint16(key, q.qtype)
	return append(key, flags|byte(q.flags&(flagCD|flagAD))), true
}

// plainOPT says whether a well-formed OPT record asks for nothing but DNSSEC.
func plainOPT(rr []byte) bool {
	if rr[5] != 0 || binary.BigEndian.Uint16(rr[7:])&^doBit != 0 {
		return false
	}
	for options := rr[optLen:]; len(options) > 0; {
		switch binary.BigEndian.Uint16(options) {
		case optionCookie, optionKeepalive, optionPadding, optionEDE:
		default:
			return false
		}
		options = options[4+binary.BigEndian.Uint16(options[2:]):]
	}
	return true
}

// failed says whether an answer says nothing about the name.
func failed(resp []byte) bool {
	rcode := resp[3] & rcodeMask
	return rcode != rcodeOK && rcode != rcodeNXDomain
}

// keepable returns the form in which an answer is kept and for how long. It is not kept when it is large, cut, malformed, an answer
// to something else, or does not say for how long (RFC 2308 §5). Options are for one client only, so they are left out.
func keepable(resp []byte, q *query) (answer []byte, ttl time.Duration, ok bool) {
	if len(resp) > maxKept || len(resp) < q.end || binary.BigEndian.Uint16(resp[4:]) != 1 || binary.BigEndian.Uint16(resp[2:])&(flagQR|flagTC) != flagQR {
		return nil, 0, false
	}
	r := reading{q: q, least: maxTTLSane}
	off := q.end
	for section := 0; section < 3; section++ {
		for range binary.BigEndian.Uint16(resp[6+2*section:]) {
			at := skipName(resp, off)
			next := skipRecord(resp, off)
			if next < 0 || !r.record(resp, section, off, at, next) {
				return nil, 0, false
			}
			off = next
		}
	}
	if off != len(resp) {
		return nil, 0, false
	}
	switch rcode := resp[3] & rcodeMask; {
	case rcode == rcodeServFail, rcode == rcodeRefused:
		r.least = uint32(failureTTL / time.Second)
	case rcode != rcodeOK && rcode != rcodeNXDomain:
		return nil, 0, false
	case (rcode == rcodeNXDomain || !r.found) && !r.negative:
		return nil, 0, false
	}
	ttl = time.Duration(r.least) * time.Second
	if r.negative {
		ttl = min(ttl, negativeMax)
	}
	if ttl == 0 {
		return nil, 0, false
	}
	answer = append(make([]byte, 0, len(resp)), resp...)
	copy(answer, "\x00\x00")
	if r.opt > 0 {
		answer = answer[:r.opt+optLen]
		answer[r.opt+9], answer[r.opt+10] = 0, 0
	}
	return answer, ttl, true
}

// reading is what the records of an answer say together.
type reading struct {
	q        *query
	least    uint32 // TTL
	found    bool   // there is a record of the type that was asked for
	negative bool   // there is an SOA that says for how long there is none
	opt      int    // offset of the OPT record
}

// record reads one record whose name is at off and whose type at at. It returns false when it forbids keeping the answer.
func (r *reading) record(resp []byte, section, off, at, next int) bool {
	typ, ttl := binary.BigEndian.Uint16(resp[at:]), binary.BigEndian.Uint32(resp[at+4:])
	if typ == typeOPT {
		// Only at the end can its options be left out. The upper bits of the response code must not say more than the header.
		if section != 2 || r.opt > 0 || at != off+1 || next != len(resp) || resp[at+4] != 0 || !r.q.edns {
			return false
		}
		r.opt = off
		return true
	}
	if ttl > maxTTLSane {
		ttl = 0
	}
	if section == 1 && typ == typeSOA {
		end := skipName(resp, at+10)
		if end >= 0 {
			end = skipName(resp, end)
		}
		if end < 0 || end+20 != next {
			return false
		}
		r.negative = true
		ttl = min(ttl, binary.BigEndian.Uint32(resp[next-4:]))
	}
	if section == 0 && (typ == r.q.qtype || r.q.qtype == typeANY) {
		r.found = true
	}
	r.least = min(r.least, ttl)
	return true
}
