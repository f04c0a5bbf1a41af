//go:build linux

package dnslab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/dns"
	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// config is what of a dns.Config is not as by default.
type config map[string]any

// resolver is a running one.
type resolver struct {
	t     testing.TB
	cmd   *exec.Cmd
	input io.WriteCloser
	said  chan string
	log   *journal
}

// journal keeps what a process says on its standard error.
type journal struct {
	mu    sync.Mutex
	text  bytes.Buffer
	added chan struct{} // replaced by each write
}

func newJournal() *journal { return &journal{added: make(chan struct{})} }

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.added)
	j.added = make(chan struct{})
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// until waits until the text is there.
func (j *journal) until(t testing.TB, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		j.mu.Lock()
		found, added := strings.Contains(j.text.String(), text), j.added
		j.mu.Unlock()
		if found {
			return
		}
		select {
		case <-added:
		case <-late:
			t.Fatalf("nothing says %q:\n%s", text, j)
		}
	}
}

// start runs the resolver of the lab, with the names of records, until the test ends. It serves port 53 of loopback and has
// no upstreams where cfg does not say otherwise.
func (l lab) start(t testing.TB, cfg config) *resolver {
	t.Helper()
	return l.startProgram(t, "resolver", cfg)
}

func (l lab) startProgram(t testing.TB, name string, cfg config) *resolver {
	t.Helper()
	dir := t.TempDir()
	all := config{
		"Listen": []string{"127.0.0.1:53", "[::1]:53"}, "ResolvConf": filepath.Join(dir, "resolv.conf"), "SystemdConf": filepath.Join(dir, "systemd.conf"),
	}
	for k, v := range cfg {
		all[k] = v
	}
	r := startResolver(t, l.app, program(name), all)
	r.use(records())
	return r
}

func startResolver(t testing.TB, h *netlab.Host, program string, cfg config) *resolver {
	t.Helper()
	r := &resolver{t: t, cmd: h.Command(context.WithoutCancel(t.Context()), 0, program), said: make(chan string), log: newJournal()}
	r.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.input, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(r.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.said <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = r.input.Close() // it may have ended by itself; Wait tells
		for range r.said {
		}
		<-read
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("resolver: %v", err)
		}
		if t.Failed() || strings.Contains(r.log.String(), "DATA RACE") {
			t.Errorf("the resolver said:\n%s", r.log)
		}
	})
	r.send(cfg)
	r.expect("ready")
	return r
}

func (r *resolver) send(v any) {
	r.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.input.Write(append(text, '\n')); err != nil {
		r.t.Fatal(err)
	}
}

func (r *resolver) expect(word string) {
	r.t.Helper()
	select {
	case got := <-r.said:
		if got != word {
			r.t.Fatalf("the resolver said %q, want %q", got, word)
		}
	case <-time.After(patience):
		r.t.Fatalf("the resolver does not say %q", word)
	}
}

// use makes records the table; when it returns they are.
func (r *resolver) use(records []dns.Record) {
	r.t.Helper()
	r.send(records)
	r.expect("table")
}

// records is a table with every kind of name.
func records() []dns.Record {
	many := dns.Record{Name: "many.svc.mesh.local"}
	for i := range 60 {
		many.Addrs = append(many.Addrs, netip.AddrFrom4([4]byte{241, 1, 0, byte(i)}))
	}
	return []dns.Record{
		{Name: "backend.svc.mesh.local", Addrs: addrs("241.0.0.1", "::ffff:241.0.0.1")},
		{Name: "one.svc.mesh.local", Addrs: addrs("241.0.0.2")},
		{Name: "six.svc.mesh.local", Addrs: addrs("fd00:241::3")},
		{Name: "both.svc.mesh.local", Addrs: addrs("241.0.0.4", "fd00:241::4")},
		{Name: "backend_demo_svc_80.mesh", Addrs: addrs("240.0.0.5", "::ffff:240.0.0.5")},
		{Name: "Upper.Case.Example.com", Addrs: addrs("241.0.0.6")},
		many,
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// addrsOf returns the addresses of a name of records, sorted, of one family only when v4 or v6 says so.
func addrsOf(t testing.TB, name string, v4, v6 bool) []string {
	t.Helper()
	for _, r := range records() {
		if !strings.EqualFold(r.Name, name) {
			continue
		}
		var out []string
		for _, a := range r.Addrs {
			if a.Is4() && v4 || a.Is6() && v6 {
				out = append(out, a.String())
			}
		}
		slices.Sort(out)
		return out
	}
	t.Fatalf("no record %s", name)
	return nil
}

// writeFile puts a file in place as most writers do: whole, by renaming.
func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// nameservers is a resolv.conf.
func nameservers(list ...netip.Addr) string {
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return b.String()
}
