package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/agent/nametable"
	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/dns"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// dynamicConfigSocket is where Envoy answers GET /dns, in the socket directory (contract dns.md §3.2).
const dynamicConfigSocket = "kuma-mesh-metric-config"

// DNS says how names resolve.
type DNS struct {
	Enabled bool `json:"enabled"` // default true
	// Port is where redirected queries arrive; default 15053.
	Port uint32 `json:"proxyPort"`
	// EnvoyPort is told to the control plane, which otherwise leaves the table of names out; nothing listens there.
	EnvoyPort uint32 `json:"envoyDnsPort"`
	// Networks are those of containers behind this host whose queries are redirected too, as in redirect.vnet.networks.
	Networks []string `json:"networks,omitempty"`
	// Upstreams are asked for other names than the mesh's, in this order; default those of ResolvConf.
	Upstreams  []string `json:"upstreams,omitempty"`
	ResolvConf string   `json:"resolvConf"` // default /etc/resolv.conf; it is read again when it changes
	// SearchDomains answers at once for a name of the mesh with a search domain behind it, see dns.Config.
	SearchDomains bool         `json:"searchDomains,omitempty"`
	CacheMaxTTL   Duration     `json:"cacheMaxTTL"` // default 30s; 0 keeps no answers
	CacheBytes    uint32       `json:"cacheBytes"`  // default 1 MiB
	ServeStale    Duration     `json:"serveStale,omitempty"`
	QueryLog      dns.QueryLog `json:"queryLog"` // default off
}

func defaultDNS() DNS {
	return DNS{
		Enabled: true, Port: dns.DefaultPort, EnvoyPort: 15054, ResolvConf: dns.DefaultResolvConf,
		CacheMaxTTL: Duration(30 * time.Second), CacheBytes: 1 << 20,
	}
}

func (c *Config) dnsSettings() []setting {
	d := &c.DNS
	return []setting{
		{"dns-enabled", "", "KUMA_DNS_ENABLED", "resolve names of the mesh", boolean(&d.Enabled)},
		{"dns-coredns-port", "", "KUMA_DNS_CORE_DNS_PORT", "port of the resolver (older name of --dns-proxy-port)", number(&d.Port)},
		{"dns-proxy-port", "", "KUMA_DNS_PROXY_PORT", "port of the resolver", number(&d.Port)},
		{"dns-envoy-port", "", "KUMA_DNS_ENVOY_DNS_PORT", "port told to the control plane as Envoy's", number(&d.EnvoyPort)},
		{"dns-networks", "", "KUMA_DNS_NETWORKS", "networks of containers behind this host whose queries are redirected here, as in --vnet of the redirection; known by itself with --transparent-proxy", func(f *pflag.FlagSet, name, short, help string) {
			f.StringSliceVarP(&d.Networks, name, short, d.Networks, help)
		}},
		{"dns-upstreams", "", "KUMA_DNS_UPSTREAMS", "name servers for other names, as address or address:port; default those of --dns-resolv-conf", func(f *pflag.FlagSet, name, short, help string) {
			f.StringSliceVarP(&d.Upstreams, name, short, d.Upstreams, help)
		}},
		{"dns-resolv-conf", "", "KUMA_DNS_RESOLV_CONF", "file that names the name servers for other names; read again when it changes", text(&d.ResolvConf)},
		{"dns-search-domains", "", "KUMA_DNS_SEARCH_DOMAINS", "answer NXDOMAIN at once for a name of the mesh with a search domain of --dns-resolv-conf behind it", boolean(&d.SearchDomains)},
		{"dns-cache-max-ttl", "", "KUMA_DNS_CACHE_MAX_TTL", "how long answers of name servers are kept at most; 0 keeps none", duration(&d.CacheMaxTTL)},
		{"dns-cache-bytes", "", "KUMA_DNS_CACHE_BYTES", "how much memory kept answers may take", number(&d.CacheBytes)},
		{"dns-serve-stale", "", "KUMA_DNS_SERVE_STALE", "how long after their time kept answers are given when no name server answers; 0 gives none", duration(&d.ServeStale)},
		{"dns-query-log", "", "KUMA_DNS_QUERY_LOG", "which queries to log: off, sample or all", func(f *pflag.FlagSet, name, short, help string) {
			f.TextVarP(&d.QueryLog, name, short, d.QueryLog, help)
		}},
		{"dns-enable-logging", "", "KUMA_DNS_ENABLE_LOGGING", "log all queries (older name of --dns-query-log=all)", d.logAll},
		c.ignored("dns-coredns-path", "KUMA_DNS_CORE_DNS_BINARY_PATH", "string"),
		c.ignored("dns-coredns-config-template-path", "KUMA_DNS_CORE_DNS_CONFIG_TEMPLATE_PATH", "string"),
		c.ignored("dns-server-config-dir", "KUMA_DNS_CONFIG_DIR", "string"),
		c.ignored("dns-prometheus-port", "KUMA_DNS_PROMETHEUS_PORT", "uint32"),
	}
}

// logAll is a switch: off leaves what --dns-query-log says.
func (d *DNS) logAll(f *pflag.FlagSet, name, short, help string) {
	f.VarPF(funcValue{func(v string) error {
		on, err := strconv.ParseBool(v)
		if err == nil && on {
			d.QueryLog = dns.QueryLogAll
		}
		return err
	}, "bool"}, name, short, help).NoOptDefVal = "true"
}

