package agent

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// ErrConfig marks mistakes in flags, environment or files, so that a caller can exit with a code of its own for them.
var ErrConfig = errors.New("configuration is not usable")

// configError is ErrConfig with its own words.
type configError struct{ text string }

func (e configError) Error() string        { return e.text }
func (e configError) Is(target error) bool { return target == ErrConfig }

// maxPort is not the largest port: Kuma checks for this number (contract agent.md §1.4).
const maxPort = 65353

var proxyTypes = []string{"dataplane", "ingress", "egress"}

// Validate returns all problems at once, with the texts of Kuma (contract agent.md §1.4).
func (c *Config) Validate() error {
	sections := []struct {
		name     string
		problems []string
	}{
		{"ControlPlane", c.ControlPlane.problems()},
		{"Dataplane", c.Dataplane.problems(c.DataplaneRuntime.Resource != "" || c.DataplaneRuntime.ResourcePath != "")},
		{"DataplaneRuntime", c.DataplaneRuntime.problems()},
		{"DNS", c.DNS.problems()},
		{"WorkloadAPI", c.WorkloadAPI.problems(c.Dataplane.ProxyType)},
		{"Identity", c.Identity.problems(c.Dataplane.ProxyType)},
		{"ApplicationProbeProxyServer", c.ProbeProxy.problems()},
	}
	var all []string
	for _, s := range sections {
		if len(s.problems) > 0 {
			all = append(all, "."+s.name+" is not valid: "+strings.Join(s.problems, "; "))
		}
	}
	if len(all) > 0 {
		return configError{"configuration validation failed: " + strings.Join(all, "; ")}
	}
	return nil
}

func (c *ControlPlane) problems() (out []string) {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		out = append(out, ".Url is not valid")
	}
	if c.Retry.Backoff <= 0 {
		out = append(out, ".Retry is not valid: .Backoff must be a positive duration")
	}
	if c.Retry.MaxDuration <= 0 {
		out = append(out, ".Retry is not valid: .MaxDuration must be a positive duration")
	}
	if c.SkipVerify && (c.CACert != "" || c.CACertFile != "") {
		out = append(out, "a CA certificate and --skip-verify contradict each other: leave one out")
	}
	return out
}

func (d *Dataplane) problems(resourceGiven bool) (out []string) {
	if !resourceGiven {
		if !slices.Contains(proxyTypes, d.ProxyType) {
			out = append(out, ".ProxyType is not valid: "+d.ProxyType+" is not a valid proxy type")
		}
		if d.Mesh == "" && d.ProxyType == "dataplane" {
			out = append(out, ".Mesh must be non-empty")
		}
		if d.Name == "" {
			out = append(out, ".Name must be non-empty")
		}
	}
	if d.DrainTime <= 0 {
		out = append(out, ".DrainTime must be positive")
	}
	if d.ReadinessPort > maxPort {
		out = append(out, ".ReadinessPort has to be in [0, 65353] range")
	}
	return out
}

func (r *Runtime) problems() (out []string) {
	if r.BinaryPath == "" {
		out = append(out, ".BinaryPath must be non-empty")
	}
	if r.DynamicConfigRefresh <= 0 {
		out = append(out, ".DynamicConfiguration is not valid: .RefreshInterval must be a positive duration")
	}
	return out
}

func (p *ProbeProxy) problems() (out []string) {
	if p.Port > 65535 {
		out = append(out, ".Port has to be in [0, 65535] range")
	}
	return out
}
