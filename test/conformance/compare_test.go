package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// show is a value in the space of a line.
func show(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	const most = 400
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}

// difference is one place where two answers are not equal; a side that has nothing there is absent.
type difference struct {
	path      string
	want, got any
}

type absent struct{}

func (absent) MarshalJSON() ([]byte, error) { return []byte(`"(absent)"`), nil }

func (d difference) String() string {
	return fmt.Sprintf("%s\n    want %s\n    got  %s", cmp.Or(d.path, "$"), show(d.want), show(d.got))
}

// report is a text for a person, cut after some differences.
func report(diffs []difference) string {
	const most = 12
	var b strings.Builder
	for i, d := range diffs {
		if i == most {
			fmt.Fprintf(&b, "\n  … %d more", len(diffs)-most)
			break
		}
		b.WriteString("\n  " + d.String())
	}
	return b.String()
}

// compare finds what differs: objects without order, lists with it.
func compare(path string, want, got any) []difference {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		keys := slices.Collect(maps.Keys(w))
		for k := range g {
			if _, both := w[k]; !both {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		var out []difference
		for _, k := range keys {
			out = append(out, compare(path+field(k), orAbsent(w, k), orAbsent(g, k))...)
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok {
			break
		}
		var out []difference
		for i := range max(len(w), len(g)) {
			a, b := any(absent{}), any(absent{})
			if i < len(w) {
				a = w[i]
			}
			if i < len(g) {
				b = g[i]
			}
			out = append(out, compare(fmt.Sprintf("%s[%d]", path, i), a, b)...)
		}
		return out
	}
	if reflect.DeepEqual(want, got) {
		return nil
	}
	return []difference{{path, want, got}}
}

func field(k string) string {
	if strings.ContainsAny(k, ".:/ ") {
		return fmt.Sprintf("[%q]", k)
	}
	return "." + k
}

func orAbsent(m map[string]any, k string) any {
	if v, ok := m[k]; ok {
		return v
	}
	return absent{}
}

// normal brings an answer into the form that is compared: without times, sets as objects or sorted lists, virtual IPs as
// placeholders. It changes v.
func normal(v any, vips map[string]string) any {
	for ip, service := range legacyVIPs(v) {
		vips = maps.Clone(vips)
		if vips == nil {
			vips = map[string]string{}
		}
		vips[ip] = "VIP(legacy/" + service + ")"
	}
	return tidy(substitute(v, vips))
}

// legacyVIPs reads from a configuration which service has which of the older virtual IPs.
func legacyVIPs(v any) map[string]string {
	out := map[string]string{}
	types, _ := at(v, "xds").(map[string]any)
	for typ, resources := range types {
		if !strings.HasSuffix(typ, ".Listener") {
			continue
		}
		for _, l := range resources.(map[string]any) {
			ip, _ := at(l, "address", "socketAddress", "address").(string)
			service, ok := at(l, "metadata", "filterMetadata", "io.kuma.tags", "kuma.io/service").(string)
			if ok && strings.HasPrefix(ip, "240.") {
				out[ip] = service
			}
		}
	}
	return out
}

// here is the name of the control plane's own address among the placeholders.
const here = "CONTROL-PLANE"

// substitute replaces addresses, also inside names.
func substitute(v any, names map[string]string) any {
	switch v := v.(type) {
	case string:
		if names[here] != "" {
			v = strings.ReplaceAll(v, names[here], here)
		}
		return replaceIPs(v, names)
	case []any:
		for i := range v {
			v[i] = substitute(v[i], names)
		}
	case map[string]any:
		for k, item := range v {
			item = substitute(item, names)
			if n := replaceIPs(k, names); n != k {
				delete(v, k)
				k = n
			}
			v[k] = item
		}
	}
	return v
}

// replaceIPs replaces whole addresses in s.
func replaceIPs(s string, names map[string]string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if n < 0 {
			n = len(s)
		}
		if _, err := netip.ParseAddr(s[:n]); err == nil {
			b.WriteString(cmp.Or(names[s[:n]], s[:n]))
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
		n = strings.IndexAny(s, "0123456789")
		if n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
	}
	return b.String()
}

// dropped are left out of every answer: they depend on when and where it was given.
var dropped = []string{"creationTime", "modificationTime", "creationTimestamp", "kuma.io/deletion-grace-period-started-at"}

// tidy applies what the corpus says of the order of things.
func tidy(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = tidy(v[i])
		}
		return v
	case map[string]any:
		for _, k := range dropped {
			delete(v, k)
		}
		if labels, ok := v["labels"].(map[string]any); ok && len(labels) == 0 {
			delete(v, "labels")
		}
		for k, item := range v {
			v[k] = tidy(item)
		}
		_, hasRules := v["rules"]
		keyed := func(name string, key func(any) string) {
			if l, ok := v[name].([]any); ok && hasRules {
				v[name] = set(l, key)
			}
		}
		keyed("httpMatches", func(m any) string { return fmt.Sprint(at(m, "hash")) })
		for _, r := range listOf(v["rules"]) {
			tidyRules(r)
		}
		if diff, ok := v["diff"].([]any); ok {
			// Which resource comes first follows from the numbers in its name.
			slices.SortStableFunc(diff, func(a, b any) int { return strings.Compare(fmt.Sprint(at(a, "path")), fmt.Sprint(at(b, "path"))) })
		}
		return v
	}
	return v
}

