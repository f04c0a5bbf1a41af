package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBlocks compares what is generated of the pages in the tree with what would be today.
func TestBlocks(t *testing.T) {
	for _, p := range blockPages {
		text, err := os.ReadFile(p.path(root))
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.fill(text)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if diff := cmp.Diff(string(want), string(text)); diff != "" {
			t.Errorf("%s: run make generate (-generated +in the tree):\n%s", p.name, diff)
		}
		if _, err := p.fill([]byte("no table")); err == nil {
			t.Errorf("%s: a page without a place for the table is accepted", p.name)
		}
	}
}
