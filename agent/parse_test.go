package agent

import (
	"strings"
	"testing"
	"time"
)

func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJOYW1lIjoiYSIsImV4cCI6MX0.x")
	f.Add("a.b")
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjFlMzA4fQ.x")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := decodeToken(token)
		if err == nil {
			_ = unixTime(c.Exp).Format(time.RFC3339)
			_ = c.allow(`{"type":"Dataplane","networking":{"inbound":[{"tags":{"a":"1"}}]}}`)
		} else if len(token) > 12 && strings.Contains(err.Error(), token) {
			t.Error("the error quotes the token")
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add("name: {{ name }}", "name", "demo")
	f.Add("{{# a.b }}x{{/ a.b }}", "a.b", "1")
	f.Add("{{> /etc/passwd }}", "a", "1")
	f.Fuzz(func(t *testing.T, template, name, value string) {
		text, err := render(template, map[string]string{name: value})
		if err != nil {
			return
		}
		if !strings.Contains(template, "{") && text != template {
			t.Errorf("%q became %q", template, text)
		}
	})
}

func TestMissingVariablesAndEscapes(t *testing.T) {
	for _, tc := range []struct{ name, template, want string }{
		{"missing", "a{{ nothing }}b", "ab"},
		{"escaped", "{{ v }}", "&lt;x&gt;"},
		{"verbatim", "{{{ v }}}{{& v}}", "<x><x>"},
		{"nested", "{{ n.one }}{{ n.two }}", "12"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := render(tc.template, map[string]string{"v": "<x>", "n.one": "1", "n.two": "2"})
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}
