package transparentproxy

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// Detect reads from the host what every backend needs: the user, the addresses and the DNS servers. It changes nothing.
// The backend adds what only it can see.
func Detect(cfg Config) (Host, error) {
	uid, err := lookupUID(cfg.User, cfg.UIDOnly)
	if err != nil {
		return Host{}, fmt.Errorf("failed to initialize config: %w", err)
	}
	h := Host{UID: uid, ConntrackZones: true}
	if cfg.IPFamilyMode == DualStack {
		if h.IPv6, err = hasIPv6(); err != nil {
			return Host{}, err
		}
	}
	if cfg.DNS.Enabled && !cfg.DNS.CaptureAll {
		if h.Nameservers, err = readNameservers(cfg.DNS.ResolvConfPath); err != nil {
			return Host{}, err
		}
	}
	return h, nil
}

// lookupUID finds the user that runs the agent (contract transparentproxy.md §1.1). Uids have 32 bits; Kuma takes only 16.
func lookupUID(name string, uidOnly bool) (uint32, error) {
	if uidOnly {
		r, err := parseUIDs(cmp.Or(name, strconv.Itoa(DefaultUID)))
		if err == nil && r.First != r.Last {
			err = fmt.Errorf("invalid UID '%s': expected one number", name)
		}
		return r.First, err
	}
	if name != "" {
		u, err := findUser(name)
		if err != nil {
			return 0, fmt.Errorf("the specified UID or username ('%s') does not refer to a valid user on the host; "+
				"create it or name another with --kuma-dp-user", name)
		}
		return u, nil
	}
	for _, candidate := range []string{strconv.Itoa(DefaultUID), DefaultUser} {
		if u, err := findUser(candidate); err == nil {
			return u, nil
		}
	}
	return 0, fmt.Errorf("no UID or username provided, and user with the default UID ('%d') or username ('%s') could not be found; "+
		"create it (useradd -u %d -U %s) or name another with --kuma-dp-user", DefaultUID, DefaultUser, DefaultUID, DefaultUser)
}

// findUser takes a number for a uid first, as Kuma does.
func findUser(name string) (uint32, error) {
	u, err := user.LookupId(name)
	if err != nil {
		if u, err = user.Lookup(name); err != nil {
			return 0, err
		}
	}
	n, err := parseNumber(u.Uid, 32)
	return uint32(n), err
}

// hasIPv6 reports whether any interface but loopback has an IPv6 address; a link-local one counts.
func hasIPv6() (bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list addresses of this host: %w", err)
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Is6() && !p.Addr().Is4In6() && !p.Addr().IsLoopback() && p != passthrough6
	}), nil
}

func readNameservers(path string) (_ []netip.Addr, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("find DNS servers to redirect: %w; capture all with --redirect-all-dns-traffic", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	servers, err := parseNameservers(f)
	if err != nil {
		return nil, fmt.Errorf("find DNS servers to redirect: read %s: %w", path, err)
	}
	return servers, nil
}

// parseNameservers takes the lines `nameserver <address>` of resolv.conf(5); other lines and wrong addresses are ignored as
// the C library does.
func parseNameservers(r io.Reader) ([]netip.Addr, error) {
	var out []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(words[1])
		if err != nil {
			continue
		}
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, lines.Err()
}
