package dns

import (
	"bufio"
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolvConf is what a resolv.conf says that concerns a forwarder. Search domains and the rest concern the stub resolver of
// the application, which applied them before the query came here.
type resolvConf struct {
	servers  []netip.AddrPort // in order, each once
	timeout  time.Duration    // 0: not given
	attempts int              // 0: not given
	rotate   bool
	useTCP   bool
}

// stubResolved is the address of the stub of systemd-resolved.
var stubResolved = netip.MustParseAddr("127.0.0.53")

// parseResolvConf reads the format of resolv.conf(5). What it cannot read it leaves out, as the C library does: a host with
// one bad line must keep resolving.
func parseResolvConf(content []byte) resolvConf {
	var c resolvConf
	seen := map[netip.AddrPort]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line, _, _ = strings.Cut(line, ";")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if ap := netip.AddrPortFrom(addr, 53); err == nil && !seen[ap] {
				seen[ap] = true
				c.servers = append(c.servers, ap)
			}
		case "options":
			for _, o := range fields[1:] {
				c.option(o)
			}
		}
	}
	return c
}

// option applies one word after "options". The bounds are those of the C library.
func (c *resolvConf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		c.rotate = true
	case name == "use-vc":
		c.useTCP = true
	case name == "timeout" && err == nil && n > 0:
		c.timeout = time.Duration(min(n, 30)) * time.Second
	case name == "attempts" && err == nil && n > 0:
		c.attempts = min(n, 5)
	}
}

// onlyStub says whether the stub of systemd-resolved is all there is.
func (c resolvConf) onlyStub() bool {
	return len(c.servers) == 1 && c.servers[0].Addr() == stubResolved
}

func (c resolvConf) equal(o resolvConf) bool {
	return slices.Equal(c.servers, o.servers) && c.timeout == o.timeout && c.attempts == o.attempts &&
		c.rotate == o.rotate && c.useTCP == o.useTCP
}
