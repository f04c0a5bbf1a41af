package meshtrafficpermission_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const corpus = "testdata/corpus.json"

func TestCorpus(t *testing.T) { policytest.Corpus(t, meshtrafficpermission.Kind(), corpus) }

func FuzzSpec(f *testing.F) { policytest.FuzzSpec(f, meshtrafficpermission.Kind(), corpus) }
