package meshtrace_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtrace"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshtrace.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshtrace.Kind(), "testdata/corpus.json")
}
