package settings

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Annotations that are not the text of one setting (contract transparentproxy.md §1.7).
const (
	trafficDomain  = "traffic.kuma.io/"
	wholeConfig    = trafficDomain + "transparent-proxy-config"
	configMapName  = trafficDomain + "transparent-proxy-configmap-name"
	probeProxyPort = "kuma.io/application-probe-proxy-port"
	sidecarUID     = "kuma.io/sidecar-uid"
)

// defaultProbeProxyPort is where kuma-dp answers the probes of a pod whose annotations do not say.
const defaultProbeProxyPort = "9001"

// readAnnotations reads the annotations of a pod: the one that has all settings or, without it, those that have one each.
func (l *loader) readAnnotations() error {
	all := maps.Clone(l.Annotations)
	if file := l.given(flagAnnotations); file != nil {
		if l.ReadFile == nil {
			return fmt.Errorf("read annotations: no files can be read, not even %s", file[0])
		}
		b, err := l.ReadFile(file[0])
		if err != nil {
			return fmt.Errorf("read annotations: %w", err)
		}
		more, err := parseAnnotations(string(b))
		if err != nil {
			return fmt.Errorf("read annotations of %s: %w", file[0], err)
		}
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, more)
	}
	if all == nil {
		return nil
	}
	if text, ok := all[wholeConfig]; ok {
		return l.document("annotation "+wholeConfig, []byte(text))
	}
	known := []string{configMapName}
	for i := range table {
		s := &table[i]
		text, ok := all[s.annotation]
		if s.annotation == "" || !ok {
			continue
		}
		known = append(known, s.annotation)
		if err := l.annotation(s, text); err != nil {
			return fmt.Errorf("annotation %s: %w", s.annotation, err)
		}
	}
	if err := l.excludeProbes(all); err != nil {
		return fmt.Errorf("annotation %s: %w", probeProxyPort, err)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, trafficDomain) && !slices.Contains(known, name) {
			l.warn("annotation %s is not known and ignored", name)
		}
	}
	if name := all[configMapName]; name != "" && l.files == 0 {
		l.warn("annotation %s names the ConfigMap %s, which is not read: mount its config.yaml and give it to --config-file", configMapName, name)
	}
	return nil
}

func (l *loader) annotation(s *setting, text string) error {
	words := s.words
	if words == nil && s.kind == "bool" {
		words = onOff
	}
	if words != nil {
		var err error
		if text, err = words(text); err != nil || text == "" {
			return err
		}
	}
	if err := s.apply(l.draft, text); err != nil {
		return err
	}
	// The pod's user is not among those of this file system.
	l.Config.UIDOnly = l.Config.UIDOnly || s.annotation == sidecarUID
	return nil
}

// excludeProbes keeps the port of probes out of redirection: the kubelet that asks there has no identity of the mesh.
func (l *loader) excludeProbes(all map[string]string) error {
	text, ok := all[probeProxyPort]
	if !ok {
		text = defaultProbeProxyPort
	}
	if text == "0" {
		return nil
	}
	p, err := tp.ParsePorts(text)
	if err == nil && (len(p) != 1 || p[0].First != p[0].Last) {
		err = fmt.Errorf("value '%s' is not one port", text)
	}
	if err == nil && len(l.Config.Inbound.IncludePorts) == 0 {
		l.Config.Inbound.ExcludePorts = append(slices.Clip(l.Config.Inbound.ExcludePorts), p...)
	}
	return err
}

// onOff reads the words that annotations use for a bool.
func onOff(s string) (string, error) {
	switch s {
	case "enabled", "true":
		return "true", nil
	case "disabled", "false":
		return "false", nil
	}
	return "", fmt.Errorf("value '%s' must be one of enabled, true, disabled, false", s)
}

// gateway is the other way round: a gateway takes inbound traffic itself. No gateway says nothing.
func gateway(s string) (string, error) {
	is, err := onOff(s)
	if is == "true" {
		return "false", nil
	}
	return "", err
}

// parseAnnotations reads the file of the downward API: a line key="value" each, quoted as Go does.
func parseAnnotations(text string) (map[string]string, error) {
	out := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, quoted, _ := strings.Cut(line, "=")
		value, err := strconv.Unquote(quoted)
		if err != nil || key == "" || !strings.HasPrefix(quoted, `"`) {
			return nil, fmt.Errorf("line %d: want key=\"value\", as the downward API writes metadata.annotations", n)
		}
		out[key] = value
	}
	return out, nil
}
