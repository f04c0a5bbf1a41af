//go:build linux

package dnslab

import (
	"strconv"
	"strings"
	"testing"
)

// TestPackets has dnspython send what no stub resolver would (contract dns.md §5.4 items 2 and 9).
func TestPackets(t *testing.T) {
	l := newLab(t)
	l.start(t, nil)
	for _, server := range []string{"127.0.0.1", "::1"} {
		out := strings.TrimSpace(shell(t, l.app, "", "/usr/bin/python3", "testdata/packets.py", server, "53"))
		if n, err := strconv.Atoi(out); err != nil || n < 1700 {
			t.Errorf("%s: %s checks, want more", server, out)
		}
	}
}
