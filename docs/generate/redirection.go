package main

import (
	"strings"

	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

func redirectionSettings() (string, error) {
	var out strings.Builder
	out.WriteString("| Key | Flag | Variable | Annotation | Default | Meaning |\n|---|---|---|---|---|---|\n")
	for _, r := range settings.References() {
		row(&out, r.Key, dashed(r.Flag), strings.TrimPrefix(r.Env, "KUMA_TRANSPARENT_PROXY_"), r.Annotation, r.Default, r.Meaning)
	}
	return out.String(), nil
}

func dashed(flag string) string {
	if flag == "" {
		return ""
	}
	return "--" + flag
}
