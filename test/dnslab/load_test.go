//go:build linux

package dnslab

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/kuma-dp/kuma-dp/dns"
)

// load is a dnsperf that asks until it is stopped.
type load struct {
	t   testing.TB
	cmd *exec.Cmd
	out bytes.Buffer
}

// loadWith starts dnsperf with questions, each a line "name type", again and again.
func (l lab) loadWith(t testing.TB, questions string, args ...string) *load {
	t.Helper()
	file := filepath.Join(t.TempDir(), "questions")
	writeFile(t, file, questions)
	d := &load{t: t, cmd: l.app.Command(context.WithoutCancel(t.Context()), 0, "dnsperf", append([]string{"-s", "127.0.0.1", "-d", file, "-W", "-l", "600"}, args...)...)}
	d.cmd.Stdout = &d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

var statistic = regexp.MustCompile(`(?m)^  (Queries sent|Queries completed|Queries lost|Response codes):\s+(.*)$`)

// stop ends the load. What was lost, or answered otherwise than with code, fails the test. It returns how many were answered.
func (d *load) stop(code string) int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Fatalf("dnsperf: %v\n%s", err, d.out.String())
	}
	found := map[string]string{}
	for _, m := range statistic.FindAllStringSubmatch(d.out.String(), -1) {
		found[m[1]] = m[2]
	}
	number := func(what string) int {
		n, err := strconv.Atoi(strings.Fields(found[what] + " x")[0])
		if err != nil {
			d.t.Fatalf("dnsperf does not tell of %q:\n%s", what, d.out.String())
		}
		return n
	}
	codes := strings.Fields(found["Response codes"])
	if lost := number("Queries lost"); lost != 0 || len(codes) != 3 || codes[0] != code {
		d.t.Errorf("%d queries lost, response codes %v, want %s alone\n%s", lost, codes, code, d.out.String())
	}
	return number("Queries completed")
}

// generation is a table in which every address has the same first bytes.
func generation(g byte) []dns.Record {
	var out []dns.Record
	for _, r := range records() {
		var list []netip.Addr
		for i := range r.Addrs {
			list = append(list, netip.AddrFrom4([4]byte{241, g, 0, byte(i)}))
		}
		out = append(out, dns.Record{Name: r.Name, Addrs: list})
	}
	return out
}

// TestTables exchanges the table ten thousand times while dnsperf asks (contract dns.md §5.4 item 8). Beside it a client looks
// at every answer: all addresses of one are of the same table.
func TestTables(t *testing.T) {
	const swaps = 10_000
	l := newLab(t)
	r := l.startProgram(t, "plain", nil)
	tables := [][]dns.Record{generation(1), generation(2)}
	r.use(tables[0])
	var questions strings.Builder
	for _, rec := range records() {
		questions.WriteString(rec.Name + " A\n")
	}
	d := l.loadWith(t, questions.String(), "-e")
	stop := make(chan struct{})
	var seen [3]int
	var wg sync.WaitGroup
	wg.Go(func() {
		c := &mdns.Conn{Conn: l.dial(t, "tcp", "127.0.0.1:53")}
		for {
			select {
			case <-stop:
				return
			default:
			}
			m := exchange(t, c, new(mdns.Msg).SetQuestion("many.svc.mesh.local.", mdns.TypeA))
			counts := map[byte]int{}
			for _, rr := range m.Answer {
				counts[rr.(*mdns.A).A.To4()[1]]++
			}
			if len(counts) != 1 || counts[1]+counts[2] != 60 {
				t.Errorf("an answer is of tables %v", counts)
				return
			}
			for g := range counts {
				seen[g]++
			}
		}
	})
	for i := range swaps {
		r.use(tables[(i+1)%2])
	}
	close(stop)
	wg.Wait()
	if n := d.stop("NOERROR"); n < swaps {
		t.Errorf("only %d queries beside %d tables", n, swaps)
	} else {
		t.Logf("%d queries beside %d tables, answers of both seen %v", n, swaps, seen[1:])
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("answers of each table: %v", seen[1:])
	}
}

// TestRenameUnderLoad replaces resolv.conf again and again while dnsperf asks for names of both kinds (§5.4 item 7).
func TestRenameUnderLoad(t *testing.T) {
	l := newLab(t)
	var ups []*upstream
	for i, ip := range []string{trueAddr, otherAddr} {
		ups = append(ups, serve(t, l.up, l.address(t, byte(1+i)), false, says(ip)))
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, conf, nameservers(ups[0].addr))
	l.start(t, config{"ResolvConf": conf})
	d := l.loadWith(t, "one.svc.mesh.local A\nup.example.com A\n", "-q", "20")
	names := &unique{}
	for i := range 20 {
		writeFile(t, conf, nameservers(ups[i%2].addr))
		l.until(t, names, []string{trueAddr, otherAddr}[i%2])
	}
	if n := d.stop("NOERROR"); n < 20 {
		t.Errorf("only %d queries", n)
	}
	for _, u := range ups {
		if u.queries.Load() < 10 {
			t.Errorf("%s was asked %d times", u.addr, u.queries.Load())
		}
	}
	// In place, as editors and containers' mounts do.
	if err := os.WriteFile(conf, []byte(nameservers(ups[0].addr)), 0o644); err != nil {
		t.Fatal(err)
	}
	l.until(t, names, trueAddr)
}
