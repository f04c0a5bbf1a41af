package dns

import (
	"bytes"
	"net/netip"
)

// Suffixes of the names that addresses have, in wire form.
const (
	inAddrArpa = "\x07in-addr\x04arpa\x00"
	ip6Arpa    = "\x03ip6\x04arpa\x00"
)

// reverseAddr returns the address that a folded name in wire form, such as 1.0.0.241.in-addr.arpa, is the name of.
func reverseAddr(name []byte) (netip.Addr, bool) {
	if labels, ok := bytes.CutSuffix(name, []byte(inAddrArpa)); ok {
		var a [4]byte
		for i := range a {
			n, rest, ok := octet(labels)
			if !ok {
				return netip.Addr{}, false
			}
			a[3-i], labels = n, rest
		}
		return netip.AddrFrom4(a), len(labels) == 0
	}
	if labels, ok := bytes.CutSuffix(name, []byte(ip6Arpa)); ok && len(labels) == 64 {
		var a [16]byte
		for i := range 32 {
			n, ok := hexDigit(labels[2*i+1])
			if labels[2*i] != 1 || !ok {
				return netip.Addr{}, false
			}
			a[15-i/2] |= n << (4 * (i % 2))
		}
		return netip.AddrFrom16(a), true
	}
	return netip.Addr{}, false
}

// octet reads a label that is a decimal number up to 255 without leading zeros.
func octet(labels []byte) (value byte, rest []byte, ok bool) {
	if len(labels) == 0 || labels[0] < 1 || labels[0] > 3 || len(labels) < 1+int(labels[0]) {
		return 0, nil, false
	}
	digits, rest := labels[1:1+labels[0]], labels[1+labels[0]:]
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, nil, false
		}
		n = 10*n + int(c-'0')
	}
	if n > 255 || (len(digits) > 1 && digits[0] == '0') {
		return 0, nil, false
	}
	return byte(n), rest, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
