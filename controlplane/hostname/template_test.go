package hostname

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

func TestTemplate(t *testing.T) {
	r := service("stored", 1, resource.LabelDisplayName, "backend", resource.LabelNamespace, "ns", "team", "gold", "a/b", "x")
	long := strings.Repeat("a", 63)
	tests := []struct{ name, template, want, wantErr string }{
		{name: "default", template: "{{ .DisplayName }}.svc.mesh.local", want: "backend.svc.mesh.local"},
		{name: "all fields", template: "{{.Name}}.{{.DisplayName}}.{{.Namespace}}.{{.Mesh}}.{{.Zone}}", want: "stored.backend.ns.m.zone-a"},
		{name: "labels", template: `{{ label "team" }}.{{ label "a/b" }}.x`, want: "gold.x.x"},
		{name: "constant", template: "fixed.example.test", want: "fixed.example.test"},
		{name: "choice", template: `{{ if eq .Namespace "ns" }}yes{{ else }}no{{ end }}`, want: "yes"},
		{name: "with and variable", template: `{{ with $x := .Mesh }}{{ $x }}.x{{ end }}`, want: "m.x"},
		{name: "longest label", template: long + ".x", want: long + ".x"},
		// Texts of contract dns.md §1.3, seen on a 2.9 control plane.
		{
			name: "no such field", template: "{{ .Nope }}.x",
			wantErr: `pre evaluation of template with parameters failed with error="template: :1:3: executing \"\" at <.Nope>: can't evaluate field Nope in type hostname.meshedName"`,
		},
		{
			name: "no such label", template: `{{ label "nolabel" }}.x`,
			wantErr: `pre evaluation of template with parameters failed with error="template: :1:3: executing \"\" at <label \"nolabel\">: error calling label: label nolabel not found"`,
		},
		{name: "does not parse", template: "{{ .Name ", wantErr: `failed compiling gotemplate error="template: :1: unclosed action"`},
		{name: "underscore", template: "a_b.x", want: "a_b.x"},
		{name: "upper case", template: "Ab", wantErr: `generated hostname "Ab" is not a valid DNS name: ` + badSubdomain},
		{name: "empty part", template: "{{ .Name }}..x", wantErr: `generated hostname "stored..x" is not a valid DNS name: ` + badSubdomain},
		{name: "nothing", template: "{{ if false }}x{{ end }}", wantErr: `generated hostname "" is not a valid DNS name: ` + badSubdomain},
		{name: "long label", template: long + "a.x", wantErr: `generated hostname "` + long + `a.x" is not a valid DNS name: each part must be no more than 63 characters`},
		{name: "long name", template: strings.Repeat("a.", 126) + "aa", wantErr: `generated hostname "` + strings.Repeat("a.", 126) + `aa" is not a valid DNS name: must be no more than 253 characters`},
		{name: "far too long", template: strings.Repeat("a.", 2000) + "a", wantErr: "generated hostname is not a valid DNS name: must be no more than 253 characters"},
		{name: "long template", template: strings.Repeat("{{/**/}}", 1000), wantErr: `failed compiling gotemplate error="template is longer than 4096 bytes"`},
		{name: "loop", template: "{{ range 1000000000 }}{{ end }}x", wantErr: `failed compiling gotemplate error="{{range 1000000000}}{{end}} is not supported"`},
		{name: "recursion", template: `{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`, wantErr: `failed compiling gotemplate error="template must not define templates"`},
		{name: "itself", template: `{{ template "" }}`, wantErr: `failed compiling gotemplate error="{{template \"\"}} is not supported"`},
		{name: "printf", template: `{{ printf "%1000000000d" 1 }}`, wantErr: `failed compiling gotemplate error="function \"printf\" is not supported"`},
		{name: "function below", template: `{{ if (html .Name) }}{{ end }}`, wantErr: `failed compiling gotemplate error="function \"html\" is not supported"`},
		{name: "function behind a pipe", template: `{{ .Name | js }}`, wantErr: `failed compiling gotemplate error="function \"js\" is not supported"`},
		{name: "unknown function", template: `{{ env "HOME" }}`, wantErr: `failed compiling gotemplate error="template: :1: function \"env\" not defined"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := compile(tt.template)
			got := ""
			if err == nil {
				got, err = evaluate(c, r, "zone-a")
			}
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

// FuzzTemplate: whatever a template is, it ends, and gives a valid name or an error that fits a condition.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"{{ .DisplayName }}.svc.mesh.local", `{{ label "team" }}.x`, "{{ .Nope }}", "{{", "{{ range 9 }}x{{ end }}", `{{ define "" }}{{ template "" }}{{ end }}`,
		`{{ $a := .Name }}{{ $a }}`, "{{ with .Zone }}{{ . }}{{ end }}", "{{ len .Name }}.x", "{{ block \"a\" . }}{{ end }}", "{{ .Name.x }}", "{{ (label .Mesh).y }}",
		"{{ break }}", "{{ nil }}", "{{ 1e1000 }}", "{{- 'x' -}}", "{{ eq 1 . }}",
	} {
		f.Add(s, "gold")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		r := service("backend", 1, "team", value, resource.LabelDisplayName, value)
		c, err := compile(text)
		if err != nil {
			return
		}
		host, err := evaluate(c, r, "zone-a")
		switch {
		case err != nil && host != "":
			t.Errorf("a name %q beside error %v", host, err)
		case err != nil && len(err.Error()) > 32768:
			t.Errorf("the message has %d bytes, a condition holds 32768", len(err.Error()))
		case err == nil && len(invalid(host)) > 0:
			t.Errorf("%q is not a name", host)
		}
	})
}
