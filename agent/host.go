package agent

import (
	"net"
	"os"
	"strconv"
	"strings"
)

// systemCAs are where distributions keep the system's authorities; the first that exists is told to the control plane.
var systemCAs = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

func systemCA() string {
	for _, path := range systemCAs {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// hasIPv6 says whether this host has an IPv6 address, the loopback one included.
func hasIPv6() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil {
			return true
		}
	}
	return false
}

// memoryLimit is the limit of the control group in bytes, 0 when there is none that can be told.
func memoryLimit() uint64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.limit_in_bytes"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || n > 1<<60 { // "max", and what version 1 writes for it
			return 0
		}
		return n
	}
	return 0
}
