// Package client is what kumactl needs of a control plane: where it is (the file ~/.kuma/config of Kuma 2.9), its REST
// interface, and which kinds it knows.
package client

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// DefaultAddress is the control plane of this host.
const DefaultAddress = "http://localhost:5681"

// Config is the content of kumactl's file.
type Config struct {
	Contexts       []Context      `json:"contexts,omitempty"`
	ControlPlanes  []ControlPlane `json:"controlPlanes,omitempty"`
	CurrentContext string         `json:"currentContext,omitempty"`
}

// Context chooses a control plane.
type Context struct {
	Name         string `json:"name"`
	ControlPlane string `json:"controlPlane"`
}

// ControlPlane is one that was added under a name.
type ControlPlane struct {
	Name        string      `json:"name"`
	Coordinates Coordinates `json:"coordinates"`
}

// Coordinates say how to reach a control plane.
type Coordinates struct {
	APIServer APIServer `json:"apiServer"`
}

// APIServer is a REST interface and how to authenticate to it.
type APIServer struct {
	URL string `json:"url"`
	// AuthType is "tokens" or empty.
	AuthType string `json:"authType,omitempty"`
	// AuthConf holds the user token under "token".
	AuthConf       map[string]string `json:"authConf,omitempty"`
	CACertFile     string            `json:"caCertFile,omitempty"`
	ClientCertFile string            `json:"clientCertFile,omitempty"`
	ClientKeyFile  string            `json:"clientKeyFile,omitempty"`
	// SkipVerify trusts any certificate; only on explicit demand.
	SkipVerify bool     `json:"skipVerify,omitempty"`
	Headers    []Header `json:"headers,omitempty"`
}

// Header is sent with every request.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// DefaultPath is ~/.kuma/config.
func DefaultPath() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration file: %w; give one with --config-file", err)
	}
	return filepath.Join(home, ".kuma", "config"), nil
}

// Load reads a file; one that is not there is the configuration of DefaultAddress.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c := new(Config)
	if err := yamljson.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read configuration %s: it is not the YAML of kumactl", path) // the cause may quote a token
	}
	return c, nil
}

// Default has one control plane, "local".
func Default() *Config {
	return &Config{
		Contexts:       []Context{{Name: "local", ControlPlane: "local"}},
		ControlPlanes:  []ControlPlane{{Name: "local", Coordinates: Coordinates{APIServer{URL: DefaultAddress}}}},
		CurrentContext: "local",
	}
}

// Redacted returns a copy without the values that let somebody in: those of authConf and of headers.
func (c *Config) Redacted() *Config {
	out := *c
	out.ControlPlanes = slices.Clone(c.ControlPlanes)
	for i := range out.ControlPlanes {
		s := &out.ControlPlanes[i].Coordinates.APIServer
		s.AuthConf = maps.Clone(s.AuthConf)
		for key := range s.AuthConf {
			s.AuthConf[key] = "REDACTED"
		}
		s.Headers = slices.Clone(s.Headers)
		for j := range s.Headers {
			s.Headers[j].Value = "REDACTED"
		}
	}
	return &out
}

// Save replaces the file in one step. Only its owner can read it, since it may hold tokens.
func (c *Config) Save(path string) (err error) {
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	f, err := os.CreateTemp(dir, ".config-") // 0600
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write configuration: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// Current returns the control plane of the current context.
func (c *Config) Current() (*ControlPlane, error) {
	for _, ctx := range c.Contexts {
		if ctx.Name == c.CurrentContext {
			for i := range c.ControlPlanes {
				if c.ControlPlanes[i].Name == ctx.ControlPlane {
					return &c.ControlPlanes[i], nil
				}
			}
		}
	}
	return nil, fmt.Errorf("current context %q names no control plane: use `kumactl config control-planes switch --name=…`", c.CurrentContext)
}

// Add adds a control plane and its context, and makes it the current one.
func (c *Config) Add(cp ControlPlane, overwrite bool) error {
	at := slices.IndexFunc(c.ControlPlanes, func(have ControlPlane) bool { return have.Name == cp.Name })
	switch {
	case at < 0:
		c.ControlPlanes = append(c.ControlPlanes, cp)
	case overwrite:
		c.ControlPlanes[at] = cp
	default:
		return fmt.Errorf("control plane %q is there already: choose another name or add --overwrite", cp.Name)
	}
	c.Contexts = slices.DeleteFunc(c.Contexts, func(have Context) bool { return have.Name == cp.Name })
	c.Contexts = append(c.Contexts, Context{Name: cp.Name, ControlPlane: cp.Name})
	c.CurrentContext = cp.Name
	return nil
}

// Remove takes a control plane and its contexts away.
func (c *Config) Remove(name string) error {
	n := len(c.ControlPlanes)
	c.ControlPlanes = slices.DeleteFunc(c.ControlPlanes, func(have ControlPlane) bool { return have.Name == name })
	if len(c.ControlPlanes) == n {
		return fmt.Errorf("there is no control plane %q", name)
	}
	c.Contexts = slices.DeleteFunc(c.Contexts, func(have Context) bool { return have.ControlPlane == name })
	if !slices.ContainsFunc(c.Contexts, func(have Context) bool { return have.Name == c.CurrentContext }) {
		c.CurrentContext = ""
	}
	return nil
}

// Switch makes the context of a name the current one.
func (c *Config) Switch(name string) error {
	if !slices.ContainsFunc(c.Contexts, func(have Context) bool { return have.Name == name }) {
		return fmt.Errorf("there is no control plane %q", name)
	}
	c.CurrentContext = name
	return nil
}

// CheckURL returns u without a slash at its end when it is the address of a REST interface.
func CheckURL(u string) (string, error) {
	p, err := url.Parse(u)
	if err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "" || p.RawQuery != "" || p.Fragment != "" || p.User != nil {
		return "", fmt.Errorf("address %q is not of the form http(s)://host[:port][/path]", u)
	}
	for len(u) > 0 && u[len(u)-1] == '/' {
		u = u[:len(u)-1]
	}
	return u, nil
}
