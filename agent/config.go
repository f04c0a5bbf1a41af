package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Config is all that can be said to kuma-dp run. DefaultConfig gives the defaults; Bind ties it to flags; LoadEnv lets the
// environment override them, as in Kuma 2.9 (contract agent.md §1.3). The JSON form is what is logged.
type Config struct {
	ControlPlane     ControlPlane      `json:"controlPlane"`
	Dataplane        Dataplane         `json:"dataplane"`
	DataplaneRuntime Runtime           `json:"dataplaneRuntime"`
	DNS              DNS               `json:"dns"`
	Identity         Identity          `json:"identity"`
	WorkloadAPI      WorkloadAPI       `json:"workloadApi"`
	ProbeProxy       ProbeProxy        `json:"applicationProbeProxyServer"`
	Log              *slog.Logger      `json:"-"`
	LogLevel         string            `json:"-"` // for Envoy, when it is given none of its own
	inPod            bool              // probes come from outside of the network namespace
	deprecated       map[string]string // flags that were given and have no effect → their variables
}

// ControlPlane says where the control plane is and why to trust it.
type ControlPlane struct {
	// URL of the data-plane server; default https://localhost:5678.
	URL   string `json:"url"`
	Retry Retry  `json:"retry"`
	// CACert is PEM and goes before CACertFile. With neither, the system's authorities are trusted.
	CACert     string `json:"caCert"`
	CACertFile string `json:"caCertFile"`
	// SkipVerify accepts any certificate (unlike 2.9.13, which does so whenever it has no CA).
	SkipVerify bool `json:"tlsSkipVerify,omitempty"`
}

// Retry bounds the attempts to fetch the bootstrap configuration.
type Retry struct {
	Backoff     Duration `json:"backoff"`     // default 3s
	MaxDuration Duration `json:"maxDuration"` // default 5m
}

// Dataplane says which proxy this is.
type Dataplane struct {
	Mesh string `json:"mesh,omitempty"`
	Name string `json:"name,omitempty"`
	// ProxyType is dataplane (default), ingress or egress.
	ProxyType string   `json:"proxyType"`
	DrainTime Duration `json:"drainTime"` // default 30s
	// ReadinessPort is where /ready is served; default 9902, 0 serves none.
	ReadinessPort uint32 `json:"readinessPort"`
}

// Runtime says how Envoy and the agent run.
type Runtime struct {
	BinaryPath  string `json:"binaryPath"` // default envoy
	ConfigDir   string `json:"configDir,omitempty"`
	SocketDir   string `json:"socketDir,omitempty"`
	Concurrency uint32 `json:"concurrency,omitempty"`
	// TokenPath is preferred over Token, which is visible to all users of the host when given as a flag.
	TokenPath              string            `json:"dataplaneTokenPath,omitempty"`
	Token                  string            `json:"dataplaneToken,omitempty"`
	Resource               string            `json:"resource,omitempty"`
	ResourcePath           string            `json:"resourcePath,omitempty"` // - is standard input
	ResourceVars           map[string]string `json:"resourceVars,omitempty"`
	EnvoyLogLevel          string            `json:"envoyLogLevel,omitempty"`
	EnvoyComponentLogLevel string            `json:"envoyComponentLogLevel,omitempty"`
	// MaxMemoryBytes is 0 to take the limit of the control group.
	MaxMemoryBytes  uint64 `json:"maxMemoryBytes,omitempty"`
	MetricsCertPath string `json:"metricsCertPath,omitempty"`
	MetricsKeyPath  string `json:"metricsKeyPath,omitempty"`
	SystemCAPath    string `json:"systemCaPath,omitempty"`
	IPv6Enabled     bool   `json:"IPv6Enabled"`
	// TransparentProxy says that this host's traffic is redirected for as long as the proxy runs, TransparentProxyConfig by which
	// files (- is standard input). Whoever runs the agent does it; the agent checks that the proxy expects it.
	TransparentProxy       bool     `json:"transparentProxy,omitempty"`
	TransparentProxyConfig []string `json:"transparentProxyConfig,omitempty"`
	// TransparentProxyBackend is how rules get into the kernel; empty chooses.
	TransparentProxyBackend string `json:"transparentProxyBackend,omitempty"`
	// DynamicConfigRefresh is how often Envoy is asked for names that the control plane has it answer; default 10s. A change
	// is seen at once without it.
	DynamicConfigRefresh Duration `json:"dynamicConfigRefresh"`
}

