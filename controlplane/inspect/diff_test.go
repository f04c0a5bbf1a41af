package inspect

import (
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
			doc[path[0]] = op.Value
		case !ok || op.Op == "test" && !reflect.DeepEqual(child, op.Value):
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
			return append(append(append([]any{}, doc[:n]...), op.Value), doc[n:]...), nil
		case "remove":
			return append(append([]any{}, doc[:n]...), doc[n+1:]...), nil
		}
		if !reflect.DeepEqual(doc[n], op.Value) {
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

func FuzzDiff(f *testing.F) {
	f.Add(`{"a":[1,{"b":2}],"~/":{}}`, `{"a":[{"b":3},1],"":{}}`)
	f.Add(`{"a":[1,1,1]}`, `{"a":[1,1]}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, text := range []string{a, b} {
			if v, err := generic(json.RawMessage(text)); err != nil || v == nil {
				return
			}
		}
		check(t, a, b)
	})
}
