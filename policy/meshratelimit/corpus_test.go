package meshratelimit_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshratelimit"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshratelimit.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshratelimit.Kind(), corpus) }
