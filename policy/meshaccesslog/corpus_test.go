package meshaccesslog_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshaccesslog"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshaccesslog.Kind(), "testdata/corpus.json")
}

func FuzzSpec(f *testing.F) {
	policytest.FuzzSpec(f, meshaccesslog.Kind(), "testdata/corpus.json")
}
