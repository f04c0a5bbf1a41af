package meshmetric_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshmetric"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshmetric.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshmetric.Kind(), "testdata/corpus.json")
}
