//go:build linux

package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func appendix(t testing.TB) []redirectlab.Payload {
	t.Helper()
	return redirectlab.ReadAppendix(t, filepath.Join("..", "testdata", "appendix-a.md"))
}

// printed is what a dry run of the command line prints on a host.
func printed(t testing.TB, line string, host tp.Host) string {
	t.Helper()
	s, err := Load(Sources{Flags: parse(t, line)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Config.User == "nobody" {
		host.UID = 65534
	}
	plan, err := tp.NewPlan(s.Config, host)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Text(tp.TextOptions{Verbose: s.Options.Verbose, NoComments: s.Options.NoComments})
}

// TestAppendixA runs the command lines of the appendix and compares what is printed, text for text.
func TestAppendixA(t *testing.T) {
	redirectlab.ComparePayloads(t, appendix(t), func(t *testing.T, flags string) string { return printed(t, flags, redirectlab.Facts()) })
}

func TestAppendixDocker(t *testing.T) {
	redirectlab.CompareDocker(t, appendix(t), func(t *testing.T, flags string) string {
		host := redirectlab.Facts()
		host.Docker4 = true
		return printed(t, flags, host)
	})
}

// TestAppendixOthers has what A.31 says in words.
func TestAppendixOthers(t *testing.T) {
	want := printed(t, "", redirectlab.Facts())
	for _, flags := range []string{
		"--iptables-executables iptables:/usr/sbin/iptables-legacy,iptables-save:/usr/sbin/iptables-legacy-save,iptables-restore:/usr/sbin/iptables-legacy-restore",
		"--ebpf-enabled --ebpf-instance-ip 10.77.0.2",
	} {
		if diff := cmp.Diff(want, printed(t, flags, redirectlab.Facts())); diff != "" {
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
	all := appendix(t)
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(all, func(p redirectlab.Payload) bool { return p.ID == goldens[name] })
		if at < 0 {
			t.Errorf("%s is no run of the appendix", path)
			continue
		}
		if diff := cmp.Diff(all[at].Text, string(got)); diff != "" {
			t.Errorf("%s is not %s (-want +got):\n%s", path, all[at].ID, diff)
		}
	}
}
