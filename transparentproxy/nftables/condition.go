//go:build linux

package nftables

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// field is what a condition looks at, in the order in which a rule's conditions stand.
type field uint8

const (
	inInterface field = iota
	outInterface
	source
	destination
	sourcePort
	destinationPort
	owner
	invalidState
)

// condition is one condition of a rule, on a name or on numbers. Numbers and addresses are big-endian texts of a field's
// length, so that they compare like what they stand for.
type condition struct {
	field field
	not   bool
	name  string // of an interface; ending in + it stands for all that begin with it
	spans []span // sorted, with a gap between each and the next
}

// span is an inclusive range.
type span struct{ first, last string }

func (s span) single() bool { return s.first == s.last }

func (c condition) isAddress() bool { return c.field == source || c.field == destination }

// isSet reports whether the condition needs a set.
func (c condition) isSet() bool { return len(c.spans) > 1 }

// isInterval reports whether a set needs ranges.
func (c condition) isInterval() bool {
	return slices.ContainsFunc(c.spans, func(s span) bool { return !s.single() })
}

func (c condition) equal(o condition) bool {
	return c.field == o.field && c.not == o.not && c.name == o.name && slices.Equal(c.spans, o.spans)
}

// all reports whether every value is in the spans.
func (c condition) all() bool {
	if len(c.spans) != 1 {
		return false
	}
	s := c.spans[0]
	return strings.Count(s.first, "\x00") == len(s.first) && strings.Count(s.last, "\xff") == len(s.last)
}

func portSpan(first, last uint16) span {
	return span{string(binary.BigEndian.AppendUint16(nil, first)), string(binary.BigEndian.AppendUint16(nil, last))}
}

func uidSpan(first, last uint32) span {
	return span{string(binary.BigEndian.AppendUint32(nil, first)), string(binary.BigEndian.AppendUint32(nil, last))}
}

func prefixSpan(p netip.Prefix) span {
	p = p.Masked()
	first := p.Addr().AsSlice()
	last := slices.Clone(first)
	for i := p.Bits(); i < 8*len(last); i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return span{string(first), string(last)}
}

// prefix returns the span as a range of addresses with a common prefix, if it is one.
func (s span) prefix() (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice([]byte(s.first))
	if !ok {
		return netip.Prefix{}, false
	}
	same := 0
	for same < a.BitLen() && (s.first[same/8]^s.last[same/8])&(0x80>>(same%8)) == 0 {
		same++
	}
	p := netip.PrefixFrom(a, same)
	return p, prefixSpan(p) == s
}

// joined sorts spans and joins those that overlap or touch.
func joined(list []span) []span {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last)) })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 {
			if next, ok := after(out[n-1].last); !ok || s.first <= next {
				out[n-1].last = max(out[n-1].last, s.last)
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// after is the next value, unless there is none.
func after(s string) (string, bool) {
	b := []byte(s)
	for i := range slices.Backward(b) {
		b[i]++
		if b[i] != 0 {
			return string(b), true
		}
	}
	return "", false
}

// text is a span as nft(8) writes it for a field.
func (f field) text(s span) string {
	if s.single() {
		return f.value(s.first)
	}
	if f == source || f == destination {
		if p, ok := s.prefix(); ok {
			return p.String()
		}
	}
	return f.value(s.first) + "-" + f.value(s.last)
}

func (f field) value(v string) string {
	switch f {
	case source, destination:
		a, _ := netip.AddrFromSlice([]byte(v)) // 4 or 16 bytes by construction
		return a.String()
	case owner:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32([]byte(v))), 10)
	default:
		return strconv.Itoa(int(binary.BigEndian.Uint16([]byte(v))))
	}
}

// text is the condition as nft(8) writes it, in a rule of a protocol.
func (c condition) text(protocol string) string {
	not := ""
	if c.not {
		not = "!= "
	}
	switch c.field {
	case inInterface:
		return "iifname " + quoteInterface(c.name)
	case outInterface:
		return "oifname " + quoteInterface(c.name)
	case invalidState:
		return "ct state invalid"
	}
	values := make([]string, len(c.spans))
	for i, s := range c.spans {
		values[i] = c.field.text(s)
	}
	list := strings.Join(values, ", ")
	if c.isSet() {
		list = "{ " + list + " }"
	}
	subject := "meta skuid"
	switch c.field {
	case source, destination:
		subject = "ip"
		if len(c.spans[0].first) == 16 {
			subject = "ip6"
		}
		subject += map[field]string{source: " saddr", destination: " daddr"}[c.field]
	case sourcePort:
		subject = protocol + " sport"
	case destinationPort:
		subject = protocol + " dport"
	}
	return fmt.Sprintf("%s %s%s", subject, not, list)
}

func quoteInterface(name string) string {
	if prefix, ok := strings.CutSuffix(name, "+"); ok {
		name = prefix + "*"
	}
	return `"` + name + `"`
}
