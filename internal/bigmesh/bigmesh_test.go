package bigmesh

import (
	"slices"
	"strings"
	"testing"
)

func TestPolicies(t *testing.T) {
	list := Policies(100, Size{Zone: "z", Services: 500})
	kinds := map[string]int{}
	names := map[string]bool{}
	for _, p := range list {
		kinds[p.Kind]++
		names[p.Kind+"/"+p.Name] = true
		if strings.Contains(p.Document(3), "%!") {
			t.Errorf("%s is not complete: %s", p.Name, p.Document(3))
		}
	}
	if len(list) != 100 || len(names) != 100 || len(kinds) != 16 {
		t.Errorf("%d policies of %d names and %d kinds", len(list), len(names), len(kinds))
	}
	if n := len(slices.DeleteFunc(list, func(p Policy) bool { return !p.Service })); n < 50 {
		t.Errorf("only %d are for one service", n)
	}
}
