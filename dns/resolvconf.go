package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How much of a resolv.conf is used. The C library takes three servers and, before glibc 2.26, six domains; more than these
// are a mistake, and each one costs queries time.
const (
	maxServers = 16
	maxSearch  = 16
)

// resolvConf is what a resolv.conf says that concerns a forwarder.
type resolvConf struct {
	path     string           // where it was read; empty: nowhere
	servers  []netip.AddrPort // in order, each once
	search   []string         // folded, in wire form
	timeout  time.Duration    // 0: not given
	attempts int              // 0: not given
	rotate   bool
	useTCP   bool
}

// Addresses of the stub of systemd-resolved.
var stubsResolved = []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("127.0.0.54")}

// parseResolvConf reads the format of resolv.conf(5). What it cannot read it leaves out, as the C library does: a host with
// one bad line must keep resolving.
func parseResolvConf(content []byte) resolvConf {
	var c resolvConf
	seen := map[netip.AddrPort]bool{}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		line, _, _ = strings.Cut(line, ";")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if ap := netip.AddrPortFrom(addr, portDNS); err == nil && !seen[ap] && len(c.servers) < maxServers {
				seen[ap] = true
				c.servers = append(c.servers, ap)
			}
		case "search", "domain": // the last one counts
			c.search = nil
			for _, domain := range fields[1:min(len(fields), maxSearch+1)] {
				if name, err := packName(domain); err == nil {
					c.search = append(c.search, string(fold([]byte(name))))
				}
			}
		case "options":
			for _, o := range fields[1:] {
				c.option(o)
			}
		}
	}
	return c
}

// option applies one word after "options". The bounds are those of the C library. The other options are for the stub resolver
// of the application, which applied them before the query came here: ndots and no-aaaa chose the question, edns0 and trust-ad
// are bits of the query that pass as they are, and single-request is about its socket, while we use one for each question.
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
	return len(c.servers) > 0 && !slices.ContainsFunc(c.servers, func(s netip.AddrPort) bool { return !slices.Contains(stubsResolved, s.Addr()) })
}

func (c resolvConf) equal(o resolvConf) bool {
	return c.path == o.path && slices.Equal(c.servers, o.servers) && slices.Equal(c.search, o.search) && c.timeout == o.timeout &&
		c.attempts == o.attempts && c.rotate == o.rotate && c.useTCP == o.useTCP
}
