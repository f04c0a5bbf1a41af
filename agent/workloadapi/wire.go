// Package workloadapi is the SPIFFE Workload API, both ends of it: the client by which the agent gets its identity from SPIRE,
// and the server by which applications get theirs from the agent.
//
// The messages are written by hand: the published Go types and the client made of them bring JOSE and a logger along, for
// messages of five fields (docs/adr/0008-identities-from-elsewhere.md).
package workloadapi

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

const (
	service = "SpiffeWorkloadAPI"
	// header must be on every call, with headerValue: a browser or a proxy that was led to the socket does not send it.
	header      = "workload.spiffe.io"
	headerValue = "true"
)

// SVID is one identity on the wire. Key is secret.
type SVID struct {
	ID     string
	Chain  []byte // DER, leaf first, one after the other
	Key    []byte // PKCS#8, DER
	Bundle []byte // DER of the authorities of the identity's trust domain
	Hint   string
}

// X509Response answers FetchX509SVID. It replaces the one before.
type X509Response struct {
	SVIDs []SVID
	CRL   [][]byte
	// Federated are the authorities of other trust domains, by their SPIFFE ID.
	Federated map[string][]byte
}

// BundlesResponse answers FetchX509Bundles.
type BundlesResponse struct {
	CRL     [][]byte
	Bundles map[string][]byte // by the SPIFFE ID of the trust domain
}

// message is any of the above.
type message interface {
	encode() []byte
	decode(b []byte) error
}

// empty is a request: none of those that we serve says anything.
type empty struct{}

func (*empty) encode() []byte      { return nil }
func (*empty) decode([]byte) error { return nil }

func (r *X509Response) encode() (out []byte) {
	for _, v := range r.SVIDs {
		var one []byte
		for i, b := range [][]byte{[]byte(v.ID), v.Chain, v.Key, v.Bundle, []byte(v.Hint)} {
			if len(b) > 0 {
				one = appendField(one, protowire.Number(i+1), b)
			}
		}
		out = appendField(out, 1, one)
	}
	out = appendAll(out, 2, r.CRL)
	return appendMap(out, 3, r.Federated)
}

func (r *X509Response) decode(b []byte) error {
	return eachField(b, func(number protowire.Number, val []byte) error {
		switch number {
		case 1:
			var v SVID
			if err := v.decode(val); err != nil {
				return err
			}
			r.SVIDs = append(r.SVIDs, v)
		case 2:
			r.CRL = append(r.CRL, val)
		case 3:
			return decodeEntry(&r.Federated, val)
		}
		return nil
	})
}

func (v *SVID) decode(b []byte) error {
	return eachField(b, func(number protowire.Number, val []byte) error {
		switch number {
		case 1:
			v.ID = string(val)
		case 2:
			v.Chain = val
		case 3:
			v.Key = val
		case 4:
			v.Bundle = val
		case 5:
			v.Hint = string(val)
		}
		return nil
	})
}

func (r *BundlesResponse) encode() []byte {
	return appendMap(appendAll(nil, 1, r.CRL), 2, r.Bundles)
}

func (r *BundlesResponse) decode(b []byte) error {
	return eachField(b, func(number protowire.Number, val []byte) error {
		switch number {
		case 1:
			r.CRL = append(r.CRL, val)
		case 2:
			return decodeEntry(&r.Bundles, val)
		}
		return nil
	})
}

func appendField(to []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), content)
}

func appendAll(to []byte, number protowire.Number, list [][]byte) []byte {
	for _, b := range list {
		to = appendField(to, number, b)
	}
	return to
}

// appendMap writes map<string, bytes>, sorted, so that equal maps have equal bytes.
func appendMap(to []byte, number protowire.Number, m map[string][]byte) []byte {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		to = appendField(to, number, appendField(appendField(nil, 1, []byte(key)), 2, m[key]))
	}
	return to
}

func decodeEntry(into *map[string][]byte, entry []byte) error {
	var key string
	var value []byte
	if err := eachField(entry, func(number protowire.Number, val []byte) error {
		switch number {
		case 1:
			key = string(val)
		case 2:
			value = val
		}
		return nil
	}); err != nil {
		return err
	}
	if *into == nil {
		*into = map[string][]byte{}
	}
	(*into)[key] = value
	return nil
}

// eachField calls f with the fields of b that hold bytes; others are left out.
func eachField(b []byte, f func(number protowire.Number, val []byte) error) error {
	return protofield.Each(b, func(number protowire.Number, val []byte, _ uint64) error {
		if val == nil {
			return nil
		}
		return f(number, val)
	})
}

// codec carries the messages under protobuf's name.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return proto.Name }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("encode message of the workload API: unexpected %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.encode())}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("decode message of the workload API: unexpected %T", v)
	}
	if err := m.decode(data.Materialize()); err != nil {
		return fmt.Errorf("decode message of the workload API: %w", err)
	}
	return nil
}
