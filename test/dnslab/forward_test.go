//go:build linux

package dnslab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// zoneServer runs an unbound with the signed zone and a resolver that forwards to it.
func zoneServer(t *testing.T, l lab) (addr netip.Addr, key *mdns.DNSKEY) {
	t.Helper()
	text, key := signedZone(t)
	path := filepath.Join(t.TempDir(), "zone")
	writeFile(t, path, text)
	addr = l.address(t, 1)
	unbound(t, l.up, 1, addr.String(), 53, fmt.Sprintf("auth-zone:\n  name: %q\n  zonefile: %q\n  for-upstream: no\n  fallback-enabled: no\n", origin, path))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, conf, nameservers(addr))
	l.start(t, config{"ResolvConf": conf})
	return addr, key
}

// TestForwardedUnchanged compares what the resolver answers with what its upstream does when asked without it: byte for byte
// but the id (contract dns.md §5.4 item 5).
func TestForwardedUnchanged(t *testing.T) {
	l := newLab(t)
	addr, _ := zoneServer(t, l)
	direct, through := netip.AddrPortFrom(addr, 53).String(), "127.0.0.1:53"
	compared, cut := 0, 0
	for _, q := range questions {
		for what, edit := range map[string]func(m *mdns.Msg){
			"plain":    func(*mdns.Msg) {},
			"EDNS":     func(m *mdns.Msg) { m.SetEdns0(1232, false) },
			"DNSSEC":   func(m *mdns.Msg) { m.SetEdns0(4096, true) },
			"small":    func(m *mdns.Msg) { m.SetEdns0(512, true) },
			"AD":       func(m *mdns.Msg) { m.AuthenticatedData = true },
			"CD":       func(m *mdns.Msg) { m.SetEdns0(1232, true); m.CheckingDisabled = true },
			"no RD":    func(m *mdns.Msg) { m.RecursionDesired = false },
			"option":   func(m *mdns.Msg) { option(m, &mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}) },
			"NSID":     func(m *mdns.Msg) { option(m, &mdns.EDNS0_NSID{Code: mdns.EDNS0NSID}) },
			"version1": func(m *mdns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) },
		} {
			m := new(mdns.Msg).SetQuestion(absolute(q.name), q.qtype)
			edit(m)
			wire, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for _, network := range []string{"udp", "tcp"} {
				at := fmt.Sprintf("%s %s over %s, %s", q.name, mdns.Type(q.qtype), network, what)
				want, got := l.raw(t, network, direct, wire), l.raw(t, network, through, wire)
				switch {
				case what == "version1": // answered here, and so without asking
					var r mdns.Msg
					if err := r.Unpack(got); err != nil || r.Rcode != mdns.RcodeBadVers {
						t.Errorf("%s: %v", at, &r)
					}
				case network == "udp" && truncated(want) && m.IsEdns0() != nil:
					// The resolver fetches the whole over TCP and cuts it to what the client takes.
					cut++
					var r mdns.Msg
					if err := r.Unpack(got); err != nil || !r.Truncated || len(got) > int(m.IsEdns0().UDPSize()) {
						t.Errorf("%s: %d bytes, %v %v", at, len(got), err, &r)
					}
				case !bytes.Equal(got, want):
					t.Errorf("%s:\ngot  %x\nwant %x", at, got, want)
				default:
					compared++
				}
			}
		}
	}
	if compared < 250 || cut == 0 {
		t.Errorf("only %d answers compared, %d cut", compared, cut)
	}
	if r := l.digOne(t, "+ignore", "+bufsize=4096", "large.signed.example", "TXT"); r.has("tc") || r.bytes(t) < 3000 {
		t.Errorf("3 kB that fit: %d bytes, flags %s", r.bytes(t), r.Data.Flags)
	}
}

func option(m *mdns.Msg, o mdns.EDNS0) {
	m.SetEdns0(1232, true)
	m.IsEdns0().Option = append(m.IsEdns0().Option, o)
}

func truncated(wire []byte) bool { return wire[2]&2 != 0 }

// raw sends bytes and returns the answer's with the id of the question, which has to be the answer's.
func (l lab) raw(t testing.TB, network, address string, wire []byte) []byte {
	t.Helper()
	c := l.dial(t, network, address)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 65535)
	send := wire
	if network == "tcp" {
		send = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	if _, err := c.Write(send); err != nil {
		t.Fatal(err)
	}
	n, err := 0, error(nil)
	if network == "tcp" {
		var size [2]byte
		if _, err = io.ReadFull(c, size[:]); err == nil {
			n, err = io.ReadFull(c, answer[:binary.BigEndian.Uint16(size[:])])
		}
	} else {
		n, err = c.Read(answer)
	}
	if err != nil || n < 12 || !bytes.Equal(answer[:2], wire[:2]) {
		t.Fatalf("%s of %s: %v, %d bytes", network, address, err, n)
	}
	return answer[:n]
}

// TestValidation has delv check the signatures of what comes through the resolver: of answers, and that there is none.
func TestValidation(t *testing.T) {
	l := newLab(t)
	_, key := zoneServer(t, l)
	anchors := filepath.Join(t.TempDir(), "anchors")
	anchor := func(key *mdns.DNSKEY) {
		writeFile(t, anchors, fmt.Sprintf("trust-anchors { %q static-key %d %d %d %q; };\n", origin, key.Flags, key.Protocol, key.Algorithm, key.PublicKey))
	}
	delv := func(name string, qtype uint16) string {
		return shell(t, l.app, "", "delv", "@127.0.0.1", "-a", anchors, "+root="+strings.TrimSuffix(origin, "."), name, mdns.Type(qtype).String())
	}
	anchor(key)
	for _, q := range questions {
		if out := delv(absolute(q.name), q.qtype); !strings.Contains(out, "fully validated") {
			t.Errorf("%s %s:\n%s", q.name, mdns.Type(q.qtype), out)
		}
	}
	// With the key of somebody else nothing is valid.
	_, other := signedZone(t)
	anchor(other)
	if out := shell(t, l.app, "", "sh", "-c", fmt.Sprintf("delv @127.0.0.1 -a %s +root=signed.example www.signed.example A 2>&1 || true", anchors)); strings.Contains(out, "fully validated") {
		t.Errorf("validated with another key:\n%s", out)
	}
}
