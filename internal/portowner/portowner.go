// Package portowner tells which process listens on a port, so that "address already in use" can say who uses it. It reads
// /proc and so knows Linux only; elsewhere, and where processes of others are hidden, it finds nobody.
package portowner

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Owner is a socket that listens on the port.
type Owner struct {
	// Addr is what the socket is bound to.
	Addr netip.AddrPort
	// UID is the user whose process made the socket.
	UID uint32
	// PID is the process that has the socket, 0 when it may not be seen.
	PID int
	// Command is the short name of the process, at most 15 bytes, empty when it may not be seen.
	Command string
}

// String describes the owner for an error message.
func (o Owner) String() string {
	if o.PID == 0 {
		return fmt.Sprintf("a process of uid %d that this user may not see (listening on %s)", o.UID, o.Addr)
	}
	return fmt.Sprintf("%s (pid %d, listening on %s)", o.Command, o.PID, o.Addr)
}

// Find returns who listens on a port over network, "tcp" or "udp", in this network namespace. Each socket appears once,
// with the first process that has it. Nobody is no error.
func Find(network string, port uint16) ([]Owner, error) {
	return find("/proc", network, port)
}

// Explain is Find for error messages: "port 9901 (tcp) is in use by envoy (pid 17, listening on 127.0.0.1:9901)". When the
// owner cannot be found it says so.
func Explain(network string, port uint16) string {
	owners, err := Find(network, port)
	if err != nil || len(owners) == 0 {
		return fmt.Sprintf("port %d (%s) is in use; its owner could not be found", port, network)
	}
	names := make([]string, len(owners))
	for i, o := range owners {
		names[i] = o.String()
	}
	return fmt.Sprintf("port %d (%s) is in use by %s", port, network, strings.Join(names, ", "))
}

func find(proc, network string, port uint16) ([]Owner, error) {
	if network != "tcp" && network != "udp" {
		return nil, fmt.Errorf("find owner of port %d: network %q is neither tcp nor udp", port, network)
	}
	var sockets []socket
	for _, family := range []string{"", "6"} {
		content, err := os.ReadFile(filepath.Join(proc, "net", network+family))
		if err != nil && (family == "" || !os.IsNotExist(err)) { // without IPv6 there is no second table
			return nil, fmt.Errorf("find owner of port %d: %w", port, err)
		}
		for _, s := range parse(content, network) {
			if s.addr.Port() == port {
				sockets = append(sockets, s)
			}
		}
	}
	if len(sockets) == 0 {
		return nil, nil
	}
	pids := holders(proc, sockets)
	owners := make([]Owner, 0, len(sockets))
	for _, s := range sockets {
		o := Owner{Addr: s.addr, UID: s.uid, PID: pids[s.inode]}
		if comm, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(o.PID), "comm")); err == nil {
			o.Command = strings.TrimSpace(string(comm))
		}
		owners = append(owners, o)
	}
	return owners, nil
}

type socket struct {
	addr  netip.AddrPort
	uid   uint32
	inode uint64
}

// States of sockets that receive whatever comes, in the numbers of the kernel.
const (
	tcpListen = "0A"
	udpOpen   = "07"
)

// parse reads a table of /proc/net and returns the sockets that wait for anybody. Lines it cannot read are left out.
func parse(content []byte, network string) []socket {
	state := tcpListen
	if network == "udp" {
		state = udpOpen
	}
	var out []socket
	for line := range bytes.Lines(content) {
		f := strings.Fields(string(line))
		if len(f) < 10 || f[3] != state {
			continue
		}
		addr, ok := parseAddr(f[1])
		uid, uerr := strconv.ParseUint(f[7], 10, 32)
		inode, err := strconv.ParseUint(f[9], 10, 64)
		if !ok || uerr != nil || err != nil {
			continue
		}
		out = append(out, socket{addr, uint32(uid), inode})
	}
	return out
}

// parseAddr reads an address as the kernel prints it: 32-bit words in the byte order of the machine, a colon, the port.
func parseAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	p, perr := strconv.ParseUint(port, 16, 16)
	b, herr := hex.DecodeString(host)
	if !ok || perr != nil || herr != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

// holders finds the process of each socket by looking at what everybody has open, as there is no way back from a socket.
func holders(proc string, sockets []socket) map[uint64]int {
	wanted := make(map[string]uint64, len(sockets))
	for _, s := range sockets {
		wanted[fmt.Sprintf("socket:[%d]", s.inode)] = s.inode
	}
	out := make(map[uint64]int, len(sockets))
	processes, err := fs.ReadDir(os.DirFS(proc), ".")
	if err != nil {
		return out
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		fds := filepath.Join(proc, p.Name(), "fd")
		entries, err := os.ReadDir(fds)
		if err != nil {
			continue // it ended, or belongs to another user
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(fds, e.Name()))
			if err != nil {
				continue
			}
			if inode, ok := wanted[target]; ok && out[inode] == 0 {
				out[inode] = pid
			}
		}
	}
	return out
}
