package mustache

import (
	"errors"
	"strings"
	"testing"

	library "github.com/cbroglie/mustache"
	"pgregory.net/rapid"
)

// values that a template of the tests can name.
var values = map[string]any{
	"a": "1", "b": `<&"'>`, "blank": " ", "empty": "",
	"n": map[string]any{"a": "inner", "m": map[string]any{"x": "deep"}},
}

type none struct{}

func (none) Get(string) (string, error) { return "", errors.New("partials are not supported") }

// compare renders with us and with the library: both fail, or both print the same.
func compare(t interface {
	Helper()
	Errorf(format string, args ...any)
}, template string,
) {
	t.Helper()
	got, err := Render(template, values)
	want, werr := library.RenderPartials(template, none{}, values)
	if (err != nil) != (werr != nil) || err == nil && got != want {
		t.Errorf("%q:\ngot  %q, %v\nwant %q, %v", template, got, err, want, werr)
	}
}

func TestRender(t *testing.T) {
	for template, want := range map[string]string{
		"plain":                          "plain",
		"{{a}} {{ b }} {{{b}}} {{& b }}": `1 &lt;&amp;&#34;&#39;&gt; <&"'> <&"'>`,
		"{{n.a}}{{n.m.x}}{{n.no}}{{no}}": "innerdeep",
		"{{#n}}{{a}}{{b}}{{/n}}":         `inner&lt;&amp;&#34;&#39;&gt;`,
		"{{#a}}[{{.}}]{{/a}}":            "[1]",
		"x\n  {{#a}}\n  y\n  {{/a}}\nz":  "x\n  y\nz",
		"{{#blank}}x{{/blank}}{{^blank}}y{{/blank}}{{^no}}z{{/no}}": "yz",
		"{{! a comment }}{{=<% %>=}}<%a%>{{a}}":                     "1{{a}}",
	} {
		got, err := Render(template, values)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", template, got, err, want)
		}
		compare(t, template)
	}
}

func TestRenderErrors(t *testing.T) {
	for template, want := range map[string]string{
		"a\n{{a":                      "line 2: a tag is not closed",
		"{{{a}}":                      "line 1: a tag is not closed",
		"{{ }}":                       "line 1: a tag is empty",
		"{{#a}}":                      `line 1: section "a" is not closed`,
		"{{#a}}{{/b}}":                `line 1: "b" closes no section that is open`,
		"{{/a}}":                      `line 1: "a" closes no section that is open`,
		"{{> file}}":                  `line 1: partials are not supported: "file"`,
		"{{=x=}}":                     `line 1: "=x=" does not set delimiters`,
		strings.Repeat("{{#a}}", 200): "line 1: sections are nested more than 100 deep",
	} {
		if _, err := Render(template, values); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", template, err, want)
		}
	}
}

// Whatever a template is made of, we print what the library prints.
func TestAsTheLibrary(t *testing.T) {
	pieces := []string{
		"text", " ", "  ", "\t", "\n", "\r\n", "{", "}", "{{a}}", "{{b}}", "{{ n.a }}", "{{n.m.x}}", "{{{b}}}", "{{&b}}", "{{.}}", "{{no.x}}", "{{! c }}",
		"{{#a}}", "{{/a}}", "{{^a}}", "{{#n}}", "{{/n}}", "{{#n.m}}", "{{/n.m}}", "{{^empty}}", "{{#empty}}", "{{/empty}}", "{{#blank}}", "{{/blank}}",
		"{{=<% %>=}}", "<%a%>", "<%={{ }}=%>", "{{", "}}",
	}
	rapid.Check(t, func(t *rapid.T) {
		compare(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 14).Draw(t, "pieces"), ""))
	})
}

func FuzzRender(f *testing.F) {
	f.Add("{{#n}}{{a}}{{/n}}")
	f.Fuzz(func(_ *testing.T, template string) {
		_, _ = Render(template, values)
	})
}
