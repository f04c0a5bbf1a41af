package settings

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// payload is one run of Kuma 2.9.13 in contract transparentproxy.md Appendix A.
type payload struct{ id, flags, text string }

var heading = regexp.MustCompile("^### (A\\.[0-9]+) (.*)$")

// appendixA reads the appendix as it stands in the contract.
func appendixA(t testing.TB) []payload {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "appendix-a.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []payload
	var text *strings.Builder
	for line := range strings.Lines(string(b)) {
		bare := strings.TrimSuffix(line, "\n")
		switch m := heading.FindStringSubmatch(bare); {
		case bare == "```" && text == nil:
			text = &strings.Builder{}
		case bare == "```":
			out[len(out)-1].text = text.String()
			text = nil
		case text != nil:
			if !strings.HasPrefix(bare, "rc=") {
				text.WriteString(line)
			}
		case m != nil:
			flags := ""
			if strings.HasPrefix(m[2], "`-") {
				flags = strings.Trim(m[2], "`")
			}
			out = append(out, payload{id: m[1], flags: flags})
		}
	}
	return out
}

// contractHost is the machine of the appendix.
func contractHost() tp.Host {
	return tp.Host{UID: 5678, IPv6: true, ConntrackZones: true, Nameservers: []netip.Addr{
		netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00:53::53"),
	}}
}

// deviations are the ways in which we differ on purpose, by run: lines of ours that Kuma lacks, and lines of Kuma's that we
// lack. Each has its reason.
var deviations = map[string]struct{ ours, kumas []string }{
	// Excluded queries belong into the zone of the answers (contract transparentproxy.md §2).
	"A.10": {ours: []string{"-A OUTPUT -d 10.1.0.0/16 -p udp --dport 53 -j CT --zone 1"}},
	"A.11": {ours: []string{"-A OUTPUT -p udp --dport 53 -m owner --uid-owner 1000 -j CT --zone 1"}},
	// More ports than a rule holds: the kernel refuses Kuma's (§1.1).
	"A.28": {
		kumas: []string{
			"-I OUTPUT 1 -m multiport -p tcp --dport 1:2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 -m owner --uid-owner 1000 -j RETURN",
			"-I OUTPUT 2 -m multiport -p udp --dport 1:2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17 -m owner --uid-owner 1000 -j RETURN",
		},
		ours: []string{
			"-I OUTPUT 1 -m multiport -p tcp --dport 1:2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m owner --uid-owner 1000 -j RETURN",
			"-I OUTPUT 2 -m multiport -p tcp --dport 16,17 -m owner --uid-owner 1000 -j RETURN",
			"-I OUTPUT 3 -m multiport -p udp --dport 1:2,3,4,5,6,7,8,9,10,11,12,13,14,15 -m owner --uid-owner 1000 -j RETURN",
			"-I OUTPUT 4 -m multiport -p udp --dport 16,17 -m owner --uid-owner 1000 -j RETURN",
		},
	},
}

func without(t testing.TB, text string, lines []string) string {
	t.Helper()
	for _, line := range lines {
		if strings.Count(text, line+"\n") != 1 {
			t.Errorf("not there once: %q", line)
		}
		text = strings.Replace(text, line+"\n", "", 1)
	}
	return text
}

// parse reads a command line as kumactl does.
func parse(t testing.TB, line string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("install", pflag.ContinueOnError)
	f.SetOutput(t.Output())
	Bind(f)
	if err := f.Parse(strings.Fields(line)); err != nil {
		t.Fatal(err)
	}
	return f
}

// printed is what a dry run of the command line prints on a host.
func printed(t testing.TB, line string, host tp.Host) string {
	t.Helper()
	s, err := Load(Sources{Flags: parse(t, line)})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tp.NewPlan(s.Config, host)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Text(tp.TextOptions{Verbose: s.Options.Verbose, NoComments: s.Options.NoComments})
}

// TestAppendixA runs the command lines of the appendix and compares what is printed, text for text.
func TestAppendixA(t *testing.T) {
	compared := 0
	for _, p := range appendixA(t) {
		t.Run(p.id, func(t *testing.T) {
			flags, want, host := p.flags, p.text, contractHost()
			switch p.id {
			case "A.30", "A.31":
				return // of their own below
			case "A.19", "A.29":
				// What follows the rules is Kuma's broken way to store them, which is refused (TestStoreFirewalldIsRefused).
				flags = strings.Replace(flags, "--store-firewalld", "", 1)
				want = want[:strings.LastIndex(want, "COMMIT\n")+len("COMMIT\n")]
			case "A.14":
				host.UID = 65534 // that is nobody
			}
			if p.id != "A.32" {
				flags += " --disable-comments"
			}
			got := printed(t, flags, host)
			d := deviations[p.id]
			if diff := cmp.Diff(without(t, want, d.kumas), without(t, got, d.ours)); diff != "" {
				t.Errorf("%s differs from Kuma's (-want +got):\n%s", p.flags, diff)
			}
			compared++
		})
	}
	if compared != 20 {
		t.Errorf("compared %d runs of the appendix, want 20", compared)
	}
}

// TestAppendixDocker has the two runs of A.30, which show only the lines that do not mention own chains.
func TestAppendixDocker(t *testing.T) {
	all := appendixA(t)
	at := slices.IndexFunc(all, func(p payload) bool { return p.id == "A.30" })
	want := strings.Split(all[at].text, "-\n")
	want[0] = want[0][strings.Index(want[0], "###"):] // a warning stands before
	host := contractHost()
	host.Docker4, host.IPv6 = true, false
	for i, flags := range []string{"--redirect-all-dns-traffic", "--redirect-dns"} {
		var got strings.Builder
		for line := range strings.Lines(printed(t, flags+" --disable-comments", host)) {
			if !strings.Contains(line, tp.ChainPrefix) {
				got.WriteString(line)
			}
		}
		if diff := cmp.Diff(want[i], got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", flags, diff)
		}
	}
}

// TestAppendixOthers has what A.31 says in words.
func TestAppendixOthers(t *testing.T) {
	want := printed(t, "", contractHost())
	for _, flags := range []string{
		"--iptables-executables iptables:/usr/sbin/iptables-legacy,iptables-save:/usr/sbin/iptables-legacy-save,iptables-restore:/usr/sbin/iptables-legacy-restore",
		"--ebpf-enabled --ebpf-instance-ip 10.77.0.2",
	} {
		if diff := cmp.Diff(want, printed(t, flags, contractHost())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", flags, diff)
		}
	}
}

// goldens are the files that other tests compare with, and the run of the appendix that each has to be.
var goldens = map[string]string{
	"default": "A.1", "dns": "A.2", "dns_all": "A.3", "dns_no_zones_port": "A.4", "exclude_ports": "A.5", "exclude_ips": "A.6",
	"exclude_uids": "A.7", "no_inbound": "A.8", "vnet": "A.9", "insert": "A.10", "log": "A.11", "drop_invalid": "A.12", "verbose": "A.13",
	"ports_user": "A.14", "include_ports": "A.15", "no_outbound": "A.16", "comments": "A.32",
}

func TestGoldensAreTheAppendix(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(goldens) {
		t.Errorf("%d files, want %d", len(files), len(goldens))
	}
	all := appendixA(t)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(all, func(p payload) bool { return p.id == goldens[name] })
		if at < 0 {
			t.Errorf("%s is no run of the appendix", path)
			continue
		}
		if diff := cmp.Diff(all[at].text, string(got)); diff != "" {
			t.Errorf("%s is not %s (-want +got):\n%s", path, all[at].id, diff)
		}
	}
}
