package hostname

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func values(labels map[string]string) Values {
	return Values{
		Name: "stored", DisplayName: "backend", Namespace: "ns", Mesh: "m", Zone: "east",
		Label: func(key string) (string, error) {
			if v, ok := labels[key]; ok {
				return v, nil
			}
			return "", fmt.Errorf("label %s not found", key)
		},
	}
}

func render(text string, labels map[string]string) (string, error) {
	t, err := Parse(text)
	if err != nil {
		return "", err
	}
	return t.Render(values(labels))
}

// TestRender has what 2.9 lets a template do: it is one of Go, with all that is built in (contract dns.md §1.3).
func TestRender(t *testing.T) {
	labels := map[string]string{"team": "gold", "a/b": "x", "version": "1_2"}
	for _, tt := range []struct{ name, template, want, wantErr string }{
		{name: "default", template: "{{ .DisplayName }}.svc.mesh.local", want: "backend.svc.mesh.local"},
		{name: "all fields", template: "{{.Name}}.{{.DisplayName}}.{{.Namespace}}.{{.Mesh}}.{{.Zone}}", want: "stored.backend.ns.m.east"},
		{name: "labels", template: `{{ label "team" }}.{{ label "a/b" }}.x`, want: "gold.x.x"},
		{name: "constant", template: "fixed.example.test", want: "fixed.example.test"},
		{name: "choice", template: `{{ if eq .Namespace "ns" }}yes{{ else }}no{{ end }}`, want: "yes"},
		{name: "with and variable", template: `{{ with $x := .Mesh }}{{ $x }}.x{{ end }}`, want: "m.x"},
		{name: "assignment", template: `{{ $x := .Mesh }}{{ if .Zone }}{{ $x = .Zone }}{{ end }}{{ $x }}`, want: "east"},
		{name: "comment and trimming", template: "{{- /* of the mesh */ -}} {{ .Mesh -}} .x", want: "m.x"},
		{name: "and, or, not", template: `{{ and .Mesh .Zone }}.{{ or "" .Zone }}.{{ not true }}`, want: "east.east.false"},
		{name: "len and order", template: `{{ if gt (len .Name) 3 }}{{ len .Name }}{{ end }}`, want: "6"},
		{name: "printf", template: `{{ printf "%s-%s" .DisplayName .Zone }}.x`, want: "backend-east.x"},
		{name: "printf with widths", template: `{{ printf "%03d-%.3s-%5.2s|%-4s|" 7 .DisplayName .Name .Mesh }}`, want: "007-bac-   st|m   |"},
		{name: "printf with indexes", template: `{{ printf "%[2]s.%[1]s%%" .Mesh .Zone }}`, want: "east.m%"},
		{name: "printf with too few", template: `{{ printf "%s" }}`, want: "%!s(MISSING)"},
		{name: "printf behind a pipe", template: `{{ .Zone | printf "%s.%s" .Mesh }}`, want: "m.east"},
		{name: "print", template: `{{ print .Mesh "-" 1 }}`, want: "m-1"},
		{name: "println", template: `{{ println .Mesh }}`, want: "m\n"},
		{name: "index", template: `{{ index .Mesh 0 | printf "%c" }}`, want: "m"},
		{name: "slice", template: `{{ slice .DisplayName 0 4 }}`, want: "back"},
		{name: "escapes", template: `{{ html "<" }}{{ js "'" }}{{ urlquery "a b" }}`, want: `&lt;\'a+b`},
		{name: "no such field", template: "{{ .Nope }}.x", wantErr: `template: :1:3: executing "" at <.Nope>: can't evaluate field Nope in type hostname.meshedName`},
		{name: "no such label", template: `{{ label "nolabel" }}.x`, wantErr: `template: :1:3: executing "" at <label "nolabel">: error calling label: label nolabel not found`},
		{name: "no such index", template: `{{ index .Mesh 9 }}`, wantErr: `template: :1:3: executing "" at <index .Mesh 9>: error calling index: index out of range: 9`},
		{name: "does not parse", template: "{{ .Name ", wantErr: "template: :1: unclosed action"},
		{name: "a function of others", template: `{{ env "HOME" }}`, wantErr: `template: :1: function "env" not defined`},
		{name: "a field of a field", template: "{{ .Name.Length }}", wantErr: `template: :1:8: executing "" at <.Name.Length>: can't evaluate field Length in type string`},
		{name: "loop", template: "{{ range 1000000000 }}{{ end }}x", wantErr: "range is not supported"},
		{name: "loop in a choice", template: "{{ with .Name }}{{ else }}{{ if true }}{{ range 9 }}{{ end }}{{ end }}{{ end }}", wantErr: "range is not supported"},
		{name: "parts", template: `{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`, wantErr: "define and block are not supported"},
		{name: "block", template: `{{ block "a" . }}x{{ end }}`, wantErr: "define and block are not supported"},
		{name: "itself", template: `{{ template "" }}`, wantErr: "template is not supported"},
		{name: "call", template: `{{ if (call .Name) }}{{ end }}`, wantErr: "call is not supported"},
		{name: "call of a chain", template: `{{ (call .Name).x }}`, wantErr: "call is not supported"},
		{name: "width from outside", template: `{{ printf "%*d" 9 1 }}`, wantErr: `template: :1:3: executing "" at <printf "%*d" 9 1>: error calling printf: a width that is an argument is not supported`},
		{name: "long template", template: strings.Repeat("{{/**/}}", 1000), wantErr: "template is longer than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := render(tt.template, labels)
			msg := ""
			if err != nil {
				msg = err.Error()
			}
			if got != tt.want || msg != tt.wantErr {
				t.Errorf("got %q, error\n %s\nwant %q, error\n %s", got, msg, tt.want, tt.wantErr)
			}
		})
	}
}

