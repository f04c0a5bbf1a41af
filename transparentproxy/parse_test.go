package transparentproxy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParsePorts(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Ports
		err  string
	}{
		{in: ""},
		{in: " "},
		{in: "22", want: Ports{{22, 22}}},
		{in: "22,1234", want: Ports{{22, 22}, {1234, 1234}}},
		{in: " 22 , 80-90 ", want: Ports{{22, 22}, {80, 90}}},
		{in: "1-65535", want: Ports{{1, 65535}}},
		{in: "22,0", err: "value '0' is not a valid port (uint16 in the range [1, 65535])"},
		{in: "65536", err: "value '65536' is not a valid port"},
		{in: "22,,80", err: "value '' is not a valid port"},
		{in: "-1", err: "value '' is not a valid port"},
		{in: "+1", err: "value '+1' is not a valid port"},
		{in: "90-80", err: "ends before it begins"},
		{in: "1-2-3", err: "value '2-3' is not a valid port"},
		{in: "http", err: "value 'http' is not a valid port"},
		{in: "1_0", err: "value '1_0' is not a valid port"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParsePorts(tc.in)
			checkParsed(t, tc.want, got, err, tc.err)
		})
	}
}

func checkParsed[T any](t *testing.T, want, got T, err error, wantErr string) {
	t.Helper()
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("got error %v, want %q", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseUIDExclusion(t *testing.T) {
	all := Ports{{1, 65535}}
	for _, tc := range []struct {
		in   string
		want UIDExclusion
		err  string
	}{
		{in: "1000", want: UIDExclusion{true, true, all, UIDRange{1000, 1000}}},
		{in: "53:1001", want: UIDExclusion{true, true, Ports{{53, 53}}, UIDRange{1001, 1001}}},
		{in: "tcp:22,3000-5000:106-108", want: UIDExclusion{true, false, Ports{{22, 22}, {3000, 5000}}, UIDRange{106, 108}}},
		{in: "udp,tcp::1", want: UIDExclusion{true, true, all, UIDRange{1, 1}}},
		{in: "*:*:0-4294967294", want: UIDExclusion{true, true, all, UIDRange{0, 4294967294}}},
		{in: "udp:53:100000", want: UIDExclusion{false, true, Ports{{53, 53}}, UIDRange{100000, 100000}}},
		{in: "1,2", err: "invalid UID entry: '1,2'. It should either be a single item or a range"},
		{in: "", err: "invalid UID"},
		{in: "*", err: "invalid UID"},
		{in: "9-8", err: "invalid UID range"},
		{in: "4294967295", err: "invalid UID"},
		{in: "icmp:1:1", err: "invalid protocol 'icmp'"},
		{in: "0:1", err: "not a valid port"},
		{in: "a:b:c:d", err: "expected [protocols:[ports:]]uids"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseUIDExclusion(tc.in)
			checkParsed(t, tc.want, got, err, tc.err)
		})
	}
}

func TestParseUIDExclusions(t *testing.T) {
	all := Ports{{1, 65535}}
	one := func(uid uint32, ports Ports) UIDExclusion { return UIDExclusion{true, true, ports, UIDRange{uid, uid}} }
	for _, tc := range []struct {
		in   string
		want []UIDExclusion
		err  string
	}{
		{in: ""},
		{in: "1000", want: []UIDExclusion{one(1000, all)}},
		{in: "1,2", want: []UIDExclusion{one(1, all), one(2, all)}},
		{in: "53:1,100000-100002", want: []UIDExclusion{one(1, Ports{{53, 53}}), {true, true, Ports{{53, 53}}, UIDRange{100000, 100002}}}},
		{in: "tcp:22,3000-5000:106; 7", want: []UIDExclusion{{true, false, Ports{{22, 22}, {3000, 5000}}, UIDRange{106, 106}}, one(7, all)}},
		{in: "53:1000,53:1001", want: []UIDExclusion{one(1000, Ports{{53, 53}}), one(1001, Ports{{53, 53}})}},
		{in: "1,,2", err: "invalid UID ''"},
		{in: "1;", err: "invalid UID ''"},
		{in: "tcp:1:*", err: "invalid UID '*'"},
		{in: "1;icmp:1:1", err: "invalid protocol 'icmp'"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseUIDExclusions(tc.in)
			checkParsed(t, tc.want, got, err, tc.err)
		})
	}
}

