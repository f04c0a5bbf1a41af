//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// times is how often a process of redirection is run: they are short, and other work on the machine shows in few of them.
const times = 21

// install is what is measured: both families with DNS.
var install = []string{"install", "transparent-proxy", "--kuma-dp-user", "65534", "--redirect-dns", "--keep-ssh=false"}

// redirection measures whole processes on a host of their own, and what it takes to start one that does nothing.
func (b *bench) redirection(ctx context.Context) (rows []row, err error) {
	plan, err := planTime()
	if err != nil {
		return nil, err
	}
	lab, err := netlab.New("kuma-bench-tp")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	h, err := lab.AddHost("host", netlab.IPv6())
	if err != nil {
		return nil, err
	}
	p, done, err := newProcesses(h, b.bin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	initStart, err := p.series(ctx, nil, "kuma-init", "version")
	if err != nil {
		return nil, err
	}
	ctlStart, err := p.series(ctx, nil, "kumactl", "transparent-proxy", "--help")
	if err != nil {
		return nil, err
	}
	fresh, status := map[string][]time.Duration{}, map[string][]time.Duration{}
	for _, backend := range []string{"nftables", "iptables"} {
		if fresh[backend], err = p.series(ctx, p.remove, "kuma-init", append(slices.Clone(install), "--backend", backend)...); err != nil {
			return nil, err
		}
		if status[backend], err = p.series(ctx, nil, "kumactl", "transparent-proxy", "status"); err != nil {
			return nil, err
		}
	}
	programs, err := p.programs(ctx)
	if err != nil {
		return nil, err
	}
	return []row{
		{"redirection: plan, both families, DNS", "", "1 ms", plan},
		{"redirection: start of kuma-init", "", "10 ms", spread(initStart)},
		{"redirection: fresh install with nftables, whole process less its start", "324 ms, 49 processes", "15 ms", less(fresh["nftables"], initStart)},
		{"redirection: status with nftables, whole process less its start", "", "10 ms", less(status["nftables"], ctlStart)},
		{
			"redirection: fresh install with iptables, whole process less its start", "324 ms, 49 processes", "60 ms, 4 processes",
			less(fresh["iptables"], initStart) + fmt.Sprintf("; %d processes", programs),
		},
		{"redirection: status with iptables, whole process less its start", "", "", less(status["iptables"], ctlStart)},
	}, nil
}

// planTime is what a plan takes in this process, on average.
func planTime() (string, error) {
	cfg := tp.DefaultConfig()
	cfg.DNS.Enabled = true
	facts := tp.Host{UID: tp.DefaultUID, IPv6: true, ConntrackZones: true, Nameservers: []netip.Addr{netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("fd00:53::53")}}
	const n = 1000
	since := time.Now()
	for range n {
		if _, err := tp.NewPlan(cfg, facts); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%v on average (n=%d)", (time.Since(since) / n).Round(time.Microsecond), n), nil
}

// less is the median of a series without that of what it contains.
func less(series, start []time.Duration) string {
	slices.Sort(series)
	slices.Sort(start)
	from := start[len(start)/2]
	at := func(d time.Duration) time.Duration { return max(0, d-from).Round(100 * time.Microsecond) }
	return fmt.Sprintf("median %v, best %v (n=%d; start %v)", at(series[len(series)/2]), at(series[0]), len(series), from.Round(100*time.Microsecond))
}

// processes runs programs of redirection on a host.
type processes struct {
	host     *netlab.Host
	bin, dir string
}

// newProcesses takes programs from a folder. done takes away what they left.
func newProcesses(h *netlab.Host, bin string) (p processes, done func(context.Context) error, err error) {
	dir, err := os.MkdirTemp("", "kuma-bench-tp-")
	if err != nil {
		return p, nil, err
	}
	p = processes{h, bin, dir}
	done = func(ctx context.Context) error { return errors.Join(p.remove(ctx), os.RemoveAll(dir)) }
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 10.255.0.53\nnameserver fd00:53::53\n"), 0o600); err != nil {
		return p, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, done, nil
}

// remove redirects nothing any more; what is remembered would outlive the host.
func (p processes) remove(ctx context.Context) error {
	_, err := p.run(ctx, os.Getenv("PATH"), "kuma-init", "uninstall", "transparent-proxy")
	return err
}

// run takes the time from the start of a program to its end.
func (p processes) run(ctx context.Context, path, program string, args ...string) (took time.Duration, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...)
	cmd.Env = append(os.Environ(), "PATH="+path, "KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_RESOLV_CONFIG_PATH="+filepath.Join(p.dir, "resolv.conf"))
	var out []byte
	err = p.host.Do(func() (err error) { // its threads inherit the namespace
		since := time.Now()
		out, err = cmd.CombinedOutput()
		took = time.Since(since)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return took, nil
}

// series runs a program again and again, each time after before.
func (p processes) series(ctx context.Context, before func(context.Context) error, program string, args ...string) (out []time.Duration, err error) {
	for range times {
		if before != nil {
			if err := before(ctx); err != nil {
				return nil, err
			}
		}
		took, err := p.run(ctx, os.Getenv("PATH"), program, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, took)
	}
	return out, nil
}

// programs counts the processes that a fresh installation with iptables starts.
func (p processes) programs(ctx context.Context) (int, error) {
	if err := p.remove(ctx); err != nil {
		return 0, err
	}
	list := filepath.Join(p.dir, "started")
	for _, name := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"} {
		for _, tool := range []string{name + "-save", name + "-restore"} {
			real, err := exec.LookPath(tool)
			if err != nil {
				continue // a host has them or not
			}
			script := fmt.Sprintf("#!/bin/sh\necho $0 >> %s\nexec %s \"$@\"\n", list, real)
			if err := os.WriteFile(filepath.Join(p.dir, tool), []byte(script), 0o700); err != nil {
				return 0, err
			}
		}
	}
	if _, err := p.run(ctx, p.dir+":"+os.Getenv("PATH"), "kuma-init", append(slices.Clone(install), "--backend", "iptables")...); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(list)
	return strings.Count(string(text), "\n"), err
}
