package meshhealthcheck_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshhealthcheck"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshhealthcheck.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshhealthcheck.Kind(), "testdata/corpus.json")
}
