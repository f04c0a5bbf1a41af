//go:build linux

package verify

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// redirected is what the kernel told of a query to 10.255.0.53 that was redirected, in zone 2.
const redirected = "02000000" + // IPv4
	"34000180" + "14000180" + "080001000a4d0002" + "080002000aff0035" + "1c000280" + "0500010011000000" + "060002009c750000" + "0600030000350000" +
	"34000280" + "14000180" + "080001007f000001" + "080002000a4d0002" + "1c000280" + "0500010011000000" + "060002003acd0000" + "060003009c750000" +
	"0600120000020000"

func TestParseConnection(t *testing.T) {
	b, err := hex.DecodeString(redirected)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := parseConnection(b)
	want := tuple{unix.IPPROTO_UDP, netip.MustParseAddrPort("10.77.0.2:40053"), netip.MustParseAddrPort("10.255.0.53:53")}
	if !ok || c.original != want || c.reply.from != netip.MustParseAddrPort("127.0.0.1:15053") || c.zone != 2 || c.family != unix.AF_INET {
		t.Errorf("got %+v, %t", c, ok)
	}
}

func FuzzParseConnection(f *testing.F) {
	b, err := hex.DecodeString(redirected)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{2, 0, 0, 0, 3, 0, 1, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { parseConnection(b) })
}
