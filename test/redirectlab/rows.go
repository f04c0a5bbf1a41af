//go:build linux

package redirectlab

import (
	"net/netip"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Row is a probe: what answers when nothing is redirected, and what with DNS of resolv.conf, and of all servers, redirected.
// Without DNS, queries are connections like others, or none.
type Row struct {
	Name      string
	remote    bool // from the remote host
	uid       int
	proto, to string
	from      string
	direct    string
	servers   string
	alls      string // empty: as servers
}

// Rows is the table of contract transparentproxy.md §3.
func Rows(mesh, remote *netlab.Host) []Row {
	at := func(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
	m4, m6, r4, r6 := mesh.Addr, mesh.Addr6, remote.Addr, remote.Addr6
	return []Row{
		{Name: "app to remote", uid: AppUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "OUT " + at(r4, 9000)},
		{Name: "app to remote v6", uid: AppUID, proto: "tcp", to: at(r6, 9000), direct: "remote", servers: "OUT " + at(r6, 9000)},
		{Name: "dp to remote", uid: DPUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "remote"},
		{Name: "dp to remote v6", uid: DPUID, proto: "tcp", to: at(r6, 9000), direct: "remote", servers: "remote"},
		{Name: "remote to app", remote: true, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "IN " + at(m4, 8080)},
		{Name: "remote to app v6", remote: true, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "IN " + at(m6, 8080)},
		{Name: "remote to excluded port", remote: true, proto: "tcp", to: at(m4, 22), direct: "app", servers: "app"},
		{Name: "app to localhost", uid: AppUID, proto: "tcp", to: "127.0.0.1:8080", direct: "app", servers: "app"},
		{Name: "app to own address", uid: AppUID, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "app"},
		{Name: "app to own address v6", uid: AppUID, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "app"},
		{Name: "dp to own address", uid: DPUID, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "IN " + at(m4, 8080)},
		{Name: "dp to own address v6", uid: DPUID, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "IN " + at(m6, 8080)},
		{Name: "dp passthrough", uid: DPUID, proto: "tcp", from: "127.0.0.6:0", to: at(m4, 8080), direct: "app", servers: "app"},
		{Name: "dp to localhost", uid: DPUID, proto: "tcp", to: "127.0.0.1:8080", direct: "app", servers: "app"},
		{Name: "excluded outbound port", uid: AppUID, proto: "tcp", to: at(r4, 443), direct: "remote", servers: "remote"},
		{Name: "excluded uid", uid: FreeUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "remote"},
		{Name: "app query", uid: AppUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "mesh dns"},
		{Name: "app query v6", uid: AppUID, proto: "udp", to: "[fd00:53::53]:53", direct: "real dns", servers: "mesh dns"},
		{Name: "app tcp query", uid: AppUID, proto: "tcp", to: "10.255.0.53:53", direct: "real dns", servers: "mesh dns"},
		{Name: "app tcp query v6", uid: AppUID, proto: "tcp", to: "[fd00:53::53]:53", direct: "real dns", servers: "mesh dns"},
		{Name: "app query to local server", uid: AppUID, proto: "udp", to: "127.0.0.11:53", direct: "real dns", servers: "mesh dns"},
		{Name: "app query to another server", uid: AppUID, proto: "udp", to: "10.255.0.54:53", direct: "real dns", servers: "real dns", alls: "mesh dns"},
		{Name: "app tcp query to another server", uid: AppUID, proto: "tcp", to: "10.255.0.54:53", direct: "real dns", servers: "OUT 10.255.0.54:53", alls: "mesh dns"},
		{Name: "dp query", uid: DPUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{Name: "dp query v6", uid: DPUID, proto: "udp", to: "[fd00:53::53]:53", direct: "real dns", servers: "real dns"},
		{Name: "dp query to local server", uid: DPUID, proto: "udp", to: "127.0.0.11:53", direct: "real dns", servers: "real dns"},
		{Name: "dp tcp query", uid: DPUID, proto: "tcp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{Name: "app udp to another port", uid: AppUID, proto: "udp", to: "10.255.0.53:54", direct: "real other", servers: "real other"},
		{Name: "excluded uid query", uid: FreeUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{Name: "excluded address query", uid: AppUID, proto: "udp", to: "10.255.1.53:53", direct: "real dns", servers: "real dns"},
	}
}

// Direct is what answers a row when nothing is redirected.
func Direct(r Row) string { return r.direct }

// Redirected is what answers a row on a host where c is installed.
func Redirected(c tp.Config) func(Row) string {
	return func(r Row) string {
		to := netip.MustParseAddrPort(r.to)
		switch {
		case to.Addr().Is6() && c.IPFamilyMode == tp.IPv4Only:
			return r.direct
		case c.DNS.CaptureAll && r.alls != "":
			return r.alls
		case c.DNS.On() || to.Port() != 53 || r.uid != AppUID:
			return r.servers
		case r.proto == "tcp":
			return "OUT " + r.to
		default:
			return r.direct
		}
	}
}

// TryRows makes every probe.
func TryRows(t testing.TB, mesh, remote *netlab.Host, want func(Row) string) {
	t.Helper()
	for _, r := range Rows(mesh, remote) {
		h := mesh
		if r.remote {
			h = remote
		}
		if got := Probe(t.Context(), h, r.uid, r.proto, r.to, r.from); got != want(r) {
			t.Errorf("%s: got %q, want %q", r.Name, got, want(r))
		}
	}
}

// StartServers starts everything that a row can reach.
func StartServers(t *testing.T, mesh, remote *netlab.Host) {
	t.Helper()
	s := NewServers(t)
	for _, a := range []string{"0.0.0.0", "[::]"} {
		s.TCP(mesh, DPUID, a+":15001", "OUT", true)
		s.TCP(mesh, DPUID, a+":15006", "IN", true)
		s.TCP(mesh, AppUID, a+":8080", "app", false)
		s.TCP(mesh, 0, a+":22", "app", false)
		s.TCP(remote, 0, a+":9000", "remote", false)
		s.TCP(remote, 0, a+":443", "remote", false)
	}
	for _, a := range []string{"127.0.0.1", "[::1]"} {
		s.UDP(mesh, DPUID, a+":15053", "mesh dns")
		s.TCP(mesh, DPUID, a+":15053", "mesh dns", false)
	}
	s.UDP(mesh, 0, "127.0.0.11:53", "real dns")
	for _, a := range []string{"10.255.0.53", "10.255.0.54", "10.255.1.53", "fd00:53::53"} {
		addr := netip.MustParseAddr(a)
		if err := remote.AddAddress(addr); err != nil {
			t.Fatal(err)
		}
		s.UDP(remote, 0, netip.AddrPortFrom(addr, 53).String(), "real dns")
		s.TCP(remote, 0, netip.AddrPortFrom(addr, 53).String(), "real dns", false)
	}
	s.UDP(remote, 0, "10.255.0.53:54", "real other")
}
