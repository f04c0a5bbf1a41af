//go:build linux

package redirect

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// sshServers are the names of processes that an SSH session runs below.
var sshServers = []string{"sshd", "sshd-session", "sshd-auth", "dropbear"}

// sshVariable is set by SSH servers: client address and port, server address and port.
const sshVariable = "SSH_CONNECTION"

// SSHPorts returns the ports of this host at which the SSH sessions arrive that this process runs in: as the environment
// says, that of its ancestors, since sudo drops it, or the connections of an ancestor that is an SSH server. Empty when it
// runs in none.
func SSHPorts(lookup func(string) (string, bool)) []uint16 {
	var ports []uint16
	add := func(connection string) {
		if f := strings.Fields(connection); len(f) == 4 {
			if p, err := strconv.ParseUint(f[3], 10, 16); err == nil && p > 0 {
				ports = append(ports, uint16(p))
			}
		}
	}
	if v, ok := lookup(sshVariable); ok {
		add(v)
	}
	for pid := os.Getppid(); pid > 0; pid = parent(pid) {
		dir := "/proc/" + strconv.Itoa(pid)
		environ, _ := os.ReadFile(dir + "/environ") // of another user, if not root: it counts as having none
		for v := range bytes.SplitSeq(environ, []byte{0}) {
			if value, ok := strings.CutPrefix(string(v), sshVariable+"="); ok {
				add(value)
			}
		}
		if comm, err := os.ReadFile(dir + "/comm"); err == nil && slices.Contains(sshServers, strings.TrimSpace(string(comm))) {
			ports = append(ports, serverPorts(dir)...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// parent returns the parent's process id, 0 when there is none.
func parent(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	after := string(stat[bytes.LastIndexByte(stat, ')')+1:])
	f := strings.Fields(after) // state, parent, …
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.Atoi(f[1])
	if err != nil || n == pid {
		return 0
	}
	return n
}

// serverPorts returns the local ports of the connections that a process has accepted. Those that it made for forwarding have
// ports on which nobody listens.
func serverPorts(dir string) []uint16 {
	own := map[uint32]bool{}
	fds, _ := filepath.Glob(dir + "/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		inode, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 32); err == nil {
			own[uint32(n)] = true
		}
	}
	var ports []uint16
	listening := map[uint16]bool{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			continue // the other ways remain
		}
		for _, s := range sockets {
			if s.State == tcpListen {
				listening[s.ID.SourcePort] = true
			} else if s.State == tcpEstablished && own[s.INode] {
				ports = append(ports, s.ID.SourcePort)
			}
		}
	}
	return slices.DeleteFunc(ports, func(p uint16) bool { return !listening[p] })
}

// ExcludeInbound keeps ports out of inbound redirection. It returns those that it added, and those that stay redirected
// because the configuration lists them among the only ones to redirect.
func ExcludeInbound(cfg *tp.Config, ports []uint16) (added, redirected []uint16) {
	if !cfg.Inbound.Enabled {
		return nil, nil
	}
	has := func(list tp.Ports, p uint16) bool {
		return slices.ContainsFunc(list, func(r tp.PortRange) bool { return r.Contains(p) })
	}
	for _, p := range ports {
		switch {
		case has(cfg.Inbound.IncludePorts, p):
			redirected = append(redirected, p)
		case len(cfg.Inbound.IncludePorts) > 0 || has(cfg.Inbound.ExcludePorts, p):
		default:
			cfg.Inbound.ExcludePorts = append(slices.Clone(cfg.Inbound.ExcludePorts), tp.PortRange{First: p, Last: p})
			added = append(added, p)
		}
	}
	return added, redirected
}
