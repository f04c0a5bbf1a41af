package relay

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// The four messages of the discovery API (envoy/service/discovery/v3/discovery.proto), with the fields that matter here.
// They are written by hand because Envoy's Go types would be a tenth of the agent's memory, and because resources and the
// node are to pass as the bytes they came in. Tests read and write them with Envoy's own types.

// deltaRequest is DeltaDiscoveryRequest.
type deltaRequest struct {
	node                   []byte // core.v3.Node
	typeURL                string
	subscribe, unsubscribe []string
	initial                map[string]string
	nonce                  string
	detail                 *rpc.Status
}

// deltaResponse is DeltaDiscoveryResponse.
type deltaResponse struct {
	version   string
	resources []deltaResource
	typeURL   string
	nonce     string
	removed   []string
}

// deltaResource is Resource.
type deltaResource struct {
	name, version string
	body          *anypb.Any // nil in a heartbeat
}

// stateRequest is DiscoveryRequest.
type stateRequest struct {
	version string
	node    []byte
	names   []string
	typeURL string
	nonce   string
	detail  *rpc.Status
}

// stateResponse is DiscoveryResponse.
type stateResponse struct {
	version   string
	resources []*anypb.Any
	typeURL   string
	nonce     string
}

// wireMessage is what the codec encodes and decodes by hand.
type wireMessage interface {
	marshal() ([]byte, error)
	unmarshal(b []byte) error
}

var (
	_ wireMessage = (*deltaRequest)(nil)
	_ wireMessage = (*deltaResponse)(nil)
	_ wireMessage = (*stateRequest)(nil)
	_ wireMessage = (*stateResponse)(nil)
)

var errText = errors.New("malformed protobuf: a text is not utf-8")

// texts reads string fields: one for each number, the last value counting, and lists.
type texts struct {
	single map[protowire.Number]*string
	list   map[protowire.Number]*[]string
}

func (t texts) take(field protowire.Number, val []byte) error {
	one, many := t.single[field], t.list[field]
	if one == nil && many == nil {
		return nil
	}
	if !utf8.Valid(val) {
		return errText
	}
	if one != nil {
		*one = string(val)
	} else {
		*many = append(*many, string(val))
	}
	return nil
}

func appendBytes(b []byte, field protowire.Number, val []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), val)
}

// appendText leaves "" out, as protobuf does.
func appendText(b []byte, field protowire.Number, val string) []byte {
	if val == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), val)
}

func appendTexts(b []byte, field protowire.Number, vals []string) []byte {
	for _, v := range vals {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
	}
	return b
}

func appendDetail(b []byte, field protowire.Number, detail *rpc.Status) ([]byte, error) {
	if detail == nil {
		return b, nil
	}
	d, err := proto.Marshal(detail)
	if err != nil {
		return nil, fmt.Errorf("encode refusal: %w", err)
	}
	return appendBytes(b, field, d), nil
}

func readDetail(val []byte) (*rpc.Status, error) {
	detail := &rpc.Status{}
	if err := proto.Unmarshal(val, detail); err != nil {
		return nil, fmt.Errorf("decode refusal: %w", err)
	}
	return detail, nil
}

// appendAny writes type_url=1, value=2.
func appendAny(b []byte, field protowire.Number, a *anypb.Any) []byte {
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(a.GetTypeUrl())) + protowire.SizeTag(2) + protowire.SizeBytes(len(a.GetValue()))
	b = slices.Grow(b, size+16)
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), a.GetTypeUrl())
	return appendBytes(b, 2, a.GetValue())
}

// readAny copies the value: a resource that is kept must not keep the whole message it came in.
func readAny(b []byte) (*anypb.Any, error) {
	a := &anypb.Any{}
	t := texts{single: map[protowire.Number]*string{1: &a.TypeUrl}}
	err := protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) error {
		if field == 2 {
			a.Value = bytes.Clone(val)
		}
		return t.take(field, val)
	})
	return a, err
}

