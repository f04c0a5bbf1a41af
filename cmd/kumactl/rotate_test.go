package main

import "testing"

func TestFollowing(t *testing.T) {
	for name, want := range map[string]string{
		"ca-1": "ca-2", "ca-9": "ca-10", "ca": "ca-2", "ca-x": "ca-x-2", "a-1-2": "a-1-3", "ca1": "ca1-2", "ca-99999999999": "ca-99999999999-2",
	} {
		if got := following(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestDescribePending(t *testing.T) {
	list := make([]pendingProxy, shownPending+2)
	for i := range list {
		list[i] = pendingProxy{Type: "Dataplane", Name: string(rune('a' + i)), Reason: "no"}
	}
	all := &authorities{Total: 9, Ready: 2}
	for _, tt := range []struct {
		n    int
		want string
	}{
		{1, "2 of 9 are ready; Dataplane a: no"},
		{shownPending + 2, "2 of 9 are ready; Dataplane a: no; Dataplane b: no; Dataplane c: no; Dataplane d: no; Dataplane e: no; and 2 more"},
	} {
		if got := describePending(all, list[:tt.n]); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
