//go:build linux

package dnslab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// unboundConf is what an unbound needs that is no service of the machine.
const unboundConf = `
server:
  directory: ""
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  log-queries: no
  verbosity: %d
  module-config: "iterator"
  num-threads: 1
  access-control: 0.0.0.0/0 allow
  rrset-roundrobin: no
  max-udp-size: 4096
  do-not-query-localhost: no
  interface: %s
  port: %d
%s
`

// unbound runs one until the test ends and returns what it says.
func unbound(t testing.TB, h *netlab.Host, verbosity int, addr string, port int, more string) *journal {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "unbound.conf")
	writeFile(t, conf, fmt.Sprintf(unboundConf, verbosity, addr, port, more))
	path, err := exec.LookPath("unbound")
	if err != nil {
		t.Fatal(err)
	}
	// A copy, since where AppArmor is on the installed one may read only files of the service.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "unbound")
	if err := os.WriteFile(binary, text, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := h.Command(ctx, 0, binary, "-d", "-c", conf)
	log := newJournal()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("unbound said:\n%.20000s", log)
		}
	})
	log.until(t, "start of service")
	return log
}

// TestMixedCaseInFront puts an unbound that mixes the letter case of its queries in front of the resolver. It falls back to
// plain queries when the answer does not repeat the case, and says so (contract dns.md §5.4 item 2).
func TestMixedCaseInFront(t *testing.T) {
	const fallback = "apsforid"
	forward := func(addr string) string {
		return "  use-caps-for-id: yes\n  qname-minimisation: no\nforward-zone:\n  name: \".\"\n  forward-addr: " + addr + "\n"
	}
	l := newLab(t)
	l.start(t, nil)
	log := unbound(t, l.app, 4, "127.0.0.1", 5353, forward("127.0.0.1@53"))
	for _, r := range records() {
		for _, typ := range []string{"A", "AAAA"} {
			got := l.digOne(t, "-p", "5353", r.Name, typ)
			if want := addrsOf(t, r.Name, typ == "A", typ == "AAAA"); got.Data.Status != "NOERROR" || len(got.addrs()) != len(want) {
				t.Errorf("%s %s: %s, %d addresses, want %d", r.Name, typ, got.Data.Status, len(got.addrs()), len(want))
			}
		}
	}
	if strings.Contains(log.String(), fallback) {
		t.Error("unbound fell back to queries in lower case")
	}
	// A server that lowers the case, to see that the log would tell.
	bad := serve(t, l.up, l.address(t, 1), false, func(w mdns.ResponseWriter, req *mdns.Msg) {
		req.Question[0].Name = strings.ToLower(req.Question[0].Name)
		_ = w.WriteMsg(answer(req, trueAddr))
	})
	log = unbound(t, l.app, 4, "127.0.0.1", 5354, forward(bad.addr.String()))
	l.digOne(t, "-p", "5354", "one.svc.mesh.local", "A")
	if !strings.Contains(log.String(), fallback) {
		t.Error("unbound says nothing of answers in lower case: the test proves nothing")
	}
}