// Redirects reports whether the host's traffic is redirected for as long as the proxy runs.
func (r *Runtime) Redirects() bool { return r.TransparentProxy || len(r.TransparentProxyConfig) > 0 }

// ProbeProxy rewrites health probes of the orchestrator to the workload.
type ProbeProxy struct {
	// Port is 0 (default, unlike 2.9's 9001) for none (demands.md §3.3, assertion 6b).
	Port uint32 `json:"port"`
}

// Duration is a time.Duration that is a Go duration string in JSON.
type Duration time.Duration

// MarshalText writes the Go form, such as 5m0s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		ControlPlane:     ControlPlane{URL: "https://localhost:5678", Retry: Retry{Backoff: Duration(3 * time.Second), MaxDuration: Duration(5 * time.Minute)}},
		Dataplane:        Dataplane{ProxyType: "dataplane", DrainTime: Duration(30 * time.Second), ReadinessPort: 9902},
		DataplaneRuntime: Runtime{BinaryPath: "envoy", IPv6Enabled: true, DynamicConfigRefresh: Duration(10 * time.Second)},
		DNS:              defaultDNS(),
		Identity:         defaultIdentity(),
		LogLevel:         "info",
	}
}

// tokenVariable is the variable with a token, which no child gets.
const tokenVariable = "KUMA_DATAPLANE_RUNTIME_TOKEN" //nolint:gosec // a name, not a token

// setting is one option: a flag, an environment variable, or both.
type setting struct {
	flag, short, env, help string
	add                    func(flags *pflag.FlagSet, name, short, help string)
}

