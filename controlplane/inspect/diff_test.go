package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// apply runs a patch as RFC 6902 says, for the operations that diffs use.
func apply(doc any, ops []Operation) (any, error) {
	for _, op := range ops {
		tokens := strings.Split(op.Path, "/")[1:]
		for i, t := range tokens {
			tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
		}
		var err error
		if doc, err = step(doc, tokens, op); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op.Op, op.Path, err)
		}
	}
	return doc, nil
}

// generic decodes an object, with numbers as written: 64 bits stay 64 bits.
func generic(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out map[string]any
	err := dec.Decode(&out)
	return out, err
}

// decoded is what an operation puts or tests, which of one that has not been sent is a text.
func (o Operation) decoded() any {
	text, ok := o.Value.(json.RawMessage)
	if !ok {
		return o.Value
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out any
	if err := dec.Decode(&out); err != nil {
		panic(err)
	}
	return out
}

func step(doc any, path []string, op Operation) (any, error) {
	switch doc := doc.(type) {
	case map[string]any:
		child, ok := doc[path[0]]
		if len(path) > 1 {
			next, err := step(child, path[1:], op)
			doc[path[0]] = next
			return doc, err
		}
		switch {
		case op.Op == "add":
			doc[path[0]] = op.decoded()
		case !ok || op.Op == "test" && !reflect.DeepEqual(child, op.decoded()):
			return nil, errors.New("refused")
		case op.Op == "remove":
			delete(doc, path[0])
		}
		return doc, nil
	case []any:
		n, err := strconv.Atoi(path[0])
		if err != nil || n > len(doc) || n == len(doc) && (len(path) > 1 || op.Op != "add") {
			return nil, errors.New("no such place")
		}
		if len(path) > 1 {
			next, err := step(doc[n], path[1:], op)
			doc[n] = next
			return doc, err
		}
		switch op.Op {
		case "add":
			return append(append(append([]any{}, doc[:n]...), op.decoded()), doc[n:]...), nil
		case "remove":
			return append(append([]any{}, doc[:n]...), doc[n+1:]...), nil
		}
		if !reflect.DeepEqual(doc[n], op.decoded()) {
			return nil, errors.New("refused")
		}
		return doc, nil
	}
	return nil, errors.New("no such place")
}

func check(t *testing.T, a, b string) []Operation {
	t.Helper()
	ops, err := diffJSON(json.RawMessage(a), json.RawMessage(b))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := generic(json.RawMessage(a))
	want, _ := generic(json.RawMessage(b))
	got, err := apply(before, ops)
	if err != nil {
		t.Fatalf("%s to %s: %v: %v", a, b, ops, err)
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Fatalf("%s to %s by %v (-want +got):\n%s", a, b, ops, diff)
	}
	return ops
}

func TestDiff(t *testing.T) {
	for _, tt := range []struct {
		a, b  string
		steps int
	}{
		{`{"a":1}`, `{"a":1}`, 0},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, 3},
		{`{"a/b~1":{"~":"x"}}`, `{"a/b~1":{"~":"y"}}`, 3},
		{`{"a":1}`, `{}`, 2},
		{`{}`, `{"a":null}`, 1},
		{`{"a":null}`, `{}`, 2},
		{`{"a":{"b":1}}`, `{"a":[1]}`, 3},
		{`{"a":[1,2,3]}`, `{"a":[1,9,2,3]}`, 1},
		{`{"a":[1,9,2,3]}`, `{"a":[1,2,3]}`, 2},
		{`{"a":[1,2,3,4]}`, `{"a":[]}`, 8},
		{`{"a":[{"x":1},{"y":1}]}`, `{"a":[{"x":2},{"y":1},{"z":[]}]}`, 4},
	} {
		if ops := check(t, tt.a, tt.b); len(ops) != tt.steps {
			t.Errorf("%s to %s: %d steps, want %d: %v", tt.a, tt.b, len(ops), tt.steps, ops)
		}
	}
}

// TestSpans: the parts of a text are found whatever it is written like.
func TestSpans(t *testing.T) {
	got := members([]byte(`{ "b\u0061" :[ 1 , {"x":"]}\\\""} ,"\\"],"a":1e5,"a" : null , "":{}}`))
	want := []member{{"", json.RawMessage(`{}`)}, {"a", json.RawMessage(`null`)}, {"ba", json.RawMessage(`[ 1 , {"x":"]}\\\""} ,"\\"]`)}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(member{})); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]json.RawMessage{json.RawMessage(`1`), json.RawMessage(`{"x":"]}\\\""}`), json.RawMessage(`"\\"`)}, elements(want[2].value)); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	for text, n := range map[string]int{`{}`: 0, `null`: 0, ``: 0, "{\n}": 0, `{"a":[]}`: 1} {
		if got := members([]byte(text)); len(got) != n {
			t.Errorf("%q has %d members: %v", text, len(got), got)
		}
	}
}

func FuzzDiff(f *testing.F) {
	f.Add(`{"a":[1,{"b":2}],"~/":{}}`, `{"a":[{"b":3},1],"":{}}`)
	f.Add(`{"a":[1,1,1]}`, `{"a":[1,1]}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, text := range []string{a, b} {
			if v, err := generic(json.RawMessage(text)); err != nil || v == nil || !json.Valid([]byte(text)) {
				return
			}
		}
		check(t, a, b)
	})
}
