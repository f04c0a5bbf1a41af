package inspect

import (
	"encoding/json"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The answer is what the encoder of the standard library makes of it, also of changes that were written before.
func TestPreviewIndentation(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "web", `"`, "<&>", "a\nb"}), rapid.String())
	texts := rapid.SliceOfN(text, 0, 2)
	rapid.Check(t, func(t *rapid.T) {
		overrides := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) previewOverride {
			return previewOverride{text.Draw(t, "mesh"), text.Draw(t, "name"), texts.Draw(t, "fields"), rapid.Bool().Draw(t, "whole"), rapid.Int().Draw(t, "proxies")}
		}), 0, 2)
		rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) previewRules {
			one := previewRules{Type: "MeshTimeout", After: &kindRules{Warnings: texts.Draw(t, "warnings")}}
			if rapid.Bool().Draw(t, "before") {
				one.Before, one.After = &kindRules{ToRules: []subsetRule{{Conf: text.Draw(t, "conf")}}}, nil
			}
			return one
		}), 0, 2)
		operations := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Operation {
			o := Operation{Op: "add", Path: text.Draw(t, "path"), Value: rapid.SampledFrom([]any{
				nil, "<", 1, []any{}, []any{1, "a"}, map[string]any{}, map[string]any{"b": []any{map[string]any{"c": true}}},
			}).Draw(t, "value")}
			if rapid.Bool().Draw(t, "written") {
				if err := o.write(); err != nil {
					t.Fatal(err)
				}
			}
			return o
		}), 0, 3)
		body := previewBody{Resources: []previewResource{}, Proxies: []previewProxy{}, ZoneProxies: texts.Draw(t, "zone proxies")}
		for range rapid.IntRange(0, 2).Draw(t, "resources") {
			body.Resources = append(body.Resources, previewResource{
				"MeshTimeout", text.Draw(t, "mesh"), text.Draw(t, "name"), "create", 3, overrides.Draw(t, "shadows"), overrides.Draw(t, "shadowed by"), texts.Draw(t, "warnings"),
			})
		}
		for range rapid.IntRange(0, 3).Draw(t, "proxies") {
			body.Proxies = append(body.Proxies, previewProxy{
				text.Draw(t, "mesh"), text.Draw(t, "name"), rules.Draw(t, "rules"), operations.Draw(t, "diff"), texts.Draw(t, "warnings"), text.Draw(t, "error"),
			})
		}
		want, err := json.MarshalIndent(&body, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		got, err := body.indented(nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
