package xds

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
)

// judged are all resources that the tests of this package cause to be made.
var judged = judge{verdicts: map[string]string{}, refused: map[string]string{}}

// What accepted policies may hold and Envoy refuses, see TestAcceptedPolicies.
const (
	unknownStatus  = "invalid HttpStatus.Code: value must be one of the defined enum values"
	zeroDelay      = "invalid FaultDelay.FixedDelay: value must be greater than 0s"
	noBaseInterval = "invalid RetryPolicy_RetryBackOff.BaseInterval: value is required"
)

// judge holds resources against Envoy's rules and against the fields of the oldest Envoy.
type judge struct {
	mu sync.Mutex
	// verdicts are by version: most resources are made again and again.
	verdicts map[string]string
	// refused says why, and by which test, by name of the resource.
	refused map[string]string
	// expected are the refusals that the running test is about.
	expected []*refusalText
}

type refusalText struct {
	text string
	seen bool
}

func (j *judge) resource(r *Resource, m proto.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	verdict, known := j.verdicts[r.Version]
	if !known {
		if err := effecttest.Refusal(m); err != nil {
			verdict = err.Error()
		}
		j.verdicts[r.Version] = verdict
	}
	if verdict == "" {
		return
	}
	for _, e := range j.expected {
		if strings.Contains(verdict, e.text) {
			e.seen = true
			return
		}
	}
	j.refused[r.Name+": "+verdict] = inTest()
}

// inTest names the place in a test that is running; a resource that is made in the background has none.
func inTest() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.File, "_test.go") && strings.Contains(f.Function, ".Test") {
			return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return "in the background"
		}
	}
}

// expectRefused says that a test makes what an Envoy refuses, for reasons with one of these texts. Each must come.
func expectRefused(t testing.TB, texts ...string) {
	t.Helper()
	judged.mu.Lock()
	defer judged.mu.Unlock()
	for _, text := range texts {
		e := &refusalText{text: text}
		judged.expected = append(judged.expected, e)
		t.Cleanup(func() {
			judged.mu.Lock()
			defer judged.mu.Unlock()
			judged.expected = slices.DeleteFunc(judged.expected, func(o *refusalText) bool { return o == e })
			if !e.seen && !t.Failed() && !benchmarking() {
				t.Errorf("nothing is made that an Envoy refuses for %q", text)
			}
		})
	}
}

// judgedRun fails when any resource was made that an Envoy would refuse.
type judgedRun struct{ m *testing.M }

func (r judgedRun) Run() int {
	code := r.m.Run()
	judged.mu.Lock()
	defer judged.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(judged.refused)) {
		fmt.Fprintf(os.Stderr, "--- FAIL: %s: an Envoy refuses %s\n", judged.refused[what], what)
		code = max(code, 1)
	}
	return code
}

// TestJudge: what an Envoy refuses fails the tests, whoever makes it, unless one says that it does.
func TestJudge(t *testing.T) {
	j := &judge{verdicts: map[string]string{}, refused: map[string]string{}}
	good := &clusterv3.Cluster{Name: "good"}
	deep, err := effect.Pack(&faultv3.HTTPFault{Abort: &faultv3.FaultAbort{}})
	if err != nil {
		t.Fatal(err)
	}
	bad := &clusterv3.Cluster{Name: "bad", TypedExtensionProtocolOptions: map[string]*anypb.Any{"a": deep}}
	later := &clusterv3.Cluster{Name: "later", TypedExtensionProtocolOptions: map[string]*anypb.Any{"b": {TypeUrl: "type.googleapis.com/envoy.config.core.v3.Node"}}}
	if witness == nil && !benchmarking() {
		t.Fatal("nobody looks at what is made")
	}
	defer func(w func(*Resource, proto.Message)) { witness = w }(witness)
	witness = j.resource
	for range 2 {
		for _, m := range []*clusterv3.Cluster{good, bad, later} {
			if _, err := newResource(m.Name, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := slices.Sorted(maps.Keys(j.refused))
	if len(got) != 2 || !strings.HasPrefix(got[0], "bad: ") || !strings.HasPrefix(got[1], "later: of Envoy 1.32 unknown is envoy.config.core.v3.Node") {
		t.Errorf("refused are %q", got)
	}
	for _, where := range j.refused {
		if !strings.HasPrefix(where, "judge_test.go:") {
			t.Errorf("made %s", where)
		}
	}
	clear(j.refused)
	j.expected = []*refusalText{{text: "FaultAbort"}}
	if _, err := newResource("bad", bad); err != nil || len(j.refused) > 0 || !j.expected[0].seen {
		t.Errorf("an expected one: %v %q", err, j.refused)
	}
}
