package meshfaultinjection_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshfaultinjection"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshfaultinjection.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshfaultinjection.Kind(), corpus) }
