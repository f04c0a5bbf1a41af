package meshtimeout_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshtimeout.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshtimeout.Kind(), corpus) }