func TestParseIPs(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []netip.Prefix
		err  string
	}{
		{in: "10.0.0.1, fe80::1", want: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fe80::1/128")}},
		{in: "192.168.0.7/24", want: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}},
		{in: "foo", err: "invalid IP address: 'foo'. Expected format: <ip> or <ip>/<cidr>"},
		{in: "10.0.0.1/33", err: "invalid IP address"},
		{in: "fe80::1%eth0", err: "invalid IP address"},
		{in: "10.0.0.1,", err: "invalid IP address"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseIPs(tc.in)
			checkParsed(t, tc.want, got, err, tc.err)
		})
	}
}

func TestParseVNet(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want VNet
		err  string
	}{
		{in: "docker0:172.17.0.0/16", want: VNet{"docker0", netip.MustParsePrefix("172.17.0.0/16")}},
		{in: "br+:fd01::/64", want: VNet{"br+", netip.MustParsePrefix("fd01::/64")}},
		{in: "foo", err: "invalid virtual network definition: foo"},
		{in: "-j:10.0.0.0/8", err: "invalid virtual network definition"},
		{in: "a b:10.0.0.0/8", err: "invalid virtual network definition"},
		{in: "sixteen-letters-:10.0.0.0/8", err: "invalid virtual network definition"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseVNet(tc.in)
			checkParsed(t, tc.want, got, err, tc.err)
		})
	}
}

func TestParseNameservers(t *testing.T) {
	got, err := parseNameservers(strings.NewReader("# nameserver 1.1.1.1\nsearch x\nnameserver 10.0.0.1\n nameserver\tfd00::1 # y\n" +
		"nameserver 10.0.0.1\nnameserver oops\nnameserver\nnameserver fe80::1%eth0"))
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1%eth0")}
	checkParsed(t, want, got, err, "")
}

// FuzzPorts checks that what is accepted is valid, survives being printed, and gives a plan of sound rules.
func FuzzPorts(f *testing.F) {
	for _, s := range []string{"", "22", "22,1234", "80-90, 1", "0", "65536", "1-", ",", "22,3000-5000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := ParsePorts(s)
		if err != nil {
			return
		}
		if err := ports.validate(); err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, p := range ports {
			words = append(words, strings.ReplaceAll(p.String(), ":", "-"))
		}
		again, err := ParsePorts(strings.Join(words, ","))
		if err != nil || !cmp.Equal(ports, again) {
			t.Fatalf("%q printed and read again: %v, %v", s, again, err)
		}
		total := 0
		for _, piece := range ports.split(maxMultiport) {
			slots := 0
			for _, r := range piece {
				slots++
				if r.First != r.Last {
					slots++
				}
			}
			if slots == 0 || slots > maxMultiport {
				t.Fatalf("%q: a rule with %d slots", s, slots)
			}
			total += len(piece)
		}
		if total != len(ports.unique()) {
			t.Fatalf("%q: split lost ports", s)
		}
	})
}

// FuzzExclusions checks that no text of a user can put a word of its own into a rule.
func FuzzExclusions(f *testing.F) {
	for _, s := range []string{"1000", "tcp:22,3000-5000:106-108", "53:1001", "*:*:1", "53:1,2;7", "53:1,53:2", "docker0:172.17.0.0/16", "br+:fd01::/64", "10.0.0.1,fe80::1/64"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cfg := DefaultConfig()
		cfg.DNS.CaptureAll = true
		if e, err := ParseUIDExclusions(s); err == nil {
			cfg.Outbound.ExcludeUIDs = e
		}
		if v, err := ParseVNet(s); err == nil {
			cfg.VNets = append(cfg.VNets, v)
		}
		if ips, err := ParseIPs(s); err == nil {
			cfg.Inbound.ExcludeIPs, cfg.Outbound.ExcludeIPs = ips, ips
		}
		plan, err := NewPlan(cfg, contractHost())
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Check(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(plan.Text(TextOptions{})) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(line, "  ") {
				t.Fatalf("%q made the line %q", s, line)
			}
		}
	})
}

func FuzzNameservers(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:5\n")
	f.Fuzz(func(t *testing.T, s string) {
		cfg, host := DefaultConfig(), contractHost()
		cfg.DNS.Enabled = true
		host.Nameservers, _ = parseNameservers(strings.NewReader(s))
		if _, err := NewPlan(cfg, host); err != nil {
			t.Fatal(err)
		}
	})
}
