package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/agent/nametable"
	"github.com/kuma-dp/kuma-dp/dns"
)

func dnsSettings() (string, error) {
	var out strings.Builder
	out.WriteString("| Flag | Variable | Default | Meaning |\n|---|---|---|---|\n")
	cfg := agent.DefaultConfig()
	for _, o := range cfg.Options() {
		if strings.HasPrefix(o.Flag, "dns-") {
			row(&out, "--"+o.Flag, o.Env, strings.TrimSuffix(strings.TrimPrefix(o.Default, "["), "]"), o.Meaning)
		}
	}
	return out.String(), nil
}

func dnsMetrics() (string, error) {
	var metrics recorder
	if _, err := dns.New(dns.Config{Metrics: &metrics}); err != nil {
		return "", err
	}
	if _, err := nametable.New(nametable.Config{Metrics: &metrics}); err != nil {
		return "", err
	}
	return metrics.table()
}

// recorder is a prometheus.Registerer that notes what metrics there are.
type recorder struct{ descriptions []string }

func (r *recorder) Register(c prometheus.Collector) error {
	found := make(chan *prometheus.Desc)
	go func() { c.Describe(found); close(found) }()
	for d := range found {
		r.descriptions = append(r.descriptions, d.String())
	}
	return nil
}

func (r *recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = r.Register(c) // it returns no error
	}
}

func (r *recorder) Unregister(prometheus.Collector) bool { return false }

// description is how a prometheus.Desc prints itself, the only way in which it tells what it is.
var description = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "([^"]+)", unit: "[^"]*", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

func (r *recorder) table() (string, error) {
	var out strings.Builder
	out.WriteString("| Metric | Labels | Meaning |\n|---|---|---|\n")
	for _, d := range r.descriptions {
		m := description.FindStringSubmatch(d)
		if m == nil {
			return "", fmt.Errorf("a metric describes itself in a new way: %s", d)
		}
		row(&out, m[1], strings.Trim(m[3]+","+m[4], ","), m[2])
	}
	return out.String(), nil
}
