package xds

import (
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestRefusals(t *testing.T) {
	type answer struct {
		names  []string
		whole  bool
		reason string
		// want are the names that are refused after it, with the reason of each group.
		want []string
	}
	for _, tt := range []struct {
		name    string
		answers []answer
	}{
		{"one of three", []answer{
			{names: []string{"a", "b", "c"}, reason: "Error adding listener(s) b: no", want: []string{"[b] Error adding listener(s) b: no"}},
		}},
		{"others are accepted later", []answer{
			{names: []string{"a", "b"}, reason: "b: no", want: []string{"[b] b: no"}},
			{names: []string{"a"}, want: []string{"[b] b: no"}},
			{names: []string{"b"}},
		}},
		{"it is removed", []answer{
			{names: []string{"a", "b"}, reason: "b: no", want: []string{"[b] b: no"}},
			{names: []string{"b"}},
		}},
		{"two groups", []answer{
			{names: []string{"a", "b"}, reason: "b: no", want: []string{"[b] b: no"}},
			{names: []string{"a"}, reason: "a: never", want: []string{"[b] b: no", "[a] a: never"}},
			{names: []string{"b"}, reason: "b: never", want: []string{"[a] a: never", "[b] b: never"}},
			{names: []string{"a", "b"}},
		}},
		{"what an agent still holds", []answer{
			{names: []string{"a"}, reason: "a: no", want: []string{"[a] a: no"}},
			{names: []string{"b"}, reason: "a: no", want: []string{"[a] a: no"}},
			{names: []string{"a"}},
		}},
		{"nobody is named", []answer{
			{names: []string{"b", "a"}, reason: "no", want: []string{"[a b] no"}},
			{names: []string{"c"}, reason: "no", want: []string{"[a b] no"}},
			{names: []string{"c"}, want: []string{"[a b] no"}},
			{names: []string{"a"}},
		}},
		{"one of a group is refused for itself", []answer{
			{names: []string{"a", "b"}, reason: "no", want: []string{"[a b] no"}},
			{names: []string{"a"}, reason: "a: never", want: []string{"[b] no", "[a] a: never"}},
		}},
		{"all of a type at once", []answer{
			{names: []string{"a", "b"}, whole: true, reason: "a: no", want: []string{"[a] a: no"}},
			{names: []string{"a", "b"}, whole: true, reason: "b: no", want: []string{"[b] b: no"}},
			{names: []string{"a"}, whole: true},
		}},
		{"names within others", []answer{
			{
				names:  []string{"web", "web_1", "inbound:10.0.0.1:80", "inbound:10.0.0.1:8080", ""},
				reason: "x inbound:10.0.0.1:8080: no, my-web web_1", want: []string{"[inbound:10.0.0.1:8080 web_1] x inbound:10.0.0.1:8080: no, my-web web_1"},
			},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r refusals
			for i, a := range tt.answers {
				r.settle(TypeListener, a.names, a.whole, a.reason)
				var got []string
				for _, one := range r.list() {
					if one.Type != TypeListener || one.Since.IsZero() {
						t.Errorf("refusal is %+v", one)
					}
					got = append(got, fmt.Sprint(one.Resources, " ", one.Reason))
				}
				if diff := gocmp.Diff(a.want, got); diff != "" {
					t.Errorf("after answer %d (-want +got):\n%s", i, diff)
				}
			}
			r.settle(TypeCluster, []string{"z"}, false, "z: no")
			if types := r.list(); !slices.ContainsFunc(types, func(x Refusal) bool { return x.Type == TypeCluster }) {
				t.Error("types are not apart")
			}
		})
	}
}