func listOf(v any) []any { l, _ := v.([]any); return l }

// tidyRules brings one type's part of `_rules` into order.
func tidyRules(v any) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	if l, ok := m["toResourceRules"].([]any); ok {
		m["toResourceRules"] = set(l, func(r any) string {
			return fmt.Sprint(at(r, "resourceMeta", "type"), "/", at(r, "resourceMeta", "name"), "/", at(r, "resourceSectionName"))
		})
	}
	matchers := func(rules any) {
		for _, r := range listOf(rules) {
			slices.SortFunc(list(r, "matchers"), func(a, b any) int { return strings.Compare(show(a), show(b)) })
		}
	}
	matchers(m["toRules"])
	for _, f := range listOf(m["fromRules"]) {
		matchers(at(f, "rules"))
	}
	if l, ok := m["fromRules"].([]any); ok {
		m["fromRules"] = set(l, func(r any) string { return fmt.Sprint(at(r, "inbound", "port")) })
	}
}

// set is a list as an object; items of equal keys stay apart.
func set(l []any, key func(any) string) map[string]any {
	out := map[string]any{}
	for _, item := range l {
		k := key(item)
		for n := 2; ; n++ {
			if _, taken := out[k]; !taken {
				break
			}
			k = fmt.Sprint(key(item), " #", n)
		}
		out[k] = item
	}
	return out
}

// TestCompare keeps the comparison honest: what matters differs, what does not is equal.
func TestCompare(t *testing.T) {
	vips := map[string]string{"241.0.0.1": "VIP(MeshService/a)", "241.0.0.10": "VIP(MeshService/b)"}
	for _, c := range []struct{ name, want, got, path string }{
		{"times", `{"a":1}`, `{"a":1,"creationTime":"x","modificationTime":"y"}`, ""},
		{"scalar", `{"a":{"b.c":1}}`, `{"a":{"b.c":2}}`, `.a["b.c"]`},
		{"missing field", `{"a":{"b":1}}`, `{"a":{}}`, `.a.b`},
		{"further field", `{"a":{}}`, `{"a":{"b":null}}`, `.a.b`},
		{"order of a list", `{"a":[1,2]}`, `{"a":[2,1]}`, `.a[0]`},
		{"shorter list", `{"a":[1,2]}`, `{"a":[1]}`, `.a[1]`},
		{"number and string", `{"a":1}`, `{"a":"1"}`, `.a`},
		{"addresses", `["VIP(MeshService/a)","outbound:VIP(MeshService/b):80"]`, `["241.0.0.1","outbound:241.0.0.10:80"]`, ""},
		{"other address", `["VIP(MeshService/a)"]`, `["241.0.0.10"]`, "[0]"},
		{"version is no address", `["1.2"]`, `["1.2"]`, ""},
		{
			"order of resource rules", `{"rules":[{"toResourceRules":[{"resourceMeta":{"name":"a"}},{"resourceMeta":{"name":"b"}}]}]}`,
			`{"rules":[{"toResourceRules":[{"resourceMeta":{"name":"b"}},{"resourceMeta":{"name":"a"}}]}]}`, "",
		},
		{
			"order of origin", `{"rules":[{"toRules":[{"origin":[{"name":"a"},{"name":"b"}]}]}]}`,
			`{"rules":[{"toRules":[{"origin":[{"name":"b"},{"name":"a"}]}]}]}`, ".rules[0].toRules[0].origin[0].name",
		},
		{
			"order of matchers", `{"rules":[{"fromRules":[{"inbound":{"port":1},"rules":[{"matchers":[{"key":"a"},{"key":"b"}]}]}]}]}`,
			`{"rules":[{"fromRules":[{"inbound":{"port":1},"rules":[{"matchers":[{"key":"b"},{"key":"a"}]}]}]}]}`, "",
		},
		{
			"order of rules", `{"rules":[{"fromRules":[{"inbound":{"port":1},"rules":[{"conf":1},{"conf":2}]}]}]}`,
			`{"rules":[{"fromRules":[{"inbound":{"port":1},"rules":[{"conf":2},{"conf":1}]}]}]}`, ".rules[0].fromRules.1.rules[0].conf",
		},
		{"twice the same", `{"rules":[],"httpMatches":[{"hash":"x"}]}`, `{"rules":[],"httpMatches":[{"hash":"x"},{"hash":"x"}]}`, `.httpMatches["x #2"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want, got any
			for text, into := range map[string]*any{c.want: &want, c.got: &got} {
				if err := json.Unmarshal([]byte(text), into); err != nil {
					t.Fatal(err)
				}
			}
			if c.want == c.got {
				if err := json.Unmarshal([]byte(c.got), &got); err != nil {
					t.Fatal(err)
				}
				want = got
			}
			diffs := compare("", normal(want, nil), normal(got, vips))
			path := ""
			if len(diffs) > 0 {
				path = diffs[0].path
			}
			if path != c.path || len(diffs) > 0 && c.path == "" {
				t.Errorf("differs at %q, want %q: %s", path, c.path, report(diffs))
			}
		})
	}
}
