//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kuma-dp/kuma-dp/dns"
	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

const (
	dnsNames  = 10_000
	dnsRounds = 3
	// dnsSeconds is how long one round of one server takes.
	dnsSeconds = 4
	// The rates of the questions whose latency counts: such as each server can follow.
	dnsRate, forwardRate = 20_000, 5_000
)

// Where the servers listen. unbound knows the names that are forwarded: those of zeroTTL may not be cached.
const (
	ourPort, ourCachingPort                 = 5301, 5302
	hostsPort, forwardPort, coreCachingPort = 5303, 5304, 5305
	unboundPort                             = 5306
	zeroTTL, longTTL                        = "zero.example", "long.example"
)

// resolvers measures the agent's resolver and a CoreDNS in turn, on one core each and the same, with the load on the other.
func (b *bench) resolvers(ctx context.Context) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "kuma-bench-dns-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab, err := netlab.New("kuma-bench-dns")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	h, err := lab.AddHost("host")
	if err != nil {
		return nil, err
	}
	l := dnsLab{host: h, dir: dir}
	defer func() { l.end() }()
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	mesh, err := l.compare(ctx, l.ours, ourPort, l.coreDNS, hostsPort, "service-%d.demo.svc.mesh.local", dnsRate)
	if err != nil {
		return nil, err
	}
	forwarded, err := l.compare(ctx, l.ours, ourPort, l.coreDNS, forwardPort, "n%d."+zeroTTL, forwardRate)
	if err != nil {
		return nil, err
	}
	cached, err := l.compare(ctx, l.caching, ourCachingPort, l.coreDNS, coreCachingPort, "n%d."+longTTL, dnsRate)
	if err != nil {
		return nil, err
	}
	rows = []row{
		{fmt.Sprintf("resolver: A of a mesh name over UDP, %d names, one core", dnsNames), "CoreDNS `hosts`: " + mesh[1].String(), "8 µs, 100 k/s, p99 1 ms at 20 k/s", mesh[0].String()},
		{"resolver: forwarded, not to be cached", "CoreDNS `forward`: " + forwarded[1].String(), "", forwarded[0].String()},
		{"resolver: forwarded, from the cache", "CoreDNS `cache`: " + cached[1].String(), "12 µs", cached[0].String()},
	}
	used := [2]string{}
	for i, cmd := range []*exec.Cmd{l.ours, l.coreDNS} {
		if used[i], err = rss(cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	return append(rows, row{fmt.Sprintf("resolver: RSS of a process of its own after that, %d names", dnsNames), "CoreDNS: " + used[1], "", used[0]}), nil
}

// dnsLab is a host with the servers.
type dnsLab struct {
	host                   *netlab.Host
	dir                    string
	started                []*exec.Cmd
	ours, caching, coreDNS *exec.Cmd
}

// end kills what was started.
func (l *dnsLab) end() {
	for _, cmd := range l.started {
		_ = cmd.Process.Kill() // it may be gone
		_ = cmd.Wait()
	}
}

func (l *dnsLab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *dnsLab) start(ctx context.Context) error {
	for _, args := range [][]string{
		{"build", "-trimpath", "-o", l.path("resolver"), "./test/dnslab/resolver"},
		{"-C", "test/bench/coredns", "build", "-trimpath", "-o", l.path("coredns"), "."},
	} {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	var records []dns.Record
	var hosts strings.Builder
	for i := range dnsNames {
		r := dns.Record{Name: fmt.Sprintf("service-%d.demo.svc.mesh.local", i), Addrs: addrOf(i)}
		records = append(records, r)
		fmt.Fprintln(&hosts, r.Addrs[0], r.Name)
	}
	err := errors.Join(
		l.write("hosts", hosts.String()),
		l.write("unbound.conf", fmt.Sprintf(unboundConf, unboundPort, zeroTTL, zeroTTL, longTTL, longTTL)),
		l.write("Corefile", fmt.Sprintf(corefile, hostsPort, l.path("hosts"), forwardPort, unboundPort, coreCachingPort, unboundPort)),
		l.write("table", asJSON(records)),
	)
	if err != nil {
		return err
	}
	if err := l.startUnbound(ctx); err != nil {
		return err
	}
	if l.coreDNS, err = l.run(ctx, serverCore, nil, l.path("coredns"), "-conf", l.path("Corefile")); err != nil {
		return err
	}
	if l.ours, err = l.startOurs(ctx, ourPort, nil); err != nil {
		return err
	}
	if l.caching, err = l.startOurs(ctx, ourCachingPort, map[string]any{"CacheBytes": 8 << 20}); err != nil {
		return err
	}
	for _, port := range []int{unboundPort, forwardPort, coreCachingPort} {
		if err := l.ready(ctx, port, "n1."+longTTL); err != nil {
			return err
		}
	}
	return l.ready(ctx, hostsPort, records[1].Name)
}

// startOurs runs the resolver with the table and waits until it is in use.
func (l *dnsLab) startOurs(ctx context.Context, port int, cfg map[string]any) (*exec.Cmd, error) {
	all := map[string]any{
		"Listen":    []string{fmt.Sprintf("127.0.0.1:%d", port)},
		"Upstreams": []string{fmt.Sprintf("127.0.0.1:%d", unboundPort)},
	}
	for k, v := range cfg {
		all[k] = v
	}
	table, err := os.ReadFile(l.path("table"))
	if err != nil {
		return nil, err
	}
	said := make(chan error, 1)
	cmd, err := l.run(ctx, serverCore, func(cmd *exec.Cmd) error {
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		go func() { // the input stays open: its end is that of the resolver
			if _, err := fmt.Fprintf(in, "%s\n%s\n", asJSON(all), table); err != nil {
				said <- err
				return
			}
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if lines.Text() == "table" {
					said <- nil
					return
				}
			}
			said <- errors.New("the resolver ended")
		}()
		return nil
	}, l.path("resolver"))
	if err != nil {
		return nil, err
	}
	select {
	case err := <-said:
		return cmd, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startUnbound runs a copy, since where AppArmor is on the installed one may read only files of the service.
func (l *dnsLab) startUnbound(ctx context.Context) error {
	path, err := exec.LookPath("unbound")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path("unbound"), text, 0o700); err != nil {
		return err
	}
	_, err = l.run(ctx, loadCore(), nil, l.path("unbound"), "-d", "-c", l.path("unbound.conf"))
	return err
}

func (l *dnsLab) write(name, text string) error {
	return os.WriteFile(l.path(name), []byte(text), 0o600)
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // ours can be
	}
	return string(text)
}

// names are questions for dnsperf, in an order that no cache of the processor likes.
func (l *dnsLab) names(format string) (string, error) {
	var b strings.Builder
	for _, i := range rand.Perm(dnsNames) {
		fmt.Fprintf(&b, format+" A\n", i)
	}
	return l.path("questions"), l.write("questions", b.String())
}

const unboundConf = `server:
  directory: ""
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  num-threads: 1
  interface: 127.0.0.1
  port: %d
  so-rcvbuf: 0
  local-zone: %q redirect
  local-data: "%s. 0 A 192.0.2.1"
  local-zone: %q redirect
  local-data: "%s. 3600 A 192.0.2.1"
`

const corefile = `.:%d {
  hosts %s
  errors
}
.:%d {
  forward . 127.0.0.1:%d
  errors
}
.:%d {
  cache 3600
  forward . 127.0.0.1:%d
  errors
}
`