func (c *Config) settings() []setting {
	cp, dp, rt := &c.ControlPlane, &c.Dataplane, &c.DataplaneRuntime
	return append([]setting{
		{"cp-address", "", "KUMA_CONTROL_PLANE_URL", "URL of the control plane's data-plane server", text(&cp.URL)},
		{"", "", "KUMA_CONTROL_PLANE_RETRY_BACKOFF", "", duration(&cp.Retry.Backoff)},
		{"", "", "KUMA_CONTROL_PLANE_RETRY_MAX_DURATION", "", duration(&cp.Retry.MaxDuration)},
		{"", "", "KUMA_CONTROL_PLANE_CA_CERT", "", text(&cp.CACert)},
		{"ca-cert-file", "", "KUMA_CONTROL_PLANE_CA_CERT_FILE", "file with the CA by which the control plane is verified", text(&cp.CACertFile)},
		{"skip-verify", "", "KUMA_CONTROL_PLANE_TLS_SKIP_VERIFY", "accept any certificate of the control plane (insecure)", boolean(&cp.SkipVerify)},
		{"mesh", "", "KUMA_DATAPLANE_MESH", "mesh of the proxy", text(&dp.Mesh)},
		{"name", "", "KUMA_DATAPLANE_NAME", "name of the proxy", text(&dp.Name)},
		{"proxy-type", "", "KUMA_DATAPLANE_PROXY_TYPE", "dataplane, ingress or egress", text(&dp.ProxyType)},
		{"drain-time", "", "KUMA_DATAPLANE_DRAIN_TIME", "how long to drain connections before Envoy is stopped", duration(&dp.DrainTime)},
		{"", "", "KUMA_READINESS_PORT", "", number(&dp.ReadinessPort)},
		{"binary-path", "", "KUMA_DATAPLANE_RUNTIME_BINARY_PATH", "Envoy: a path, or a name looked up on PATH", text(&rt.BinaryPath)},
		{"config-dir", "", "KUMA_DATAPLANE_RUNTIME_CONFIG_DIR", "directory for Envoy's bootstrap configuration; default a new temporary one", text(&rt.ConfigDir)},
		{"", "", "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR", "", text(&rt.SocketDir)},
		{"work-dir", "", "KUMA_DATAPLANE_RUNTIME_WORK_DIR", "one directory for both configuration and sockets", func(f *pflag.FlagSet, name, short, help string) {
			f.VarP(funcValue{func(v string) error { rt.ConfigDir, rt.SocketDir = v, v; return nil }, "string"}, name, short, help)
		}},
		{"concurrency", "", "KUMA_DATAPLANE_RUNTIME_CONCURRENCY", "Envoy's worker threads; 0 takes all processors", number(&rt.Concurrency)},
		{"dataplane-token-file", "", "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH", "file with the dataplane token", text(&rt.TokenPath)},
		{"dataplane-token", "", tokenVariable, "dataplane token; visible in the process list, prefer the file", text(&rt.Token)},
		{"dataplane", "", "KUMA_DATAPLANE_RUNTIME_RESOURCE", "Dataplane resource as text", text(&rt.Resource)},
		{"dataplane-file", "d", "KUMA_DATAPLANE_RUNTIME_RESOURCE_PATH", "file with the Dataplane resource, - for standard input", text(&rt.ResourcePath)},
		{"dataplane-var", "v", "", "variables of the resource's template: k=v,k2=v2", func(f *pflag.FlagSet, name, short, help string) {
			f.StringToStringVarP(&rt.ResourceVars, name, short, nil, help)
		}},
		{"envoy-log-level", "", "KUMA_DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL", "Envoy's log level; default that of --log-level", text(&rt.EnvoyLogLevel)},
		{"envoy-component-log-level", "", "KUMA_DATAPLANE_RUNTIME_ENVOY_COMPONENT_LOG_LEVEL", "Envoy's log levels by component", text(&rt.EnvoyComponentLogLevel)},
		{"", "", "KUMA_DATAPLANE_RESOURCES_MAX_MEMORY_BYTES", "", func(f *pflag.FlagSet, name, short, help string) {
			f.Uint64VarP(&rt.MaxMemoryBytes, name, short, rt.MaxMemoryBytes, help)
		}},
		{"metrics-cert-path", "", "KUMA_DATAPLANE_RUNTIME_METRICS_CERT_PATH", "certificate of the metrics listener", text(&rt.MetricsCertPath)},
		{"metrics-key-path", "", "KUMA_DATAPLANE_RUNTIME_METRICS_KEY_PATH", "key of the metrics listener", text(&rt.MetricsKeyPath)},
		{"", "", "KUMA_DATAPLANE_RUNTIME_DYNAMIC_SYSTEM_CA_PATH", "", text(&rt.SystemCAPath)},
		{"", "", "KUMA_DATAPLANE_RUNTIME_IPV6_ENABLED", "", boolean(&rt.IPv6Enabled)},
		{"", "", "KUMA_DATAPLANE_RUNTIME_DYNAMIC_CONFIGURATION_REFRESH_INTERVAL", "", duration(&rt.DynamicConfigRefresh)},
		{"transparent-proxy", "", "KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY", "redirect this host's traffic to Envoy for as long as it runs", boolean(&rt.TransparentProxy)},
		{"transparent-proxy-config", "", "KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY_CONFIG", "files that say what to redirect, - for standard input; implies --transparent-proxy", func(f *pflag.FlagSet, name, short, help string) {
			f.StringSliceVarP(&rt.TransparentProxyConfig, name, short, rt.TransparentProxyConfig, help)
		}},
		{
			"backend", "", "KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY_BACKEND",
			"how the rules of --transparent-proxy get into the kernel, as of 'kumactl install transparent-proxy'; empty keeps the one in use, or else takes the first that works",
			text(&rt.TransparentProxyBackend),
		},
		{"", "", "KUMA_APPLICATION_PROBE_PROXY_PORT", "", number(&c.ProbeProxy.Port)},
	}, slices.Concat(c.identitySettings(), c.workloadAPISettings(), c.dnsSettings())...)
}

