package protofield_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// sample has a field of each kind: 1 = "a", 2 = 300, 3 = fixed32, 4 = fixed64, 5 = {1: "deep"} and 5 = {1: ""}.
func sample() []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a")
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), 300)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 3, protowire.Fixed32Type), 7)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 4, protowire.Fixed64Type), 7)
	for _, text := range []string{"deep", ""} {
		inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text)
		b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), inner)
	}
	return b
}

func TestEach(t *testing.T) {
	var got []string
	if err := protofield.Each(sample(), func(n protowire.Number, val []byte, num uint64) error {
		got = append(got, fmt.Sprintf("%d %q %d %t", n, val, num, val == nil))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{`1 "a" 0 false`, `2 "" 300 true`, `5 "\n\x04deep" 0 false`, `5 "\n\x00" 0 false`}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAt(t *testing.T) {
	var got []string
	if err := protofield.At(sample(), func(val []byte) error {
		if val == nil {
			t.Error("an empty text is nil")
		}
		got = append(got, string(val))
		return nil
	}, 5, 1); err != nil || !slices.Equal(got, []string{"deep", ""}) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := protofield.At(sample(), func([]byte) error { return errors.New("a number is no message") }, 2); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	own := errors.New("own")
	if err := protofield.At(sample(), func([]byte) error { return own }, 5, 1); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	if err := protofield.Raw(sample(), func(protowire.Number, []byte, uint64, []byte) error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	nothing := func(protowire.Number, []byte, uint64) error { return nil }
	for _, b := range []string{"\xff", "\x0a", "\x0a\x02a", "\x10", "\x1d\x00", "\x0c"} {
		if err := protofield.Each([]byte(b), nothing); !errors.Is(err, protofield.ErrMalformed) {
			t.Errorf("%q: got %v", b, err)
		}
	}
}

// FuzzRaw puts a message together again.
func FuzzRaw(f *testing.F) {
	f.Add(sample())
	f.Add([]byte("\x0a\x02a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []byte
		err := protofield.Raw(b, func(_ protowire.Number, _ []byte, _ uint64, raw []byte) error {
			all = append(all, raw...)
			return nil
		})
		if err == nil && !bytes.Equal(all, b) || !bytes.HasPrefix(b, all) {
			t.Errorf("%q became %q, %v", b, all, err)
		}
	})
}
