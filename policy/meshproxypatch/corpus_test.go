package meshproxypatch_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

// Without Envoy's types the form of values is checked all the same, so the answers do not differ.
func TestCorpus(t *testing.T) { policytest.Corpus(t, meshproxypatch.Kind(nil), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshproxypatch.Kind(nil), corpus) }
