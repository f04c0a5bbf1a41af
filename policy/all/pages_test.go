package all_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

var example = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestPages: every kind has a page that first draws where it acts and then shows examples, all of which can be stored. What
// they do to traffic is for test/e2e to see.
func TestPages(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	for _, k := range all.Kinds() {
		kind := k.Descriptor.Kind
		b, err := os.ReadFile("../../docs/guides/policies/" + strings.ToLower(string(kind)) + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		page, own := string(b), 0
		picture, first := strings.Index(page, "\n```text\n"), strings.Index(page, "\n```yaml\n")
		if picture < 0 || first < picture {
			t.Errorf("the page of %s has no picture before its first example", kind)
		}
		for _, m := range example.FindAllStringSubmatch(page, -1) {
			for _, doc := range resource.SplitYAML([]byte(m[1])) {
				r, err := registry.DecodeYAML(doc)
				if err != nil {
					t.Errorf("the page of %s: %v in\n%s", kind, err, doc)
					continue
				}
				if faults := resource.Validate(r); len(faults) > 0 {
					t.Errorf("the page of %s: %v in\n%s", kind, faults, doc)
				}
				if r.Kind == kind {
					own++
				}
			}
		}
		if own == 0 {
			t.Errorf("the page of %s has no example of it", kind)
		}
	}
}
