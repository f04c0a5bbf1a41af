package resource

import (
	"encoding/json"
	"fmt"
	"strings"
)

// ServiceVIPs are the virtual addresses of the values of kuma.io/service in one mesh, as the control plane remembers them
// in a Config of the name ServiceVIPsName (contract dns.md §2.4). Keys are "0:" and the service; those of other entries
// begin with another number.
type ServiceVIPs map[string]ServiceVIP

// ServiceVIP is the address of one entry and what is found on it.
type ServiceVIP struct {
	Address   string           `json:"address"`
	Outbounds []ServiceVIPPort `json:"outbounds"`
}

// ServiceVIPPort is one port of an address. The names of its fields are capitalised on the wire.
type ServiceVIPPort struct {
	Port   uint32            `json:"Port"`
	TagSet map[string]string `json:"TagSet"`
	// Origin is "service" for a service of Dataplanes.
	Origin string `json:"Origin"`
}

const (
	serviceVIPsPrefix = "kuma-"
	serviceVIPsSuffix = "-dns-vips"
	serviceVIPKey     = "0:"
)

// ServiceVIPsName names the Config with the ServiceVIPs of a mesh.
func ServiceVIPsName(mesh string) string { return serviceVIPsPrefix + mesh + serviceVIPsSuffix }

// MeshOfServiceVIPs is the reverse of ServiceVIPsName; false for the name of another Config.
func MeshOfServiceVIPs(config string) (mesh string, ok bool) {
	mesh, ok = strings.CutPrefix(config, serviceVIPsPrefix)
	if !ok {
		return "", false
	}
	mesh, ok = strings.CutSuffix(mesh, serviceVIPsSuffix)
	return mesh, ok && mesh != ""
}

// ParseServiceVIPs reads what EncodeServiceVIPs wrote; nothing for a Config that is nil or empty.
func ParseServiceVIPs(c *Config) (ServiceVIPs, error) {
	out := ServiceVIPs{}
	if c == nil || c.Config == "" {
		return out, nil
	}
	if err := json.Unmarshal([]byte(c.Config), &out); err != nil {
		return ServiceVIPs{}, fmt.Errorf("read virtual addresses of services: %w", err)
	}
	if out == nil { // "null"
		out = ServiceVIPs{}
	}
	return out, nil
}

// Encode writes the addresses; equal ones give equal bytes.
func (v ServiceVIPs) Encode() (*Config, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write virtual addresses of services: %w", err)
	}
	return &Config{Config: string(b)}, nil
}

// ServiceVIPKey is the key of a value of kuma.io/service.
func ServiceVIPKey(service string) string { return serviceVIPKey + service }

// ServiceOfVIPKey is the reverse of ServiceVIPKey; false for other entries.
func ServiceOfVIPKey(key string) (service string, ok bool) {
	return strings.CutPrefix(key, serviceVIPKey)
}
