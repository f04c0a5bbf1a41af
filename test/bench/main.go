//go:build linux

// Command bench prints the budgets of the main job as a table: it measures, and fails nothing but itself.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder with the binaries")
	starts := flag.Int("starts", 10, "starts of agent and control plane to measure")
	changes := flag.Int("changes", 60, "policy changes to measure")
	only := flag.String("only", "", "sections to measure, a regular expression: go, puts, dns, redirection, identity, control-plane, agent-memory, policy-change, agent-start, identity-mesh")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *bin, *only, *starts, *changes)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one line of the table: the figures of Kuma 2.9.13 are those of the design, measured on a two-core machine.
type row struct{ what, kuma, budget, ours string }

func run(ctx context.Context, out io.Writer, bin, only string, starts, changes int) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	sections, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("flag -only: %w", err)
	}
	b := bench{bin: bin, starts: starts, changes: changes}
	defer func() {
		if b.scene != nil {
			err = errors.Join(err, b.scene.Close())
		}
	}()
	rows, err := b.measure(ctx, sections)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n\n| What | Kuma 2.9.13 | Budget | Ours |\n|---|---|---|---|\n", machine())
	for _, r := range rows {
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", r.what, r.kuma, r.budget, r.ours)
	}
	return nil
}

// machine describes where the figures were taken.
func machine() string {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for scan := bufio.NewScanner(f); scan.Scan(); {
			if name, ok := strings.CutPrefix(scan.Text(), "model name"); ok {
				model = strings.TrimLeft(name, "\t: ")
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%d × %s, Linux %s, %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version(),
		time.Now().UTC().Format(time.DateOnly))
}

// spread is what a series of durations says.
func spread(series []time.Duration) string {
	slices.Sort(series)
	at := func(q float64) time.Duration {
		return series[int(q*float64(len(series)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("median %v, p99 %v, max %v (n=%d)", at(0.5), at(0.99), at(1), len(series))
}

// rss is the resident memory of a process.
func rss(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb int
			if _, err := fmt.Sscanf(strings.TrimSpace(v), "%d kB", &kb); err != nil {
				return "", err
			}
			return fmt.Sprintf("%.1f MB", float64(kb)/1024), nil
		}
	}
	return "", fmt.Errorf("no VmRSS for process %d", pid)
}

func size(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f MB", float64(info.Size())/(1<<20)), nil
}
