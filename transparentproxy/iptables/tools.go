//go:build linux

package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
// asked for its version. Given executables replace those of their flavour; with those of IPv4, fixed is it.
func findTools(ctx context.Context, cfg *Config) (found []tool, fixed Flavour, err error) {
	dirs := append(filepath.SplitList(cfg.Path), standardDirs...)
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		name := command(family)
		given, err := givenTool(ctx, cfg, family)
		if ctx.Err() != nil {
			return nil, "", err
		}
		if err == nil && given != nil && fixed != "" && given.flavour != fixed {
			err = fmt.Errorf("they are of the flavour %s, those of IPv4 of %s", given.flavour, fixed)
		}
		if err != nil {
			given = nil
			cfg.Log.Warn("given executables cannot be used, those of this host are", "family", family, "error", err)
		}
		plain, err := plainFlavour(ctx, cfg, dirs, name)
		if err != nil {
			return nil, "", err
		}
		for _, fl := range flavours {
			if given != nil && given.flavour == fl {
				found = append(found, *given)
				if family == tp.IPv4 {
					fixed = fl
				}
				continue
			}
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
	return found, fixed, nil
}

// givenTool is what the configuration names for a family, nil when it names nothing.
func givenTool(ctx context.Context, cfg *Config, family tp.Family) (*tool, error) {
	e, ok := cfg.Executables[family]
	if !ok {
		return nil, nil
	}
	t := &tool{family: family, save: e.Save, restore: e.Restore}
	for _, path := range []string{e.IPTables, e.Save, e.Restore} {
		if !filepath.IsAbs(path) || !isExecutable(path) {
			return nil, fmt.Errorf("%q is not the absolute path of a program", path)
		}
		fl, err := flavourOf(ctx, cfg, path)
		if err != nil {
			return nil, err
		}
		if t.flavour != "" && fl != t.flavour {
			return nil, fmt.Errorf("%s is of the flavour %s, %s of %s", e.IPTables, t.flavour, path, fl)
		}
		t.flavour = fl
	}
	return t, nil
}

// plainFlavour asks iptables-restore without a flavour in its name; empty when there is none.
func plainFlavour(ctx context.Context, cfg *Config, dirs []string, name string) (Flavour, error) {
	path := find(dirs, name+"-restore")
	if path == "" || find(dirs, name+"-nft-restore") != "" && find(dirs, name+"-legacy-restore") != "" {
		return "", nil
	}
	return flavourOf(ctx, cfg, path)
}

// flavourOf asks a binary for its version. It fails only when ctx ends.
func flavourOf(ctx context.Context, cfg *Config, path string) (Flavour, error) {
	out, err := cfg.run(ctx, "", path, "--version")
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
		if isExecutable(p) {
			return p
		}
	}
	return ""
}

func isExecutable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// read returns the rules of the tool's flavour and family. Reading never creates a table.
func (t tool) read(ctx context.Context, cfg *Config) (*ruleset, error) {
	if t.flavour == Legacy {
		if there, err := legacyTables(t.family); err != nil || !there {
			return &ruleset{}, err
		}
	}
	if t.flavour == NFT {
		// A host without any table is spared a process.
		if there, err := nftObjects(t.family); err == nil && len(there) == 0 {
			return &ruleset{}, nil
		}
	}
	out, err := cfg.run(ctx, "", t.save)
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
func legacyTables(f tp.Family) (bool, error) {
	name := "ip_tables_names"
	if f == tp.IPv6 {
		name = "ip6_tables_names"
	}
	b, err := os.ReadFile("/proc/thread-self/net/" + name)
	if errors.Is(err, fs.ErrPermission) {
		return false, fmt.Errorf("list legacy iptables tables: %w: only root may", err)
	}
	return err == nil && len(bytes.TrimSpace(b)) > 0, nil
}

// write gives the text to iptables-restore, which waits for another user of the lock.
func (t tool) write(ctx context.Context, cfg *Config, text string, more ...string) error {
	args := append([]string{"--noflush"}, more...)
	if s := int((cfg.Wait + time.Second - 1) / time.Second); s > 0 {
		args = append(args, "--wait="+strconv.Itoa(s))
		if cfg.WaitInterval > 0 && t.flavour == Legacy {
			args = append(args, "--wait-interval="+strconv.FormatInt(cfg.WaitInterval.Microseconds(), 10))
		}
	}
	_, err := cfg.run(ctx, text, t.restore, args...)
	return cfg.lockHolder(err)
}
