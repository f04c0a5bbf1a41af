package yamljson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestToJSON(t *testing.T) {
	for in, want := range map[string]string{
		"":                                         `null`,
		"# nothing\n":                              `null`,
		"a: y\nb: n\nc: on":                        `{"a":"y","b":"n","c":"on"}`,
		"{a: off, b: yes, c: No, on: Y}":           `{"a":"off","b":"yes","c":"No","on":"Y"}`,
		"a: true\nb: FALSE\nc: ~\nd:":              `{"a":true,"b":false,"c":null,"d":null}`,
		"a: 1h30m\nb: 10s\nc: 2020-01-02":          `{"a":"1h30m","b":"10s","c":"2020-01-02"}`,
		"a: 18446744073709551615999\nb: +7":        `{"a":18446744073709551615999,"b":7}`,
		"a: 0o17\nb: 0x1F\nc: 017\nd: -0":          `{"a":15,"b":31,"c":17,"d":0}`,
		"a: 1_000\nb: 1:30\nc: 1.2.3":              `{"a":"1_000","b":"1:30","c":"1.2.3"}`,
		"a: 1.5\nb: .5\nc: 1.0\nd: 1e3\ne: 5.":     `{"a":1.5,"b":0.5,"c":1,"d":1000,"e":5}`,
		"a: '1'\nb: \"true\"\nc: |\n  x\n  y\n":    `{"a":"1","b":"true","c":"x\ny\n"}`,
		"1: a\ntrue: b\n~: c":                      `{"1":"a","null":"c","true":"b"}`,
		"a: !!str 1\nb: !!int \"2\"\nc: !!float 3": `{"a":"1","b":2,"c":3}`,
		"a: !!binary aGk=":                         `{"a":"aGk="}`,
		"a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}":    `{"a":{"b":1,"c":2},"d":{"b":1,"c":3}}`,
		"d: {<<: [{a: 1}, {a: 2, b: 3}]}":          `{"d":{"a":1,"b":3}}`,
		"a: &x [1, 2]\nb: *x":                      `{"a":[1,2],"b":[1,2]}`,
		"--- {a: <b>}":                             `{"a":"<b>"}`,
		`{"b": 1.0, "a": "\ud83d\ude00"}`:          `{"a":"😀","b":1.0}`,
		"# c\n%YAML 1.2\n---\na: on":               `{"a":"on"}`,
	} {
		got, err := ToJSON([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, %v, want %s", in, got, err, want)
		}
	}
}

func TestToJSONRefuses(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 10) + "]\n"
	}
	merges := "a: &a {k: 1}\n"
	for c := 'b'; c <= 'z'; c++ {
		p := string(c - 1)
		merges += string(c) + ": &" + string(c) + " {<<: [*" + p + ", *" + p + "]}\n"
	}
	for in, want := range map[string]Error{
		"a: 1\nb: 2\na: 3":               {3, `key "a" is given twice`},
		"{\"a\": 1,\n \"a\": 2}":         {2, `key "a" is given twice`},
		"a: {1: x, '1': y}":              {1, `key "1" is given twice`},
		"a: 1\n---\nb: 2":                {3, "a second document"},
		"a: [1":                          {1, "did not find"},
		"a: 1\n b: 2":                    {2, "mapping values are not allowed"},
		"a: .inf":                        {1, "no number of JSON"},
		"a: 1e999":                       {1, "too large"},
		"a: !!int x":                     {1, `"x" is no !!int`},
		"a: !secret x":                   {1, "tag !secret"},
		"a: !!set {x}":                   {1, "tag !!set"},
		"a: *b":                          {0, "unknown anchor"},
		"a: &a [*a]":                     {1, "holds itself"},
		"a: &a {<<: *a}":                 {1, "holds itself"},
		"? [a]\n: b":                     {1, "a key must be a text"},
		"a: {<<: 1}":                     {1, "<< wants"},
		strings.Repeat("[", maxDepth+10): {0, ""},
		bomb:                             {0, "aliases add"},
		merges:                           {0, "merges add"},
	} {
		_, err := ToJSON([]byte(in))
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Reason, want.Reason) || want.Line != 0 && e.Line != want.Line {
			t.Errorf("%.40q: got %v, want %v", in, err, want)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	var into struct {
		A string `json:"a"`
	}
	if err := Unmarshal([]byte("a: off\nb: 1"), &into); err != nil || into.A != "off" {
		t.Errorf("got %v, %v", into, err)
	}
	if err := UnmarshalStrict([]byte("a: off\nb: 1"), &into); err == nil || !strings.Contains(err.Error(), `unknown field "b"`) {
		t.Errorf("got %v", err)
	}
	if err := UnmarshalStrict([]byte("a: no"), &into); err != nil || into.A != "no" {
		t.Errorf("got %v, %v", into, err)
	}
	for _, bad := range []string{"a: [", "a: 1"} {
		if Unmarshal([]byte(bad), &into) == nil || UnmarshalStrict([]byte(bad), &into) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// FuzzToJSON looks for panics, for output that is no JSON, and for output that reads differently from what it was.
func FuzzToJSON(f *testing.F) {
	for _, seed := range []string{
		"a: y", "- 1\n- .5\n- 0x1f", "a: &a [*a]", "x: &x {a: 1}\ny: {<<: *x}", "# c\n%YAML 1.2\n---\n!!map {a: !!str 1}",
		`{"a":"\ud83d"}`, "? a\n: b", "a: |\n  b\n", "a: !<tag:yaml.org,2002:int> 3", "\xff", "'\x85'",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := ToJSON(text)
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", text, out)
		}
		again, err := ToJSON(out)
		if err != nil || string(again) != string(out) {
			t.Errorf("%q became %s, then %s, %v", text, out, again, err)
		}
	})
}
