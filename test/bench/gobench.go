//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// goBench is a budget that a Go benchmark of a package measures.
type goBench struct {
	what, kuma, budget string
	pkg, pattern       string
	// metric is what is shown, "median-ns" where the benchmark tells it.
	metric string
	// time is that of -benchtime.
	time string
}

const (
	mixed = "one proxy, 500 services, 100 policies"
	// repeats is how often a Go benchmark is run; the median counts.
	repeats = 5
)

func goBenches() []goBench {
	const xds, inspect, dns = "./controlplane/xds", "./controlplane/inspect", "./dns"
	return []goBench{
		{mixed + ": rules and configuration from cold", "", "30 ms", xds, "^BenchmarkMixCold$", "ns/op", "20x"},
		{mixed + ": a policy of one service changed, until the answer is made", "", "1 ms", xds, "^BenchmarkMixChange$/^service$", "median-ns", "200x"},
		{mixed + ": a policy of the whole mesh changed", "", "", xds, "^BenchmarkMixChange$/^everybody$", "median-ns", "30x"},
		{mixed + ": `_config`, never asked for", "", "50 ms", inspect, "^BenchmarkConfigAnswer$/^first$", "ns/op", "20x"},
		{mixed + ": `_config` again", "", "50 ms", inspect, "^BenchmarkConfigAnswer$/^again$", "ns/op", "20x"},
		{"a MeshService among 10,000: from its PUT to its address and hostname", "", "50 ms", "./test/bench", "^BenchmarkHostname$/^10000$", "median-ns", "200x"},
		{"preview of a policy on 1,000 proxies that has no like", "", "1 s", inspect, "^BenchmarkPreview$/^first_policy$", "ns/op", "3x"},
		{"preview of a policy on 1,000 proxies, beside 100 others", "", "", inspect, "^BenchmarkPreview$/^100_policies$", "ns/op", "3x"},
		{"resolver: 10,000 names made into a table, which takes the place of another at once", "", "5 ms", dns, "^BenchmarkNewTable$/^10000$", "ns/op", "200x"},
		{"resolver: 50,000 names made into a table, which takes the place of another at once", "", "50 ms", dns, "^BenchmarkNewTable$/^50000$", "ns/op", "10x"},
		{"resolver: table of 10,000 names, in memory", "", "5 MB", dns, "^BenchmarkNewTable$/^10000$", "heap-B", "20x"},
		{"resolver: answer for a mesh name, without the socket", "", "100 ns", dns, "^BenchmarkRespond$", "ns/op", "1000000x"},
	}
}

// goBenches runs the Go benchmarks with budgets, one after the other.
func (b *bench) goBenches(ctx context.Context) ([]row, error) {
	var rows []row
	for _, g := range goBenches() {
		found, err := g.run(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{g.what, g.kuma, g.budget, found})
	}
	return rows, nil
}

func (g goBench) run(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", g.pattern, "-benchtime", g.time, "-count", strconv.Itoa(repeats), g.pkg)
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			out = append(out, failed.Stderr...)
		}
		return "", fmt.Errorf("benchmark %s of %s: %w\n%s", g.pattern, g.pkg, err, out)
	}
	found, err := parseBench(string(out), g.metric)
	if err != nil {
		return "", fmt.Errorf("benchmark %s of %s: %w", g.pattern, g.pkg, err)
	}
	return found, nil
}

// parseBench returns the median of a metric in nanoseconds, or in bytes when its name ends in -B; of several benchmarks the
// lowest and the highest with their names.
func parseBench(out, metric string) (string, error) {
	show := func(n float64) string { return figures(time.Duration(n)) }
	if strings.HasSuffix(metric, "-B") {
		show = func(n float64) string { return fmt.Sprintf("%.1f MB", n/(1<<20)) }
	}
	series := map[string][]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		i := slices.Index(fields, metric)
		if i < 1 || !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		n, err := strconv.ParseFloat(fields[i-1], 64)
		if err != nil {
			return "", fmt.Errorf("line %q: %w", line, err)
		}
		name := fields[0][strings.LastIndex(fields[0], "/")+1:]
		if cut := strings.LastIndex(name, "-"); cut > 0 { // the number of cores
			name = name[:cut]
		}
		series[name] = append(series[name], n)
	}
	type result struct {
		name   string
		median float64
	}
	var all []result
	for name, list := range series {
		slices.Sort(list)
		all = append(all, result{name, list[len(list)/2]})
	}
	if len(all) == 0 {
		return "", fmt.Errorf("no %s in\n%s", metric, out)
	}
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.median, b.median) })
	n := len(series[all[0].name])
	if len(all) == 1 {
		return fmt.Sprintf("median %s (n=%d)", show(all[0].median), n), nil
	}
	low, mid, high := all[0], all[len(all)/2], all[len(all)-1]
	return fmt.Sprintf("%s (%s) to %s (%s), in the middle %s (n=%d each)", show(low.median), low.name, show(high.median), high.name, show(mid.median), n), nil
}

// figures shows three of a duration.
func figures(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
