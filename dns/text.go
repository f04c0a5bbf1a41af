package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// typeNames are the record types that people know by name (IANA, Resource Record TYPEs). Others are TYPE and a number
// (RFC 3597 §5).
var typeNames = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 29: "LOC", 33: "SRV", 35: "NAPTR",
	39: "DNAME", 41: "OPT", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA",
	59: "CDS", 60: "CDNSKEY", 64: "SVCB", 65: "HTTPS", 99: "SPF", 250: "TSIG", 251: "IXFR", 252: "AXFR", 255: "ANY", 256: "URI", 257: "CAA",
}

var classNames = map[uint16]string{1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}

var rcodeNames = []string{
	"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
	rcodeBadVers: "BADVERS",
}

// ParseType reads the name of a record type, such as AAAA or TYPE65280, in any letter case.
func ParseType(s string) (uint16, error) {
	s = strings.ToUpper(s)
	for n, name := range typeNames {
		if name == s {
			return n, nil
		}
	}
	if digits, ok := strings.CutPrefix(s, "TYPE"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("record type %.32q is not known; TYPE and a number always is", s)
}

func appendType(b []byte, t uint16) []byte  { return appendCode(b, typeNames[t], "TYPE", t) }
func appendClass(b []byte, c uint16) []byte { return appendCode(b, classNames[c], "CLASS", c) }

func appendCode(b []byte, name, prefix string, n uint16) []byte {
	if name != "" {
		return append(b, name...)
	}
	return strconv.AppendUint(append(b, prefix...), uint64(n), 10)
}

func rcodeName(code int) string {
	if code < len(rcodeNames) && rcodeNames[code] != "" {
		return rcodeNames[code]
	}
	return "RCODE" + strconv.Itoa(code)
}

// appendDotted writes an uncompressed name as master files do (RFC 1035 §5.1), dot at the end included. Whatever a name
// holds, a line of a log stays one line and one word.
func appendDotted(b, wire []byte) []byte {
	if len(wire) == 0 || wire[0] == 0 {
		return append(b, '.')
	}
	for wire[0] != 0 {
		n := 1 + int(wire[0])
		b = append(appendEscaped(b, wire[1:n], `."();@$`), '.')
		wire = wire[n:]
	}
	return b
}

// appendEscaped writes bytes so that each is printable and none of special has its meaning.
func appendEscaped(b, text []byte, special string) []byte {
	for _, c := range text {
		switch {
		case c <= ' ' || c > '~':
			b = append(b, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		case c == '\\' || strings.IndexByte(special, c) >= 0:
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}

// expandName returns the name at off without compression, and the offset behind it; -1 when it is none.
func expandName(msg []byte, off int) ([]byte, int) {
	end := skipName(msg, off)
	if end < 0 {
		return nil, -1
	}
	var name []byte
	for {
		l := int(msg[off])
		if l >= namePointer>>8 { // checked by skipName to point back, which what it points at must be in turn
			to := int(binary.BigEndian.Uint16(msg[off:]) &^ namePointer)
			if skipName(msg, to) < 0 {
				return nil, -1
			}
			off = to
			continue
		}
		if len(name)+1+l > maxName {
			return nil, -1
		}
		name = append(name, msg[off:off+1+l]...)
		if l == 0 {
			return name, end
		}
		off += 1 + l
	}
}

// recordTexts writes the records of the answer section of a response whose question ends at end, one line each: name, TTL,
// class, type, data. What cannot be read ends the list.
func recordTexts(resp []byte, end int) []string {
	var out []string
	off := end
	for range binary.BigEndian.Uint16(resp[6:]) {
		owner, at := expandName(resp, off)
		next := skipRecord(resp, off)
		if at < 0 || next < 0 {
			return out
		}
		typ := binary.BigEndian.Uint16(resp[at:])
		b := append(appendDotted(nil, owner), ' ')
		b = append(strconv.AppendUint(b, uint64(binary.BigEndian.Uint32(resp[at+4:])), 10), ' ')
		b = append(appendClass(b, binary.BigEndian.Uint16(resp[at+2:])), ' ')
		b = append(appendType(b, typ), ' ')
		out = append(out, string(appendData(b, resp, typ, at+10, next)))
		off = next
	}
	return out
}

// appendData writes the data of a record: of the common types as people write them, of others in hexadecimal (RFC 3597 §5).
func appendData(b, msg []byte, typ uint16, off, end int) []byte {
	data := msg[off:end]
	var ok bool
	start := len(b)
	switch typ {
	case typeA, typeAAAA:
		var a netip.Addr
		if a, ok = netip.AddrFromSlice(data); ok {
			b = a.AppendTo(b)
		}
	case 2, 5, typePTR, 39: // NS, CNAME, DNAME
		b, ok = appendFields(b, msg, off, end, 0, 1, 0)
	case 15: // MX
		b, ok = appendFields(b, msg, off, end, 1, 1, 0)
	case 33: // SRV
		b, ok = appendFields(b, msg, off, end, 3, 1, 0)
	case typeSOA:
		b, ok = appendFields(b, msg, off, end, 0, 2, 5)
	case 16, 99: // TXT, SPF
		b, ok = appendStrings(b, data)
	}
	if ok {
		return b
	}
	return fmt.Appendf(b[:start], `\# %d %x`, len(data), data)
}

// appendFields writes 16-bit numbers, names and 32-bit numbers, which together must be all the data.
func appendFields(b, msg []byte, off, end, short, names, long int) ([]byte, bool) {
	start := len(b)
	for range short {
		if off+2 > end {
			return b, false
		}
		b = append(strconv.AppendUint(b, uint64(binary.BigEndian.Uint16(msg[off:])), 10), ' ')
		off += 2
	}
	for range names {
		name, next := expandName(msg, off)
		if next < 0 || next > end {
			return b, false
		}
		b, off = append(appendDotted(b, name), ' '), next
	}
	for range long {
		if off+4 > end {
			return b, false
		}
		b = append(strconv.AppendUint(b, uint64(binary.BigEndian.Uint32(msg[off:])), 10), ' ')
		off += 4
	}
	return slices.Delete(b, max(start, len(b)-1), len(b)), off == end
}

// appendStrings writes texts that each have their length in front.
func appendStrings(b, data []byte) ([]byte, bool) {
	for i := 0; len(data) > 0; i++ {
		n := 1 + int(data[0])
		if n > len(data) {
			return b, false
		}
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, '"')
		for _, c := range data[1:n] {
			if c == ' ' { // within quotes it is plain
				b = append(b, c)
			} else {
				b = appendEscaped(b, []byte{c}, `"`)
			}
		}
		b, data = append(b, '"'), data[n:]
	}
	return b, true
}
