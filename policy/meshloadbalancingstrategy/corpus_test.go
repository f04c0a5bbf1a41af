package meshloadbalancingstrategy_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshloadbalancingstrategy"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshloadbalancingstrategy.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshloadbalancingstrategy.Kind(), "testdata/corpus.json")
}
