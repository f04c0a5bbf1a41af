package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// redirectFile is the form of --transparent-proxy-config: that of 2.9's configuration of the transparent proxy, in YAML or JSON
// (contract transparentproxy.md §1). What is not given stays as it is.
type redirectFile struct {
	KumaDPUser   *string `json:"kumaDPUser"`
	IPFamilyMode *string `json:"ipFamilyMode"`
	Redirect     struct {
		Inbound  direction `json:"inbound"`
		Outbound direction `json:"outbound"`
		DNS      struct {
			Enabled    *bool   `json:"enabled"`
			CaptureAll *bool   `json:"captureAll"`
			Port       *uint16 `json:"port"`
		} `json:"dns"`
		VNet struct {
			Networks list `json:"networks"`
		} `json:"vnet"`
	} `json:"redirect"`
}

type direction struct {
	Enabled           *bool   `json:"enabled"`
	Port              *uint16 `json:"port"`
	IncludePorts      list    `json:"includePorts"`
	ExcludePorts      list    `json:"excludePorts"`
	ExcludePortsForIP list    `json:"excludePortsForIPs"`
}

// list is a list of numbers and texts, or one text with commas.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = strings.Split(one, ",")
		return nil
	}
	var many []any
	if err := json.Unmarshal(b, &many); err != nil {
		return err
	}
	for _, v := range many {
		*l = append(*l, fmt.Sprint(v))
	}
	return nil
}

// readRedirectConfig reads the files over the defaults, each over those before it; - is standard input.
func readRedirectConfig(files []string, in io.Reader) (tp.Config, error) {
	cfg := tp.DefaultConfig()
	for _, name := range files {
		var text []byte
		var err error
		if name == "-" {
			text, err = io.ReadAll(in)
		} else {
			text, err = os.ReadFile(name)
		}
		var f redirectFile
		if err == nil {
			err = yamljson.UnmarshalStrict(text, &f)
		}
		if err == nil {
			err = f.apply(&cfg)
		}
		if err != nil {
			return cfg, fmt.Errorf("read --transparent-proxy-config %s: %w", name, err)
		}
	}
	return cfg, cfg.Validate()
}

func (f *redirectFile) apply(c *tp.Config) (err error) {
	set(&c.User, f.KumaDPUser)
	if f.IPFamilyMode != nil {
		if c.IPFamilyMode, err = tp.ParseFamilyMode(*f.IPFamilyMode); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		from             *direction
		enabled          *bool
		port             *uint16
		include, exclude *tp.Ports
		ips              *[]netip.Prefix
	}{
		{&f.Redirect.Inbound, &c.Inbound.Enabled, &c.Inbound.Port, &c.Inbound.IncludePorts, &c.Inbound.ExcludePorts, &c.Inbound.ExcludeIPs},
		{&f.Redirect.Outbound, &c.Outbound.Enabled, &c.Outbound.Port, &c.Outbound.IncludePorts, &c.Outbound.ExcludePorts, &c.Outbound.ExcludeIPs},
	} {
		set(d.enabled, d.from.Enabled)
		set(d.port, d.from.Port)
		if err := parse(d.include, d.from.IncludePorts, tp.ParsePorts); err != nil {
			return err
		}
		if err := parse(d.exclude, d.from.ExcludePorts, tp.ParsePorts); err != nil {
			return err
		}
		if err := parse(d.ips, d.from.ExcludePortsForIP, tp.ParseIPs); err != nil {
			return err
		}
	}
	set(&c.DNS.Enabled, f.Redirect.DNS.Enabled)
	set(&c.DNS.CaptureAll, f.Redirect.DNS.CaptureAll)
	set(&c.DNS.Port, f.Redirect.DNS.Port)
	for _, n := range f.Redirect.VNet.Networks {
		v, err := tp.ParseVNet(n)
		if err != nil {
			return err
		}
		c.VNets = append(c.VNets, v)
	}
	return nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func parse[T any](to *T, from list, read func(string) (T, error)) error {
	if from == nil {
		return nil
	}
	v, err := read(strings.Join(from, ","))
	if err == nil {
		*to = v
	}
	return err
}
