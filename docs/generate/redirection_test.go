package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSettingsOfRedirection compares the table in the tree with the settings of today.
func TestSettingsOfRedirection(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference", "transparent-proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := withSettings(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(page)); diff != "" {
		t.Errorf("run make generate (-generated +in the tree):\n%s", diff)
	}
	if _, err := withSettings([]byte("no table")); err == nil {
		t.Error("a page without a place for the table is accepted")
	}
}
