package hostname

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

const badName = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and ` +
	`end with an alphanumeric character (e.g. 'example.com', regex used for validation is ` +
	`'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

// TestTemplate has what the conditions say; what templates can do, their own package tests.
func TestTemplate(t *testing.T) {
	r := service("stored", 1, resource.LabelDisplayName, "backend", resource.LabelNamespace, "ns", "team", "gold", "a/b", "x")
	tests := []struct{ name, template, want, wantErr string }{
		{name: "default", template: "{{ .DisplayName }}.svc.mesh.local", want: "backend.svc.mesh.local"},
		{name: "all fields", template: "{{.Name}}.{{.DisplayName}}.{{.Namespace}}.{{.Mesh}}.{{.Zone}}", want: "stored.backend.ns.m.zone-a"},
		{name: "labels", template: `{{ label "team" }}.{{ label "a/b" }}.x`, want: "gold.x.x"},
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
		{name: "not supported", template: "{{ range 9 }}{{ end }}x", wantErr: `failed compiling gotemplate error="range is not supported"`},
		{name: "underscore", template: "a_b.x", want: "a_b.x"},
		{name: "upper case", template: "Ab.x", want: "Ab.x"},
		{name: "empty part", template: "{{ .Name }}..x", wantErr: `generated hostname "stored..x" is not a valid DNS name: ` + badName},
		{name: "nothing", template: "{{ if false }}x{{ end }}", wantErr: `generated hostname "" is not a valid DNS name: ` + badName},
		{name: "long name", template: strings.Repeat("a.", 126) + "aa", wantErr: `generated hostname "` + strings.Repeat("a.", 126) + `aa" is not a valid DNS name: must be no more than 253 characters`},
		{name: "far too long", template: strings.Repeat("a.", 2000) + "a", wantErr: "generated hostname is not a valid DNS name: must be no more than 253 characters"},
		{name: "far too long by a function", template: `{{ printf "%9999d" 1 }}`, wantErr: "generated hostname is not a valid DNS name: must be no more than 253 characters"},
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
