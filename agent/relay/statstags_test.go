package relay

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

// extract does what Envoy does with a tag expression: the first group is cut out of the name, the second (or else the
// first) is the tag's value.
func extract(expression *regexp.Regexp, name string) (rest, value string) {
	m := expression.FindStringSubmatchIndex(name)
	if m == nil {
		return name, ""
	}
	at := 2
	if len(m) > 4 && m[4] >= 0 {
		at = 4
	}
	return name[:m[2]] + name[m[3]:], name[m[at]:m[at+1]]
}

// TestFasterTagsAreEqual compares both forms on names that they are for, and on names made of the words that they look for.
func TestFasterTagsAreEqual(t *testing.T) {
	for slow, name := range map[string]string{
		`((.+?)\.)rbac\.`:                  "inbound_10_0_0_1_80.rbac.allowed",
		`^grpc.*streams_closed(_([0-9]+))`: "grpc.ads_cluster.streams_closed_14",
		`^kafka(\.(\S*[0-9]))\.`:           "kafka.broker_9.request.fetch_request",
	} {
		before, after := regexp.MustCompile(slow), regexp.MustCompile(fasterTags[slow])
		t.Run(slow, func(t *testing.T) {
			compare := func(t interface{ Fatalf(string, ...any) }, name string) string {
				wantRest, wantValue := extract(before, name)
				rest, value := extract(after, name)
				if rest != wantRest || value != wantValue {
					t.Fatalf("%q: got %q and %q, want %q and %q", name, rest, value, wantRest, wantValue)
				}
				return value
			}
			if compare(t, name) == "" {
				t.Errorf("%q does not match: the comparison says nothing", name)
			}
			rapid.Check(t, func(t *rapid.T) { compare(t, statName(t)) })
		})
	}
	if len(fasterTags) != 3 {
		t.Errorf("%d expressions are replaced, 3 are compared", len(fasterTags))
	}
}

func statName(t *rapid.T) string {
	words := rapid.SliceOfN(rapid.SampledFrom([]string{
		"rbac", "allowed", "inbound_10_0_0_1_80", "listener", "x", "streams_closed_14", "streams_closed", "ads_cluster", "kafka_9", "7", "broker1",
	}), 1, 5).Draw(t, "words")
	name := rapid.SampledFrom([]string{"grpc", "kafka", "listener", "http", "rbac", "cluster"}).Draw(t, "first")
	for _, w := range words {
		name += "." + w
	}
	return name
}

func TestSpeedUpTagsLeavesOthers(t *testing.T) {
	root := object{"statsConfig": map[string]any{"statsTags": []any{
		map[string]any{"tagName": "listener", "regex": `((.+?)\.)rbac\.`},
		map[string]any{"tagName": "worker", "regex": `(worker_([0-9]+)\.)`},
		"not an object",
	}}}
	root.speedUpTags()
	tags := root.get("statsConfig")["statsTags"].([]any)
	if got := asObject(tags[0]).text("regex"); got != `^((.+?)\.)rbac\.` {
		t.Errorf("listener has %q", got)
	}
	if got := asObject(tags[1]).text("regex"); got != `(worker_([0-9]+)\.)` {
		t.Errorf("worker has %q", got)
	}
	object{}.speedUpTags()
}