func (q *deltaRequest) marshal() ([]byte, error) {
	var b []byte
	if q.node != nil {
		b = appendBytes(b, 1, q.node)
	}
	b = appendText(b, 2, q.typeURL)
	b = appendTexts(b, 3, q.subscribe)
	b = appendTexts(b, 4, q.unsubscribe)
	for _, name := range slices.Sorted(maps.Keys(q.initial)) {
		b = appendBytes(b, 5, appendText(appendText(nil, 1, name), 2, q.initial[name]))
	}
	b = appendText(b, 6, q.nonce)
	return appendDetail(b, 7, q.detail)
}

func (q *deltaRequest) unmarshal(b []byte) error {
	t := texts{
		single: map[protowire.Number]*string{2: &q.typeURL, 6: &q.nonce},
		list:   map[protowire.Number]*[]string{3: &q.subscribe, 4: &q.unsubscribe},
	}
	return protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) (err error) {
		switch field {
		case 1:
			q.node = bytes.Clone(val)
		case 5:
			var name, version string
			entry := texts{single: map[protowire.Number]*string{1: &name, 2: &version}}
			if err := protofield.Each(val, func(field protowire.Number, val []byte, _ uint64) error { return entry.take(field, val) }); err != nil {
				return err
			}
			if q.initial == nil {
				q.initial = map[string]string{}
			}
			q.initial[name] = version
		case 7:
			q.detail, err = readDetail(val)
			return err
		}
		return t.take(field, val)
	})
}

func (a *deltaResponse) marshal() ([]byte, error) {
	b := appendText(nil, 1, a.version)
	for _, r := range a.resources {
		one := appendText(nil, 1, r.version)
		if r.body != nil {
			one = appendAny(one, 2, r.body)
		}
		b = appendBytes(b, 2, appendText(one, 3, r.name))
	}
	b = appendText(b, 4, a.typeURL)
	b = appendText(b, 5, a.nonce)
	return appendTexts(b, 6, a.removed), nil
}

func (a *deltaResponse) unmarshal(b []byte) error {
	t := texts{
		single: map[protowire.Number]*string{1: &a.version, 4: &a.typeURL, 5: &a.nonce},
		list:   map[protowire.Number]*[]string{6: &a.removed},
	}
	return protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) error {
		if field != 2 {
			return t.take(field, val)
		}
		var r deltaResource
		inner := texts{single: map[protowire.Number]*string{1: &r.version, 3: &r.name}}
		err := protofield.Each(val, func(field protowire.Number, val []byte, _ uint64) (err error) {
			if field == 2 {
				r.body, err = readAny(val)
				return err
			}
			return inner.take(field, val)
		})
		a.resources = append(a.resources, r)
		return err
	})
}

func (q *stateRequest) marshal() ([]byte, error) {
	b := appendText(nil, 1, q.version)
	if q.node != nil {
		b = appendBytes(b, 2, q.node)
	}
	b = appendTexts(b, 3, q.names)
	b = appendText(b, 4, q.typeURL)
	b = appendText(b, 5, q.nonce)
	return appendDetail(b, 6, q.detail)
}

func (q *stateRequest) unmarshal(b []byte) error {
	t := texts{
		single: map[protowire.Number]*string{1: &q.version, 4: &q.typeURL, 5: &q.nonce},
		list:   map[protowire.Number]*[]string{3: &q.names},
	}
	return protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) (err error) {
		switch field {
		case 2:
			q.node = bytes.Clone(val)
		case 6:
			q.detail, err = readDetail(val)
			return err
		}
		return t.take(field, val)
	})
}

func (a *stateResponse) marshal() ([]byte, error) {
	b := appendText(nil, 1, a.version)
	for _, r := range a.resources {
		b = appendAny(b, 2, r)
	}
	return appendText(appendText(b, 4, a.typeURL), 5, a.nonce), nil
}

func (a *stateResponse) unmarshal(b []byte) error {
	t := texts{single: map[protowire.Number]*string{1: &a.version, 4: &a.typeURL, 5: &a.nonce}}
	return protofield.Each(b, func(field protowire.Number, val []byte, _ uint64) error {
		if field != 2 {
			return t.take(field, val)
		}
		r, err := readAny(val)
		a.resources = append(a.resources, r)
		return err
	})
}
