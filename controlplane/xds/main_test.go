package xds

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !benchmarking() {
		witness = judged.resource
	}
	goleak.VerifyTestMain(judgedRun{m})
}

// benchmarking tells whether what serves is measured, which judges nothing.
func benchmarking() bool { return flag.Lookup("test.bench").Value.String() != "" }
