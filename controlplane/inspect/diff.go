package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	a, errA := json.Marshal(from)
	b, errB := json.Marshal(to)
	if err := errors.Join(errA, errB); err != nil {
		return nil, fmt.Errorf("compare configurations: %w", err)
	}
	d := differ{ops: []Operation{}}
	d.objects("", members(a), members(b))
	return d.ops, nil
}

// differ compares texts: what is equal byte for byte is not looked into, so that a value that is written in two ways may be
// replaced by itself.
type differ struct{ ops []Operation }

func (d *differ) add(path string, v any) {
	d.ops = append(d.ops, Operation{Op: "add", Path: path, Value: v})
}

func (d *differ) remove(path string, v any) {
	d.ops = append(d.ops, Operation{Op: "test", Path: path, Value: v}, Operation{Op: "remove", Path: path, Value: v})
}

func (d *differ) values(path string, a, b json.RawMessage) {
	switch {
	case bytes.Equal(a, b):
	case a[0] == '{' && b[0] == '{':
		d.objects(path, members(a), members(b))
	case a[0] == '[' && b[0] == '[':
		d.arrays(path, elements(a), elements(b))
	default:
		d.remove(path, a)
		d.add(path, b)
	}
}

func (d *differ) objects(path string, a, b []member) {
	for len(a)+len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].name < b[0].name:
			d.remove(path+"/"+pointerEscapes.Replace(a[0].name), a[0].value)
			a = a[1:]
		case len(a) == 0 || b[0].name < a[0].name:
			d.add(path+"/"+pointerEscapes.Replace(b[0].name), b[0].value)
			b = b[1:]
		default:
			if !bytes.Equal(a[0].value, b[0].value) {
				d.values(path+"/"+pointerEscapes.Replace(a[0].name), a[0].value, b[0].value)
			}
			a, b = a[1:], b[1:]
		}
	}
}

// arrays compares what lies between the common beginning and the common end: so one element more or less is one step.
func (d *differ) arrays(path string, a, b []json.RawMessage) {
	start := 0
	for start < min(len(a), len(b)) && bytes.Equal(a[start], b[start]) {
		start++
	}
	tail := 0
	for tail < min(len(a), len(b))-start && bytes.Equal(a[len(a)-1-tail], b[len(b)-1-tail]) {
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
