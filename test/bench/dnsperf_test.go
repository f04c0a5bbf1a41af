//go:build linux

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const dnsperfOutput = `> NOERROR service-1.demo.svc.mesh.local A 0.000100
> SERVFAIL service-2.demo.svc.mesh.local A 9.000100
> T service-2.demo.svc.mesh.local A
Statistics:

  Queries sent:         120
  Queries completed:    100 (99.00%)
  Queries lost:         20 (1.00%)

  Queries per second:   25123.500000
`

func TestDNSPerf(t *testing.T) {
	for what, want := range map[string]float64{"Queries completed": 100, "Queries lost": 20, "Queries per second": 25123.5} {
		if got, err := statistic(dnsperfOutput, what); err != nil || got != want {
			t.Errorf("%s: got %v %v, want %v", what, got, err, want)
		}
	}
	if got, err := statistic(dnsperfOutput, "Queries"); err == nil {
		t.Errorf("a figure that is not there: %v", got)
	}
	lines := strings.Repeat("> NOERROR a.b A 0.000100\n", 98) + strings.Repeat("> NOERROR a.b A 0.001\n", 2)
	if mean, p99, err := latencies(lines); err != nil || mean != 118*time.Microsecond || p99 != time.Millisecond {
		t.Errorf("mean %v, p99 %v, %v", mean, p99, err)
	}
	if mean, p99, err := latencies(dnsperfOutput); err == nil {
		t.Errorf("of one answer: mean %v, p99 %v", mean, p99)
	}
}

func TestMedian(t *testing.T) {
	got := median([]dnsResult{
		{rate: 3, cpu: 9, mean: 2, p99: 1, at: 7, unanswered: 1}, {rate: 1, cpu: 7, mean: 3, p99: 2, at: 7}, {rate: 2, cpu: 8, mean: 1, p99: 3, at: 7, unanswered: 4},
	})
	if want := (dnsResult{rate: 2, cpu: 8, mean: 2, p99: 2, at: 7, unanswered: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for {
		now, err := cpuTime(os.Getpid()) // reading costs time too
		if err != nil {
			t.Fatal(err)
		}
		if now > before {
			return
		}
	}
}

func TestChoose(t *testing.T) {
	var b bench
	for only, want := range map[string]string{
		"^dns$":        "dns",
		"^agent-start": "scene control-plane mesh agent-start",
		"agent":        "scene control-plane mesh agent-memory agent-start",
		"go|puts":      "go puts",
	} {
		chosen, err := choose(b.sections(), regexp.MustCompile(only))
		if err != nil {
			t.Errorf("%s: %v", only, err)
		}
		var got []string
		for _, s := range chosen {
			got = append(got, s.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", only, got, want)
		}
	}
	all, err := choose(b.sections(), regexp.MustCompile(""))
	if err != nil || len(all) != len(b.sections()) {
		t.Errorf("without a choice: %d sections, %v", len(all), err)
	}
	if got, err := choose(b.sections(), regexp.MustCompile("nothing")); err == nil {
		t.Errorf("nothing: %v", got)
	}
	// What is needed has to come before.
	var before []string
	for _, s := range b.sections() {
		for _, n := range s.needs {
			if !slices.Contains(before, n) {
				t.Errorf("%s needs %s, which does not come before", s.name, n)
			}
		}
		before = append(before, s.name)
	}
}
