package meshtcproute_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshtcproute.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshtcproute.Kind(), "testdata/corpus.json")
}
