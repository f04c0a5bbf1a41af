package meshpassthrough_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshpassthrough"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshpassthrough.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshpassthrough.Kind(), corpus) }
