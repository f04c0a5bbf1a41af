package inspect

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestSanitize(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"token of the control plane", `{"grpc_services":[{"initial_metadata":[{"key":"authorization","value":"secret"}]}]}`, `{"grpc_services":[{"initial_metadata":[]}]}`},
		{"call credentials", `{"a":{"access_token":"secret","b":1}}`, `{"a":{"access_token":"[redacted]","b":1}}`},
		{"everything else stays", "{ \"a\" : [1e3, 12345678901234567890, \"<x>\\n\", null, true, {}, []] }", `{"a":[1e3,12345678901234567890,"\u003cx\u003e\n",null,true,{},[]]}`},
	} {
		var out bytes.Buffer
		if err := sanitize(&out, strings.NewReader(tt.in)); err != nil || out.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, out.String(), err, tt.want)
		}
	}
	for _, bad := range []string{"", "{", `{"a":[1`, `{"initial_metadata":`, "{}{}", "Not Found", strings.Repeat("[", 2000)} {
		if err := sanitize(&bytes.Buffer{}, strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q is taken for a whole document", bad)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"initial_metadata":{"x":1}}],"b":"\ud800"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if err := sanitize(&out, bytes.NewReader(in)); err != nil {
			return
		}
		var a, b any
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatalf("%q becomes %q: %v", in, out.Bytes(), err)
		}
		if err := json.Unmarshal(in, &b); err == nil && !strings.Contains(out.String(), "initial_metadata") &&
			!strings.Contains(out.String(), "token") && !bytes.Contains(in, []byte{'\\'}) && !reflect.DeepEqual(a, b) {
			t.Fatalf("%q becomes %q", in, out.Bytes())
		}
	})
}