// Option is one setting as documents show it.
type Option struct {
	Flag, Env, Default, Meaning string // the first two may be empty
}

// Options lists all settings in the order in which they are declared, with the values of c as defaults.
func (c *Config) Options() []Option {
	var out []Option
	for _, s := range c.settings() {
		one := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.add(one, "x", "", "")
		out = append(out, Option{s.flag, s.env, one.Lookup("x").DefValue, s.help})
	}
	return out
}

// Bind adds the flags of c to flags.
func (c *Config) Bind(flags *pflag.FlagSet) {
	for _, s := range c.settings() {
		if s.flag != "" {
			s.add(flags, s.flag, s.short, s.help)
		}
	}
}

// LoadEnv takes settings from the environment, which go before flags. Empty variables count as not set.
func (c *Config) LoadEnv(lookup func(string) (string, bool)) error {
	var bad []string
	for _, s := range c.settings() {
		value, ok := lookup(s.env)
		if s.env == "" || !ok || value == "" {
			continue
		}
		one := pflag.NewFlagSet(s.env, pflag.ContinueOnError)
		s.add(one, "x", "", "")
		if err := one.Lookup("x").Value.Set(value); err != nil {
			bad = append(bad, fmt.Sprintf("%s=%q: %v", s.env, value, err))
		}
	}
	pod, okPod := lookup("POD_NAME")
	c.inPod = okPod
	ns, okNS := lookup("POD_NAMESPACE")
	if name := c.Dataplane.Name; okPod && okNS && (name == "" || strings.ContainsAny(name, "$(){}")) {
		c.Dataplane.Name = pod + "." + ns
	}
	if len(bad) > 0 {
		return fmt.Errorf("read environment: %s", strings.Join(bad, "; "))
	}
	return nil
}

// ignored is an option that only meant something to CoreDNS, which the built-in resolver replaces.
func (c *Config) ignored(flag, env, kind string) setting {
	return setting{flag, "", env, "no effect: the resolver is built in", func(f *pflag.FlagSet, name, short, help string) {
		v := f.VarPF(funcValue{func(string) error {
			if c.deprecated == nil {
				c.deprecated = map[string]string{}
			}
			c.deprecated["--"+flag] = env
			return nil
		}, kind}, name, short, help)
		if kind == "bool" {
			v.NoOptDefVal = "true"
		}
	}}
}

// funcValue is a pflag.Value that calls a function.
type funcValue struct {
	set  func(string) error
	kind string
}

func (v funcValue) String() string     { return "" }
func (v funcValue) Set(s string) error { return v.set(s) }
func (v funcValue) Type() string       { return v.kind }

type adder = func(f *pflag.FlagSet, name, short, help string)

func text(p *string) adder {
	return func(f *pflag.FlagSet, name, short, help string) { f.StringVarP(p, name, short, *p, help) }
}

func boolean(p *bool) adder {
	return func(f *pflag.FlagSet, name, short, help string) { f.BoolVarP(p, name, short, *p, help) }
}

func number(p *uint32) adder {
	return func(f *pflag.FlagSet, name, short, help string) { f.Uint32VarP(p, name, short, *p, help) }
}

func duration(p *Duration) adder {
	return func(f *pflag.FlagSet, name, short, help string) {
		f.DurationVarP((*time.Duration)(p), name, short, time.Duration(*p), help)
	}
}
