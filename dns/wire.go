package dns

import "encoding/binary"

// Sizes and limits of the wire form.
const (
	headerLen   = 12
	optLen      = 11   // an OPT record without options
	recordLen   = 12   // a record without its data, its owner a pointer
	minUDP      = 512  // what a client without EDNS takes (RFC 1035 §4.2.1)
	maxUDP      = 4096 // what we send at most, however much a client offers
	offeredUDP  = 1232 // what we say we take: fits any path unfragmented (contract dns.md §4.4)
	maxMessage  = 65535
	namePointer = 0xc000 // marks a compression pointer
	classIN     = 1
	flagQR      = 1 << 15
	flagAA      = 1 << 10
	flagTC      = 1 << 9
	flagRD      = 1 << 8
	flagRA      = 1 << 7
	flagCD      = 1 << 4
	opcodeMask  = 0xf << 11
	rcodeMask   = 0xf
	doBit       = 1 << 15 // in the TTL field of OPT
	optionEDE   = 15      // RFC 8914
)

// Record types the resolver has to tell apart.
const (
	typeA    = 1
	typeSOA  = 6
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeIXFR = 251
	typeAXFR = 252
	typeANY  = 255
)

// Response codes. badVers does not fit the header: its upper bits travel in OPT.
const (
	rcodeOK       = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16
)

// Extended errors (RFC 8914) sent to clients that speak EDNS.
const (
	edeNone     = 0xffff // no option is sent
	edeOther    = 0
	edeNotReady = 14
	edeNoReach  = 22
	edeNetwork  = 23
)

// query is what the resolver reads from a request. It is filled in place, so that the hot path allocates nothing.
type query struct {
	id, flags     uint16
	qtype, qclass uint16
	end           int // offset behind the question; 0 when the question could not be read
	edns, do      bool
	version       uint8
	udpSize       uint16 // what the client takes over UDP
	size          int    // of the whole request
	keyLen        int
	key           [maxName]byte // folded name in wire form
}

func (q *query) name() []byte { return q.key[:q.keyLen] }

// parse reads a request. It returns false when nothing may be answered: no header, or a response, to which answering would
// make loops. Otherwise the code says what to answer: rcodeOK means the query is well-formed.
func (q *query) parse(msg []byte) (rcode int, answerable bool) {
	q.end, q.edns, q.do, q.version, q.udpSize, q.keyLen = 0, false, false, 0, minUDP, 0
	if len(msg) < headerLen {
		return 0, false
	}
	q.id, q.flags = binary.BigEndian.Uint16(msg), binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagQR != 0 {
		return 0, false
	}
	if q.flags&opcodeMask != 0 {
		return rcodeNotImp, true
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 || !q.question(msg) {
		return rcodeFormErr, true
	}
	rest := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	off := q.end
	for range rest {
		if off = skipRecord(msg, off); off < 0 {
			return rcodeFormErr, true
		}
	}
	for range binary.BigEndian.Uint16(msg[10:]) {
		next := skipRecord(msg, off)
		if next < 0 {
			return rcodeFormErr, true
		}
		if after := skipName(msg, off); binary.BigEndian.Uint16(msg[after:]) == typeOPT {
			// Exactly one, and its owner is the root spelled out (RFC 6891 §6.1).
			if q.edns || after != off+1 || !q.opt(msg[after:next]) {
				return rcodeFormErr, true
			}
		}
		off = next
	}
	if off != len(msg) || q.qtype == typeOPT {
		return rcodeFormErr, true
	}
	return rcodeOK, true
}

// question reads the only question. A compressed name is refused: there is nothing before it to point at.
func (q *query) question(msg []byte) bool {
	off, n := headerLen, 0
	for {
		if off >= len(msg) {
			return false
		}
		l := int(msg[off])
		if l > 63 || off+1+l > len(msg) || n+1+l > maxName {
			return false
		}
		for _, c := range msg[off : off+1+l] { // the length byte is no letter
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.key[n] = c
			n++
		}
		off += 1 + l
		if l == 0 {
			break
		}
	}
	if off+4 > len(msg) {
		return false
	}
	q.keyLen = n
	q.qtype, q.qclass = binary.BigEndian.Uint16(msg[off:]), binary.BigEndian.Uint16(msg[off+2:])
	q.end = off + 4
	return true
}

// opt reads an OPT record from its type on.
func (q *query) opt(rr []byte) bool {
	q.edns = true
	q.udpSize = max(binary.BigEndian.Uint16(rr[2:]), minUDP)
	q.version = rr[5]
	q.do = binary.BigEndian.Uint16(rr[6:])&doBit != 0
	options := rr[10:]
	for len(options) > 0 {
		if len(options) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if n > len(options) {
			return false
		}
		options = options[n:]
	}
	return true
}

// limit is how large an answer may be.
func (q *query) limit(tcp bool) int {
	if tcp {
		return maxMessage
	}
	return min(int(q.udpSize), maxUDP)
}

// skipRecord returns the offset behind the record at off, or -1 when it does not lie within msg.
func skipRecord(msg []byte, off int) int {
	if off = skipName(msg, off); off < 0 || off+10 > len(msg) {
		return -1
	}
	off += 10 + int(binary.BigEndian.Uint16(msg[off+8:]))
	if off > len(msg) {
		return -1
	}
	return off
}

// skipName returns the offset behind a name, or -1. Pointers must point back, which is what makes names finite.
func skipName(msg []byte, off int) int {
	for off < len(msg) {
		switch l := int(msg[off]); {
		case l == 0:
			return off + 1
		case l <= 63:
			off += 1 + l
		case l >= namePointer>>8:
			if off+2 > len(msg) {
				return -1
			}
			if to := int(binary.BigEndian.Uint16(msg[off:]) &^ namePointer); to < headerLen || to >= off {
				return -1
			}
			return off + 2
		default:
			return -1
		}
	}
	return -1
}

// wellFormed says whether the records that the header of a response announces are all there.
func wellFormed(msg []byte, off int) bool {
	n := 0
	for i := 6; i < headerLen; i += 2 {
		n += int(binary.BigEndian.Uint16(msg[i:]))
	}
	for range n {
		if off = skipRecord(msg, off); off < 0 {
			return false
		}
	}
	return true
}
