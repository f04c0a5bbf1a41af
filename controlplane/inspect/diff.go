package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Operation is one step of a JSON patch (RFC 6902). A value that goes is tested first, as 2.9 does it: the patch applies
// only to the document that it was made for.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`

	// text is what it looks like in an answer, nil when nobody has written it yet.
	text []byte
}

// diffJSON returns the patch that makes to of from; both must be JSON objects.
func diffJSON(from, to any) ([]Operation, error) {
	a, err := generic(from)
	if err != nil {
		return nil, err
	}
	b, err := generic(to)
	if err != nil {
		return nil, err
	}
	d := differ{ops: []Operation{}}
	d.objects("", a, b)
	return d.ops, nil
}

func generic(v any) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("compare configurations: %w", err)
	}
	return decode(text)
}

func decode(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // as written: 64 bits stay 64 bits
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		return nil, fmt.Errorf("compare configurations: %w", err)
	}
	return out, nil
}

type differ struct{ ops []Operation }

func (d *differ) add(path string, v any) {
	d.ops = append(d.ops, Operation{Op: "add", Path: path, Value: v})
}

func (d *differ) remove(path string, v any) {
	d.ops = append(d.ops, Operation{Op: "test", Path: path, Value: v}, Operation{Op: "remove", Path: path, Value: v})
}

func (d *differ) values(path string, a, b any) {
	if reflect.DeepEqual(a, b) {
		return
	}
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			d.objects(path, a, b)
			return
		}
	case []any:
		if b, ok := b.([]any); ok {
			d.arrays(path, a, b)
			return
		}
	}
	d.remove(path, a)
	d.add(path, b)
}

func (d *differ) objects(path string, a, b map[string]any) {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		at := path + "/" + pointerEscapes.Replace(k)
		before, had := a[k]
		after, has := b[k]
		switch {
		case had && has:
			d.values(at, before, after)
		case had:
			d.remove(at, before)
		default:
			d.add(at, after)
		}
	}
}

// arrays compares what lies between the common beginning and the common end: so one element more or less is one step.
func (d *differ) arrays(path string, a, b []any) {
	start := 0
	for start < min(len(a), len(b)) && reflect.DeepEqual(a[start], b[start]) {
		start++
	}
	tail := 0
	for tail < min(len(a), len(b))-start && reflect.DeepEqual(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	endA, endB := len(a)-tail, len(b)-tail
	at := func(n int) string { return path + "/" + strconv.Itoa(n) }
	both := min(endA, endB)
	for n := start; n < both; n++ {
		d.values(at(n), a[n], b[n])
	}
	for n := endA - 1; n >= both; n-- { // from the last, so that the others keep their places
		d.remove(at(n), a[n])
	}
	for n := both; n < endB; n++ {
		d.add(at(n), b[n])
	}
}

// pointerEscapes are those of RFC 6901; one pass, so that "~1" of a key is not read as a slash.
var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")
