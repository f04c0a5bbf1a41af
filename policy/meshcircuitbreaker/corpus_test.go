package meshcircuitbreaker_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshcircuitbreaker.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshcircuitbreaker.Kind(), corpus) }
