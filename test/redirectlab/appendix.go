//go:build linux

package redirectlab

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Payload is one run of Kuma 2.9.13 in contract transparentproxy.md Appendix A.
type Payload struct {
	ID    string
	Flags string // empty when the appendix describes it in words
	Text  string
}

// ResolvConf lists the DNS servers of the appendix's machine, which are those of Facts.
const ResolvConf = "nameserver 10.255.0.53\nnameserver 127.0.0.11\nnameserver fd00:53::53\n"

var payloadHeading = regexp.MustCompile(`^### (A\.[0-9]+) (.*)$`)

// ReadAppendix reads the appendix as it stands in the contract.
func ReadAppendix(t testing.TB, path string) []Payload {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []Payload
	var text *strings.Builder
	for line := range strings.Lines(string(b)) {
		bare := strings.TrimSuffix(line, "\n")
		switch m := payloadHeading.FindStringSubmatch(bare); {
		case bare == "```" && text == nil:
			text = &strings.Builder{}
		case bare == "```":
			out[len(out)-1].Text = text.String()
			text = nil
		case text != nil:
			if !strings.HasPrefix(bare, "rc=") {
				text.WriteString(line)
			}
		case m != nil:
			flags := ""
			if strings.HasPrefix(m[2], "`-") && !strings.Contains(m[2], "` ") {
				flags = strings.Trim(m[2], "`")
			}
			out = append(out, Payload{ID: m[1], Flags: flags})
		}
	}
	return out
}

// ComparePayloads has print make the dry run of every payload that comes of flags alone, and compares text for text.
// The machine of print is that of the appendix: see ResolvConf, with IPv6 and a user 5678.
func ComparePayloads(t *testing.T, all []Payload, print func(t *testing.T, flags string) string) {
	t.Helper()
	compared := 0
	for _, p := range all {
		if p.Flags == "" && p.ID != "A.1" && p.ID != "A.32" {
			continue // made by hand on another machine, or words
		}
		compared++
		t.Run(p.ID, func(t *testing.T) {
			flags, want := p.Flags, p.Text
			if strings.Contains(flags, "--store-firewalld") {
				// What follows the rules is Kuma's broken way to store them, which we refuse.
				flags = strings.Replace(flags, "--store-firewalld", "", 1)
				want = want[:strings.LastIndex(want, "COMMIT\n")+len("COMMIT\n")]
			}
			if p.ID != "A.32" {
				flags += " --disable-comments"
			}
			d := deviations[p.ID]
			if diff := cmp.Diff(without(t, want, d.kumas), without(t, print(t, flags), d.ours)); diff != "" {
				t.Errorf("%s differs from Kuma's (-want +got):\n%s", p.Flags, diff)
			}
		})
	}
	if compared != 20 {
		t.Errorf("compared %d runs of the appendix, want 20", compared)
	}
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

// CompareDocker has print make the two dry runs of A.30, on the appendix's machine with a chain DOCKER_OUTPUT and without
// IPv6; the appendix leaves out lines that mention own chains.
func CompareDocker(t *testing.T, all []Payload, print func(t *testing.T, flags string) string) {
	t.Helper()
	for _, p := range all {
		if p.ID != "A.30" {
			continue
		}
		want := strings.Split(p.Text, "-\n")
		if i := strings.Index(want[0], "###"); i > 0 { // a warning stands before
			want[0] = want[0][i:]
		}
		for i, flags := range []string{"--redirect-all-dns-traffic", "--redirect-dns"} {
			var got strings.Builder
			for line := range strings.Lines(print(t, flags+" --disable-comments --ip-family-mode ipv4")) {
				if !strings.Contains(line, "KUMA_MESH_") {
					got.WriteString(line)
				}
			}
			if diff := cmp.Diff(want[i], got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", flags, diff)
			}
		}
		return
	}
	t.Error("the appendix has no A.30")
}
