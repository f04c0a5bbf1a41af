package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// The table of settings stands between these lines of docs/reference/transparent-proxy.md; the rest is written by hand.
const (
	settingsBegin = "<!-- settings: made by `make generate`, do not edit -->\n"
	settingsEnd   = "<!-- end of settings -->\n"
)

func writeRedirection(root string) error {
	path := filepath.Join(root, "docs", "reference", "transparent-proxy.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if page, err = withSettings(page); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, page, 0o644)
}

// withSettings exchanges the table of a page.
func withSettings(page []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(page, []byte(settingsBegin))
	_, tail, closed := bytes.Cut(rest, []byte(settingsEnd))
	if !ok || !closed {
		return nil, fmt.Errorf("the lines %q and %q are missing", settingsBegin, settingsEnd)
	}
	var out bytes.Buffer
	out.Write(head)
	out.WriteString(settingsBegin + "| Key | Flag | Variable | Annotation | Default | Meaning |\n|---|---|---|---|---|---|\n")
	for _, r := range settings.References() {
		flag := r.Flag
		if flag != "" {
			flag = "--" + flag
		}
		for _, cell := range []string{r.Key, flag, strings.TrimPrefix(r.Env, "KUMA_TRANSPARENT_PROXY_"), r.Annotation, r.Default} {
			if cell != "" {
				cell = "`" + cell + "`"
			}
			fmt.Fprintf(&out, "| %s ", cell)
		}
		fmt.Fprintf(&out, "| %s |\n", strings.ReplaceAll(r.Meaning, "|", `\|`))
	}
	out.WriteString(settingsEnd)
	out.Write(tail)
	return out.Bytes(), nil
}
