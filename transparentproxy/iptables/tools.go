//go:build linux

package iptables

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Flavour is a kernel interface that an iptables binary speaks. A host may have rules in both.
type Flavour string

// The flavours, with the names that distributions put into the names of the binaries.
const (
	NFT    Flavour = "nft"
	Legacy Flavour = "legacy"
)

var flavours = []Flavour{NFT, Legacy}

// backend is the flavour's name among all backends.
func (f Flavour) backend() string { return "iptables-" + string(f) }

// standardDirs are searched after the given path (contract transparentproxy.md §1.3).
var standardDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// killDelay is how long a killed tool may keep its pipes open.
const killDelay = time.Second

// tool is the pair of binaries for one family in one flavour.
type tool struct {
	flavour       Flavour
	family        tp.Family
	save, restore string
}

// command is the name of the iptables binary of a family.
func command(f tp.Family) string {
	if f == tp.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// findTools looks for the binaries of both flavours. Those with the flavour in their name are trusted; the plain name is
// asked for its version.
func findTools(ctx context.Context, path string) ([]tool, error) {
	dirs := append(filepath.SplitList(path), standardDirs...)
	var found []tool
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		name := command(family)
		plain, err := plainFlavour(ctx, dirs, name)
		if err != nil {
			return nil, err
		}
		for _, fl := range flavours {
			prefix := name + "-" + string(fl)
			if find(dirs, prefix+"-restore") == "" && fl == plain {
				prefix = name
			}
			t := tool{fl, family, find(dirs, prefix+"-save"), find(dirs, prefix+"-restore")}
			if t.save != "" && t.restore != "" {
				found = append(found, t)
			}
		}
	}
	return found, nil
}

// plainFlavour asks iptables-restore without a flavour in its name; empty when there is none.
func plainFlavour(ctx context.Context, dirs []string, name string) (Flavour, error) {
	path := find(dirs, name+"-restore")
	if path == "" || find(dirs, name+"-nft-restore") != "" && find(dirs, name+"-legacy-restore") != "" {
		return "", nil
	}
	out, err := run(ctx, "", path, "--version")
	if ctx.Err() != nil {
		return "", err
	}
	// Versions before the split know neither the word nor, some of them, the option.
	if err == nil && strings.Contains(out, "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

func find(dirs []string, name string) string {
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			continue // running as root, not from wherever the caller stands
		}
		p := filepath.Join(d, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// read returns the rules of the tool's flavour and family. Reading never creates a table.
func (t tool) read(ctx context.Context) (*ruleset, error) {
	if t.flavour == Legacy && !legacyTables(t.family) {
		return &ruleset{}, nil
	}
	out, err := run(ctx, "", t.save)
	if err != nil {
		return nil, err
	}
	rs, err := parseSave(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.save, err)
	}
	return rs, nil
}

// legacyTables reports whether the namespace has legacy tables at all. It avoids a process, and old versions of
// iptables-save that create what they look for. /proc/net alone would be that of the first thread.
func legacyTables(f tp.Family) bool {
	name := "ip_tables_names"
	if f == tp.IPv6 {
		name = "ip6_tables_names"
	}
	b, err := os.ReadFile("/proc/thread-self/net/" + name)
	return err == nil && len(bytes.TrimSpace(b)) > 0
}

// write gives the text to iptables-restore, waiting at most so long for another user of the lock.
func (t tool) write(ctx context.Context, text string, wait time.Duration, more ...string) error {
	args := append([]string{"--noflush"}, more...)
	if s := int((wait + time.Second - 1) / time.Second); s > 0 {
		args = append(args, "--wait="+strconv.Itoa(s))
	}
	_, err := run(ctx, text, t.restore, args...)
	return err
}

// badLine is how iptables-restore names a line of its input.
var badLine = regexp.MustCompile(`line:? (\d+)`)

// run runs a tool and returns its output. An error carries the command, what it said and the line of input it names.
func run(ctx context.Context, input, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = killDelay
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	said := strings.Join(strings.FieldsFunc(stderr.String(), func(r rune) bool { return r == '\n' }), "; ")
	if m := badLine.FindStringSubmatch(said); m != nil {
		lines := strings.Split(input, "\n")
		if n, convErr := strconv.Atoi(m[1]); convErr == nil && n >= 1 && n <= len(lines) {
			said += fmt.Sprintf(" (%s)", lines[n-1])
		}
	}
	return "", fmt.Errorf("run %s: %w: %s", strings.Join(append([]string{path}, args...), " "), err, said)
}
