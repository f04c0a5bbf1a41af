package native_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch/native"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestCorpus(t *testing.T) {
	policytest.Corpus(t, meshproxypatch.Kind(native.Check), "../testdata/corpus.json")
}
