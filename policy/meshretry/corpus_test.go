package meshretry_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshretry.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshretry.Kind(), corpus) }
