//go:build linux

package nftables

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// register is the only one needed: every value is compared before the next is loaded.
const register = unix.NFT_REG_1

// newSetName asks the kernel to choose a name. A set is known by its number within a transaction.
const newSetName = "__set%d"

// encoder collects the expressions of rules, and the sets that they use.
type encoder struct {
	family uint8
	sets   []set
}

func (e *encoder) rule(r rule) []expr.Any {
	var out []expr.Any
	protocol := func() {
		if r.protocol != "" {
			out = append(out, equals(expr.MetaKeyL4PROTO, []byte{protocolNumber(r.protocol)})...)
		}
	}
	family, asked := byte(0), false
	ask := func(f byte) {
		if e.family == unix.NFPROTO_INET && f != family {
			family = f
			out = append(out, equals(expr.MetaKeyNFPROTO, []byte{f})...)
		}
	}
	if r.family != 0 && !r.has(source) && !r.has(destination) {
		ask(map[tp.Family]byte{tp.IPv4: unix.NFPROTO_IPV4, tp.IPv6: unix.NFPROTO_IPV6}[r.family])
	}
	for _, c := range r.conditions {
		if !asked && c.field > destination {
			protocol()
			asked = true
		}
		if c.isAddress() {
			ask(map[int]byte{4: unix.NFPROTO_IPV4, 16: unix.NFPROTO_IPV6}[len(c.spans[0].first)])
		}
		out = append(out, e.condition(c)...)
	}
	if !asked {
		protocol()
	}
	return append(out, verdict(r.verdict)...)
}

func protocolNumber(name string) byte {
	if name == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func equals(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value},
	}
}

func verdict(v tp.Verdict) []expr.Any {
	switch v := v.(type) {
	case tp.Jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: v.Chain}}
	case tp.Redirect:
		return []expr.Any{
			&expr.Immediate{Register: register, Data: binary.BigEndian.AppendUint16(nil, v.Port)},
			&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
		}
	case tp.Zone:
		return []expr.Any{
			&expr.Immediate{Register: register, Data: binary.NativeEndian.AppendUint16(nil, v.ID)},
			&expr.Ct{Key: expr.CtKeyZONE, Register: register, SourceRegister: true},
		}
	case tp.Log:
		return []expr.Any{&expr.Log{Key: 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_LEVEL, Data: []byte(v.Prefix), Level: expr.LogLevel(v.Level)}}
	case tp.Drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	default:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
}

// condition loads a value and compares it, in the way of nft(8), so that it can print the rule.
func (e *encoder) condition(c condition) []expr.Any {
	switch c.field {
	case inInterface, outInterface:
		key := expr.MetaKeyIIFNAME
		if c.field == outInterface {
			key = expr.MetaKeyOIFNAME
		}
		name, wild := strings.CutSuffix(c.name, "+")
		value := []byte(name)
		if !wild {
			value = append(value, make([]byte, unix.IFNAMSIZ-len(value))...)
		}
		return equals(key, value)
	case invalidState:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: register},
			&expr.Bitwise{
				SourceRegister: register, DestRegister: register, Len: 4, Xor: make([]byte, 4),
				Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitINVALID),
			},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
		}
	case owner:
		load := []expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: register}}
		host := !c.isInterval()
		if !host { // ranges compare bytes from the first on
			load = append(load, &expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 4, Size: 4})
		}
		return append(load, e.compare(c, host)...)
	}
	load := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Len: uint32(len(c.spans[0].first))}
	switch v4 := load.Len == 4; {
	case c.field == destinationPort:
		load.Offset = 2
	case c.field == source && v4:
		load.Base, load.Offset = expr.PayloadBaseNetworkHeader, 12
	case c.field == destination && v4:
		load.Base, load.Offset = expr.PayloadBaseNetworkHeader, 16
	case c.field == source:
		load.Base, load.Offset = expr.PayloadBaseNetworkHeader, 8
	case c.field == destination:
		load.Base, load.Offset = expr.PayloadBaseNetworkHeader, 24
	}
	if c.isAddress() && !c.isSet() && !c.spans[0].single() {
		if p, ok := c.spans[0].prefix(); ok {
			return append([]expr.Any{load}, comparePrefix(c, load, p.Bits())...)
		}
	}
	return append([]expr.Any{load}, e.compare(c, false)...)
}

// comparePrefix looks at whole bytes only, if that is enough.
func comparePrefix(c condition, load *expr.Payload, bits int) []expr.Any {
	op := expr.CmpOpEq
	if c.not {
		op = expr.CmpOpNeq
	}
	first := []byte(c.spans[0].first)
	if bits%8 == 0 {
		load.Len = uint32(bits / 8)
		return []expr.Any{&expr.Cmp{Op: op, Register: register, Data: first[:load.Len]}}
	}
	mask := make([]byte, len(first))
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: load.Len, Mask: mask, Xor: make([]byte, len(first))},
		&expr.Cmp{Op: op, Register: register, Data: first},
	}
}

// compare looks at the register; host says that it holds a number in the order of this machine.
func (e *encoder) compare(c condition, host bool) []expr.Any {
	data := func(v string) []byte { return order(v, host) }
	op := expr.CmpOpEq
	if c.not {
		op = expr.CmpOpNeq
	}
	s := c.spans[0]
	switch {
	case c.isSet():
		e.sets = append(e.sets, newSet(uint32(len(e.sets)+1), c, host))
		return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: newSetName, SetID: uint32(len(e.sets)), Invert: c.not}}
	case s.single():
		return []expr.Any{&expr.Cmp{Op: op, Register: register, Data: data(s.first)}}
	case c.not:
		return []expr.Any{&expr.Range{Op: op, Register: register, FromData: data(s.first), ToData: data(s.last)}}
	default:
		return []expr.Any{
			&expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: data(s.first)},
			&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: data(s.last)},
		}
	}
}

// order turns a big-endian number around if this machine would.
func order(v string, host bool) []byte {
	b := []byte(v)
	if host && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		slices.Reverse(b)
	}
	return b
}