// evil are templates that want much. Each is refused.
func evil() map[string]string {
	deep := strings.Repeat("{{if 1}}", 300) + strings.Repeat("{{end}}", 200)
	grow := `{{ $a := "0123456789abcdef" }}` + strings.Repeat(`{{ $a = print $a $a }}`, 100)
	return map[string]string{
		"much text":         strings.Repeat("a.", 2000),
		"wide":              `{{ printf "%1000000d" 1 }}`,
		"precise":           `{{ printf "%.1000000f" 1.5 }}`,
		"not a width":       `{{ printf "%99999999999999999999d" 1 }}`,
		"wide often":        `{{ printf "` + strings.Repeat("%999d", 700) + `" 1 }}`,
		"wide, one by one":  strings.Repeat(`{{ printf "%999d" 1 }}`, 180),
		"wide by index":     `{{ printf "` + strings.Repeat("%[1]99999d", 300) + `" 1 }}`,
		"wide by argument":  `{{ printf "%[2]*[1]d" 1 1000000 }}`,
		"many verbs":        `{{ $a := printf "%900d" 1 }}{{ printf "` + strings.Repeat("%[1]s", 600) + `" $a }}`,
		"grows":             grow,
		"grows in a choice": strings.Replace(grow, "{{ $a =", "{{ if $a }}{{ end }}{{ $a =", 1),
		"grows by escapes":  `{{ $a := "&&&&&&&&&&&&&&&&" }}` + strings.Repeat(`{{ $a = html $a }}`, 100),
		"not closed":        deep,
		"parentheses":       "{{" + strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000) + "}}{{ range 9 }}{{ end }}",
		"counts":            "{{ range 9223372036854775807 }}{{ end }}",
		"counts in parts":   `{{ define "x" }}{{ range 9223372036854775807 }}{{ end }}{{ end }}{{ template "x" }}`,
		"recursion":         `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`,
		"huge":              strings.Repeat("{{ .Name }}", 1<<20),
	}
}

// TestEvil measures what is allocated, as what a machine does is the same everywhere and time is not.
func TestEvil(t *testing.T) {
	for name, text := range evil() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := render(text, nil)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("is not refused: %.80q", got)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

func TestLong(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", maxText+1), `{{ printf "%1025d" 1 }}`, `{{ print "` + strings.Repeat("a", maxText) + `" }}`} {
		if _, err := render(text, nil); !errors.Is(err, ErrLong) {
			t.Errorf("%.20s…: got %v, want %v", text, err, ErrLong)
		}
	}
	if got, err := render(strings.Repeat("a", maxText), nil); err != nil || len(got) != maxText {
		t.Errorf("as long as can be: got %d bytes, %v", len(got), err)
	}
}

func TestNames(t *testing.T) {
	label := strings.Repeat("a", 63)
	const part = "each part must be no more than 63 characters"
	const whole = "must be no more than 253 characters"
	for _, tt := range []struct {
		name                string
		unserved, irregular string
	}{
		{"backend.svc.mesh.local", "", ""},
		{"a-b.0", "", ""},
		{"a_b.x", "", badSubdomain},
		{"Backend.x", "", badSubdomain},
		{label + ".x", "", ""},
		{label + "a.x", part, part},
		{strings.Repeat("a.", 126) + "a", "", ""},
		{strings.Repeat("a.", 126) + "aa", whole, whole},
		{"", badSubdomain, badSubdomain},
		{"a..b", badSubdomain, badSubdomain},
		{".a", badSubdomain, badSubdomain},
		{"a.", badSubdomain, badSubdomain},
		{"-a", badSubdomain, badSubdomain},
		{"a-.b", badSubdomain, badSubdomain},
		{"a b", badSubdomain, badSubdomain},
		{"*.x", badSubdomain, badSubdomain},
		{"ä", badSubdomain, badSubdomain},
		{label + "a..x", badSubdomain + ", " + part, badSubdomain + ", " + part},
	} {
		if got := strings.Join(Unserved(tt.name), ", "); got != tt.unserved {
			t.Errorf("Unserved(%q) = %q, want %q", tt.name, got, tt.unserved)
		}
		if got := strings.Join(Irregular(tt.name), ", "); got != tt.irregular {
			t.Errorf("Irregular(%q) = %q, want %q", tt.name, got, tt.irregular)
		}
	}
}

// FuzzTemplate: whatever a template is, it ends, prints no more than it may, and allocates little.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"{{ .DisplayName }}.svc.mesh.local", `{{ label "team" }}.x`, "{{ .Nope }}", "{{", "{{ range 9 }}x{{ end }}", `{{ define "" }}{{ template "" }}{{ end }}`,
		`{{ $a := .Name }}{{ $a }}`, "{{ with .Zone }}{{ . }}{{ end }}", "{{ len .Name }}.x", "{{ block \"a\" . }}{{ end }}", "{{ .Name.x }}", "{{ (label .Mesh).y }}",
		"{{ break }}", "{{ nil }}", "{{ 1e1000 }}", "{{- 'x' -}}", "{{ eq 1 . }}", `{{ printf "%[1]5.3s" . }}`, "{{ print . . }}", "{{ index . 0 }}", "{{ slice .Name 1 }}", `{{ printf "%" }}`,
	} {
		f.Add(s, "gold")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := render(text, map[string]string{"team": value, "m": value})
		runtime.ReadMemStats(&after)
		switch n := after.TotalAlloc - before.TotalAlloc; {
		case err != nil && got != "":
			t.Errorf("a name %q beside error %v", got, err)
		case len(got) > maxText:
			t.Errorf("%d bytes were printed", len(got))
		case len(value) < 1<<10 && n > 16<<20:
			t.Errorf("%d bytes were allocated", n)
		}
	})
}
