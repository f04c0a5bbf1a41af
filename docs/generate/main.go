// Command generate writes docs/reference/<command>.md from the help texts of the built binaries,
// docs/reference/kinds/<kind>.md from the schemas and validations of the kinds, and the tables in
// docs/reference/transparent-proxy.md and docs/reference/dns.md.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := writeKinds("."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	for _, p := range blockPages {
		if err := p.write("."); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
	for _, name := range []string{"kuma-cp", "kuma-dp", "kumactl", "kuma-init"} {
		if err := write(name); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}

func writeKinds(root string) error {
	pages, err := kindPages(root)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "docs", "reference", "kinds")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func write(name string) error {
	var page bytes.Buffer
	fmt.Fprintf(&page, "# %s\n\nMade from `%s --help` by `make generate`; do not edit.\n", name, name)
	if err := describe(&page, name, nil); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("docs", "reference", name+".md"), page.Bytes(), 0o644)
}

// describe writes the help of a command and then of its sub-commands.
func describe(page *bytes.Buffer, name string, path []string) error {
	cmd := exec.Command(filepath.Join("bin", name), append(path, "--help")...)
	// Defaults must not depend on who generates.
	cmd.Env = []string{"HOME=/root", "PATH=/usr/bin:/bin"}
	help, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	fmt.Fprintf(page, "\n## %s\n\n```text\n%s\n```\n", strings.Join(append([]string{name}, path...), " "), bytes.TrimSpace(help))
	for _, sub := range commands(string(help)) {
		if err := describe(page, name, append(path[:len(path):len(path)], sub)); err != nil {
			return err
		}
	}
	return nil
}

// commands reads the names below "Available Commands:", without those that every command has.
func commands(help string) []string {
	_, list, ok := strings.Cut(help, "Available Commands:\n")
	if !ok {
		return nil
	}
	var names []string
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			break
		}
		if fields[0] != "help" && fields[0] != "completion" {
			names = append(names, fields[0])
		}
	}
	return names
}