func (d *DNS) problems() (out []string) {
	if !d.Enabled {
		return nil
	}
	if d.Port > maxPort {
		out = append(out, ".CoreDNSPort has to be in [0, 65353] range")
	}
	if d.EnvoyPort > maxPort {
		out = append(out, ".EnvoyDNSPort has to be in [0, 65353] range")
	}
	if d.Port == 0 {
		out = append(out, ".ProxyPort has to be in (0, 65535] range")
	}
	if _, err := d.upstreams(); err != nil {
		out = append(out, ".Upstreams is not valid: "+err.Error())
	}
	if _, err := d.networks(); err != nil {
		out = append(out, ".Networks is not valid: "+err.Error())
	}
	if d.CacheMaxTTL < 0 || d.ServeStale < 0 {
		out = append(out, ".CacheMaxTTL and .ServeStale must not be negative")
	}
	return out
}

func (d *DNS) upstreams() ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range d.Upstreams {
		text = strings.TrimSpace(text)
		ap, err := netip.ParseAddrPort(text)
		if addr, bare := netip.ParseAddr(text); bare == nil {
			ap, err = netip.AddrPortFrom(addr, 53), nil
		}
		if err != nil || ap.Port() == 0 {
			return nil, fmt.Errorf("%q is neither an address nor address:port", text)
		}
		out = append(out, ap)
	}
	return out, nil
}

// networks reads networks with or without the interface before them, which redirection needs to know and the resolver not.
func (d *DNS) networks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range d.Networks {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if _, network, ok := strings.Cut(text, ":"); err != nil && ok {
			p, err = netip.ParsePrefix(network)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither a network, such as 172.17.0.0/16, nor interface:network", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// ResolveFor makes the resolver answer networks of containers whose queries are redirected to it. It must be called before
// Run.
func (a *Agent) ResolveFor(networks ...netip.Prefix) {
	for _, n := range networks {
		a.cfg.DNS.Networks = append(a.cfg.DNS.Networks, n.String())
	}
}

// resolverConfig is what the settings mean to the resolver.
func (c *Config) resolverConfig() (dns.Config, error) {
	d := &c.DNS
	upstreams, err := d.upstreams()
	networks, nerr := d.networks()
	four, six := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if len(networks) > 0 { // what they send arrives at the address of an interface that may not be there yet
		four, six = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	}
	cfg := dns.Config{
		Listen: []netip.AddrPort{netip.AddrPortFrom(four, uint16(d.Port))}, Networks: networks,
		Upstreams: upstreams, ResolvConf: d.ResolvConf, SearchDomains: d.SearchDomains,
		CacheMaxTTL: time.Duration(d.CacheMaxTTL), CacheBytes: int(d.CacheBytes), ServeStale: time.Duration(d.ServeStale), QueryLog: d.QueryLog,
	}
	if c.DataplaneRuntime.IPv6Enabled {
		cfg.Listen = append(cfg.Listen, netip.AddrPortFrom(six, uint16(d.Port)))
	}
	if d.CacheMaxTTL == 0 || d.CacheBytes == 0 {
		cfg.CacheBytes = -1 // none; 0 would be the default
	}
	return cfg, errors.Join(err, nerr)
}

// buildResolver makes the DNS server where queries are redirected to it, on a proxy with a transparent proxy, and what
// finds its table.
func (a *Agent) buildResolver(p *parts, dir *workdir, answer *bootstrap.Response) error {
	if !a.cfg.DNS.Enabled || !answer.Sidecar.Networking.IsUsingTransparentProxy {
		return nil
	}
	cfg, err := a.cfg.resolverConfig()
	if err != nil {
		return err
	}
	cfg.Log, cfg.Metrics = a.log.With("component", "dns"), p.own
	if p.resolver, err = dns.New(cfg); err != nil {
		return err
	}
	if err := p.resolver.Listen(); err != nil {
		return err
	}
	if p.names, err = nametable.New(nametable.Config{
		Socket:  bootstrap.SocketPath(dir.sockets, dynamicConfigSocket),
		Refresh: time.Duration(a.cfg.DataplaneRuntime.DynamicConfigRefresh),
		Set: func(table *dns.Table, source string) {
			p.resolver.SetTableSource(source)
			p.resolver.SetTable(table)
		},
		Labels: func(labels map[string]string) { p.metrics.LabelOwn(labels) }, Metrics: p.own, Log: cfg.Log,
	}); err != nil {
		return err
	}
	p.members = append(p.members,
		group.Member{Name: "dns", Run: p.resolver.Run},
		group.Member{Name: "names of the mesh", Run: p.names.Run})
	return nil
}

// dnsPage shows the resolver, or with a query how a name is resolved.
func dnsPage(ctx context.Context, resolver *dns.Server, query url.Values) (any, error) {
	if resolver == nil {
		return map[string]any{"enabled": false}, nil
	}
	if name := query.Get("query"); name != "" {
		qtype, err := dns.ParseType(query.Get("type"))
		if err != nil {
			return nil, err
		}
		return resolver.Trace(ctx, name, qtype), nil
	}
	records := map[string][]string{}
	if table := resolver.Table(); table != nil {
		for _, r := range table.Records() {
			for _, addr := range r.Addrs {
				records[r.Name] = append(records[r.Name], addr.String())
			}
		}
	}
	return map[string]any{"enabled": true, "records": records, "status": resolver.Status()}, nil
}
