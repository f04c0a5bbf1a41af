package inspect

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer is what the encoder of the standard library makes of it, whatever strings are in it.
func TestIndentation(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "web", `"`, `\`, "<&>", "\u2028", "\x7f", "\xff", "a\nb", "é"}), rapid.String())
	tags := rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOfN(text, text, 0, 3))
	metas := rapid.Custom(func(t *rapid.T) meta {
		return meta{tags.Draw(t, "labels"), text.Draw(t, "mesh"), text.Draw(t, "name"), resource.Kind(text.Draw(t, "type"))}
	})
	shared := &meshtrafficpermission.Conf{Action: "Allow"}
	confs := rapid.Custom(func(t *rapid.T) any {
		return rapid.OneOf(
			rapid.Just[any](nil), rapid.Just[any](shared), rapid.Just[any](map[string]any{}), rapid.Just[any]([]any{1, []string{}}),
			rapid.Map(text, func(s string) any { return &meshtrafficpermission.Conf{Action: s} }),
		).Draw(t, "conf")
	})
	subsets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) subsetRule {
		return subsetRule{confs.Draw(t, "conf"), rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policy.Matcher {
			return policy.Matcher{Key: text.Draw(t, "key"), Value: text.Draw(t, "value"), Not: rapid.Bool().Draw(t, "not")}
		}), 0, 2).Draw(t, "matchers"), rapid.SliceOfN(metas, 0, 2).Draw(t, "origin")}
	}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		body := rulesBody{Resource: metas.Draw(t, "resource")}
		for range rapid.IntRange(0, 2).Draw(t, "matches") {
			body.HTTPMatches = append(body.HTTPMatches, httpMatch{text.Draw(t, "hash"), confs.Draw(t, "match")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "kinds") {
			kind := kindRules{Type: resource.Kind(text.Draw(t, "kind")), ToRules: subsets.Draw(t, "to"), Warnings: rapid.SliceOfN(text, 0, 2).Draw(t, "warnings")}
			kind.FromRules = []fromRule{{inbound{rapid.Uint32().Draw(t, "port"), tags.Draw(t, "tags")}, subsets.Draw(t, "from")}}
			if rapid.Bool().Draw(t, "single") {
				kind.ProxyRule = &proxyRule{confs.Draw(t, "conf"), rapid.SliceOfN(metas, 0, 2).Draw(t, "origin")}
			}
			from := []origin{{metas.Draw(t, "policy"), rapid.Int().Draw(t, "index")}}
			rule := resourceRule{rapid.SliceOfN(confs, 0, 2).Draw(t, "confs"), from, metas.Draw(t, "target"), text.Draw(t, "section")}
			kind.ToResourceRules = append(kind.ToResourceRules, rule)
			body.Rules = append(body.Rules, kind)
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

// A conf that cannot be written is an error, as everywhere.
func TestAConfThatIsNoJSON(t *testing.T) {
	body := rulesBody{HTTPMatches: []httpMatch{{"", func() {}}}}
	if b, err := body.indented(nil); err == nil {
		t.Errorf("got %s", b)
	}
}

// A configuration is written as the standard library would, but for escapes that JSON does not need.
func TestIndentedConfig(t *testing.T) {
	g := start(t, []byte(previewWorld))
	_, _, got := g.get("/meshes/m/dataplanes/web-1/_config?include=diff")
	var body map[string]any
	if err := json.Unmarshal([]byte(got), &body); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(struct {
		XDS  any `json:"xds"`
		Diff any `json:"diff"`
	}{body["xds"], body["diff"]}); err != nil {
		t.Fatal(err)
	}
	lines := func(text string) []string { // protojson has an order of its own
		out := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, ",\n", "\n")), "\n")
		slices.Sort(out)
		return out
	}
	if diff := gocmp.Diff(lines(want.String()), lines(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
