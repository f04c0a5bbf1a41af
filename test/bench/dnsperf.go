//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serverCore is where servers run; what asks them has the other one, where there is one.
const serverCore = 0

func loadCore() int { return runtime.NumCPU() - 1 }

// ticks per second of /proc/PID/stat, which is the same on all of Linux.
const ticks = 100

// dnsResult is what one server did.
type dnsResult struct {
	rate       float64       // answers per second, as many as it can
	cpu        time.Duration // of the server, for one of them
	at         int           // questions per second, of which the rest tells
	mean, p99  time.Duration
	unanswered int
}

func (r dnsResult) String() string {
	s := fmt.Sprintf("%.1f k/s, %.1f µs CPU each; at %d k/s mean %v, p99 %v", r.rate/1000, float64(r.cpu)/1000, r.at/1000,
		r.mean.Round(time.Microsecond), r.p99.Round(time.Microsecond))
	if r.unanswered > 0 {
		s += fmt.Sprintf("; %d unanswered", r.unanswered)
	}
	return s
}

// compare measures two servers in turn and returns the median of each.
func (l *dnsLab) compare(ctx context.Context, a *exec.Cmd, portA int, b *exec.Cmd, portB int, format string, rate int) (out [2]dnsResult, err error) {
	file, err := l.names(format)
	if err != nil {
		return out, err
	}
	var all [2][]dnsResult
	for range dnsRounds {
		for i, s := range []struct {
			cmd  *exec.Cmd
			port int
		}{{a, portA}, {b, portB}} {
			r, err := l.measure(ctx, s.cmd.Process.Pid, s.port, file, rate)
			if err != nil {
				return out, err
			}
			all[i] = append(all[i], r)
		}
	}
	for i := range out {
		out[i] = median(all[i])
	}
	return out, nil
}

// median takes that of each figure.
func median(list []dnsResult) (out dnsResult) {
	rates, times := []float64{}, [3][]time.Duration{}
	for _, r := range list {
		rates = append(rates, r.rate)
		for i, d := range []time.Duration{r.cpu, r.mean, r.p99} {
			times[i] = append(times[i], d)
		}
		out.unanswered += r.unanswered
	}
	slices.Sort(rates)
	for _, t := range times {
		slices.Sort(t)
	}
	m := len(list) / 2
	out.at = list[m].at
	out.rate, out.cpu, out.mean, out.p99 = rates[m], times[0][m], times[1][m], times[2][m]
	return out
}

// measure asks as fast as a server answers, and then at a rate that leaves it time.
func (l *dnsLab) measure(ctx context.Context, pid, port int, file string, rate int) (r dnsResult, err error) {
	before, err := cpuTime(pid)
	if err != nil {
		return r, err
	}
	out, err := l.dnsperf(ctx, port, file, "-c", "8", "-q", "100")
	if err != nil {
		return r, err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return r, err
	}
	completed, err := statistic(out, "Queries completed")
	if err == nil {
		r.rate, err = statistic(out, "Queries per second")
	}
	if err != nil {
		return r, err
	}
	r.at = rate
	r.cpu = time.Duration(float64(after-before) / completed)
	if out, err = l.dnsperf(ctx, port, file, "-c", "8", "-q", "1000", "-Q", strconv.Itoa(rate), "-v"); err != nil {
		return r, err
	}
	lost, err := statistic(out, "Queries lost")
	if err != nil {
		return r, err
	}
	r.unanswered = int(lost)
	r.mean, r.p99, err = latencies(out)
	return r, err
}

func (l *dnsLab) dnsperf(ctx context.Context, port int, file string, args ...string) (string, error) {
	args = append([]string{
		"-c", strconv.Itoa(loadCore()), "dnsperf", "-s", "127.0.0.1", "-p", strconv.Itoa(port), "-d", file,
		"-l", strconv.Itoa(dnsSeconds), "-W",
	}, args...)
	out, err := l.host.Command(ctx, 0, "taskset", args...).Output()
	if err != nil {
		return "", fmt.Errorf("dnsperf: %w\n%s", err, out)
	}
	return string(out), nil
}

// statistic reads a figure of dnsperf's summary.
func statistic(out, what string) (float64, error) {
	m := regexp.MustCompile(`(?m)^  ` + what + `:\s+([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("dnsperf does not tell of %q:\n%.2000s", what, out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// answered is a line of dnsperf about one answer: code, name, type and seconds.
var answered = regexp.MustCompile(`(?m)^> NOERROR \S+ A ([0-9.]+)$`)

func latencies(out string) (mean, p99 time.Duration, err error) {
	var all []time.Duration
	var sum time.Duration
	for _, m := range answered.FindAllStringSubmatch(out, -1) {
		s, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, 0, err
		}
		d := time.Duration(s * float64(time.Second))
		all = append(all, d)
		sum += d
	}
	if len(all) < 100 {
		return 0, 0, fmt.Errorf("only %d answers:\n%.2000s", len(all), out)
	}
	slices.Sort(all)
	return sum / time.Duration(len(all)), all[len(all)*99/100], nil
}

// cpuTime is what a process has used.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program may hold spaces; it ends with the last parenthesis.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	var sum int
	for _, f := range fields[11:13] { // user and system
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks, nil
}

// run starts a server on a core.
func (l *dnsLab) run(ctx context.Context, core int, prepare func(*exec.Cmd) error, name string, args ...string) (*exec.Cmd, error) {
	cmd := l.host.Command(ctx, 0, "taskset", append([]string{"-c", strconv.Itoa(core), name}, args...)...)
	if prepare != nil {
		if err := prepare(cmd); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.started = append(l.started, cmd)
	return cmd, nil
}

// ready asks until a server answers.
func (l *dnsLab) ready(ctx context.Context, port int, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return l.host.DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
	}}
	for {
		if _, err := r.LookupNetIP(ctx, "ip4", name+"."); err == nil {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("port %d does not answer: %w", port, err)
		}
	}
}

// addrOf is the address of the name with a number.
func addrOf(i int) []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{241, 0, byte(i >> 8), byte(i)})}
}
