package settings

import (
	"net/netip"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// envPrefix begins all environment variables.
const envPrefix = "KUMA_TRANSPARENT_PROXY_"

// setting is one thing that people can ask for, and its name in each source; empty where it has none.
type setting struct {
	key, env, flag, annotation string
	// words turns the annotation's text into the setting's; empty is not said. nil takes on and off for a bool, else all.
	words func(string) (string, error)
	// def is the default as text.
	def string
	// removal says that uninstalling takes it as well.
	removal bool
	value
	meaning string
}

// table has all settings, in the order of contract transparentproxy.md §1.
var table = []setting{
	{
		key: "dryRun", env: "DRY_RUN", flag: "dry-run", def: "false", removal: true,
		value:   boolean(func(d *draft) *bool { return &d.Options.DryRun }),
		meaning: "print the rules and change nothing",
	},
	{
		key: "verbose", env: "VERBOSE", flag: "verbose", def: "false", removal: true,
		value:   boolean(func(d *draft) *bool { return &d.Options.Verbose }),
		meaning: "print the rules with long option names and headings",
	},
	{
		key: "ipFamilyMode", env: "IP_FAMILY_MODE", flag: "ip-family-mode", annotation: "kuma.io/transparent-proxying-ip-family-mode", def: string(tp.DualStack),
		value:   familyMode(),
		meaning: "redirect 'dualstack' (IPv4 and IPv6) or 'ipv4'",
	},
	{
		key: "kumaDPUser", env: "KUMA_DP_USER", flag: "kuma-dp-user", annotation: sidecarUID,
		value:   user(),
		meaning: "name or UID of the user that runs kuma-dp (default: UID 5678, or else the user kuma-dp)",
	},
	{
		key: "redirect.inbound.enabled", env: "REDIRECT_INBOUND_ENABLED", flag: "redirect-inbound", annotation: "kuma.io/gateway", words: gateway, def: "true",
		value:   boolean(func(d *draft) *bool { return &d.Config.Inbound.Enabled }),
		meaning: "redirect inbound traffic; switch it off on gateways",
	},
	{
		key: "redirect.inbound.port", env: "REDIRECT_INBOUND_PORT", flag: "redirect-inbound-port", annotation: "kuma.io/transparent-proxying-inbound-port", def: "15006",
		value:   port(func(d *draft) *uint16 { return &d.Config.Inbound.Port }),
		meaning: "port on which Envoy takes inbound traffic",
	},
	{
		key: "redirect.inbound.includePorts", env: "REDIRECT_INBOUND_INCLUDE_PORTS", flag: "include-inbound-ports",
		value:   ports(func(d *draft) *tp.Ports { return &d.Config.Inbound.IncludePorts }),
		meaning: "if given, the only ports of this host that are redirected: a comma-separated list of ports and ranges a-b",
	},
	{
		key: "redirect.inbound.excludePorts", env: "REDIRECT_INBOUND_EXCLUDE_PORTS", flag: "exclude-inbound-ports", annotation: "traffic.kuma.io/exclude-inbound-ports",
		value:   ports(func(d *draft) *tp.Ports { return &d.Config.Inbound.ExcludePorts }),
		meaning: "ports of this host that are not redirected: a comma-separated list of ports and ranges a-b",
	},
	{
		key: "redirect.inbound.excludePortsForIPs", env: "REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_IPS", flag: "exclude-inbound-ips", annotation: "traffic.kuma.io/exclude-inbound-ips",
		value:   list("addresses", func(d *draft) *[]netip.Prefix { return &d.Config.Inbound.ExcludeIPs }, tp.ParseIPs),
		meaning: "addresses or ranges whose connections are not redirected; may be repeated",
	},
	{
		key: "redirect.inbound.excludePortsForUIDs", env: "REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS",
		value:   noInboundUIDs(),
		meaning: "refused unless empty: connections from elsewhere have no user on this host",
	},
	{
		key: "redirect.inbound.insertRedirectInsteadOfAppend", env: "REDIRECT_INBOUND_INSERT_REDIRECT_INSTEAD_OF_APPEND",
		flag: "redirect-inbound-insert-instead-of-append", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.Inbound.Insert }),
		meaning: "put inbound redirection before rules of others",
	},
	{
		key: "redirect.outbound.enabled", env: "REDIRECT_OUTBOUND_ENABLED", def: "true",
		value:   boolean(func(d *draft) *bool { return &d.Config.Outbound.Enabled }),
		meaning: "redirect outbound traffic",
	},
	{
		key: "redirect.outbound.port", env: "REDIRECT_OUTBOUND_PORT", flag: "redirect-outbound-port", annotation: "kuma.io/transparent-proxying-outbound-port", def: "15001",
		value:   port(func(d *draft) *uint16 { return &d.Config.Outbound.Port }),
		meaning: "port on which Envoy takes outbound traffic",
	},
	{
		key: "redirect.outbound.includePorts", env: "REDIRECT_OUTBOUND_INCLUDE_PORTS", flag: "include-outbound-ports",
		value:   ports(func(d *draft) *tp.Ports { return &d.Config.Outbound.IncludePorts }),
		meaning: "if given, the only ports of others that are redirected: a comma-separated list of ports and ranges a-b",
	},
	{
		key: "redirect.outbound.excludePorts", env: "REDIRECT_OUTBOUND_EXCLUDE_PORTS", flag: "exclude-outbound-ports", annotation: "traffic.kuma.io/exclude-outbound-ports",
		value:   ports(func(d *draft) *tp.Ports { return &d.Config.Outbound.ExcludePorts }),
		meaning: "ports of others that are not redirected: a comma-separated list of ports and ranges a-b",
	},
	{
		key: "redirect.outbound.excludePortsForIPs", env: "REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_IPS", flag: "exclude-outbound-ips", annotation: "traffic.kuma.io/exclude-outbound-ips",
		value:   list("addresses", func(d *draft) *[]netip.Prefix { return &d.Config.Outbound.ExcludeIPs }, tp.ParseIPs),
		meaning: "addresses or ranges to which connections are not redirected; may be repeated",
	},
	{
		key: "redirect.outbound.excludePortsForUIDs", env: "REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS",
		flag: "exclude-outbound-ports-for-uids", annotation: "traffic.kuma.io/exclude-outbound-ports-for-uids",
		value: list("[protocols:[ports:]]uids", func(d *draft) *[]tp.UIDExclusion { return &d.Config.Outbound.ExcludeUIDs },
			tp.ParseUIDExclusions),
		meaning: "traffic of users that is not redirected, several separated by semicolons; may be repeated",
	},
	{
		key: "redirect.outbound.insertRedirectInsteadOfAppend", env: "REDIRECT_OUTBOUND_INSERT_REDIRECT_INSTEAD_OF_APPEND",
		flag: "redirect-outbound-insert-instead-of-append", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.Outbound.Insert }),
		meaning: "put outbound redirection before rules of others",
	},
	{
		key: "redirect.dns.enabled", env: "REDIRECT_DNS_ENABLED", flag: flagDNS, def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.DNS.Enabled }),
		meaning: "redirect DNS queries to the servers of /etc/resolv.conf to kuma-dp",
	},
	{
		key: "redirect.dns.captureAll", env: "REDIRECT_DNS_CAPTURE_ALL", flag: flagAllDNS, annotation: "kuma.io/builtin-dns", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.DNS.CaptureAll }),
		meaning: "redirect every DNS query to kuma-dp",
	},
	{
		key: "redirect.dns.port", env: "REDIRECT_DNS_PORT", flag: "redirect-dns-port", annotation: "kuma.io/builtin-dns-port", def: "15053",
		value:   port(func(d *draft) *uint16 { return &d.Config.DNS.Port }),
		meaning: "port on which kuma-dp answers DNS queries",
	},
	{
		key: "redirect.dns.skipConntrackZoneSplit", env: "REDIRECT_DNS_SKIP_CONNTRACK_ZONE_SPLIT", flag: "skip-dns-conntrack-zone-split", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.DNS.SkipZoneSplit }),
		meaning: "do not keep the queries of applications and kuma-dp apart in conntrack zones",
	},
	{
		key: "redirect.dns.resolvConfigPath", env: "REDIRECT_DNS_RESOLV_CONFIG_PATH", def: tp.DefaultResolvConfPath,
		value:   text(func(d *draft) *string { return &d.Config.DNS.ResolvConfPath }),
		meaning: "file that lists the DNS servers",
	},
	{
		key: "redirect.vnet.networks", env: "REDIRECT_VNET_NETWORKS", flag: "vnet",
		value:   list("interface:network", func(d *draft) *[]tp.VNet { return &d.Config.VNets }, parseVNets),
		meaning: "network of containers behind an interface of this host to redirect as well; a name may end in +; may be repeated",
	},
	{
		key: "dropInvalidPackets", env: "DROP_INVALID_PACKETS", flag: "drop-invalid-packets", annotation: "traffic.kuma.io/drop-invalid-packets", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.DropInvalid }),
		meaning: "drop packets that belong to no connection",
	},
	{
		key: "log.enabled", env: "LOG_ENABLED", flag: "iptables-logs", annotation: "traffic.kuma.io/iptables-logs", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Config.Log }),
		meaning: "log the first packet of each connection to the kernel log",
	},
	{
		key: "log.level", env: "LOG_LEVEL", def: "7",
		value:   number("level", 7, func(d *draft, n uint64) { d.Config.LogLevel = uint8(n) }),
		meaning: "level of those messages, from 0 to 7",
	},
	{
		key: "comments.disabled", env: "COMMENTS_DISABLED", flag: "disable-comments", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Options.NoComments }),
		meaning: "leave comments out of rules, for kernels without them",
	},
	{
		key: "wait", env: "WAIT", flag: "wait", def: "5", removal: true,
		value:   duration(time.Second, func(d *draft) *time.Duration { return &d.Options.Wait }),
		meaning: "seconds to wait for another iptables to finish; 0 does not wait",
	},
	{
		key: "waitInterval", env: "WAIT_INTERVAL", flag: "wait-interval", def: "0", removal: true,
		value:   duration(time.Microsecond, func(d *draft) *time.Duration { return &d.Options.WaitInterval }),
		meaning: "microseconds between looking whether another iptables has finished; only old versions of legacy iptables heed it",
	},
	{
		key: "retry.maxRetries", env: "RETRY_MAX_RETRIES", flag: "max-retries", def: "4", removal: true,
		value:   number("uint", maxCount, func(d *draft, n uint64) { d.Options.MaxRetries = int(n) }),
		meaning: "how often to try again when iptables fails for a reason that may pass",
	},
	{
		key: "retry.sleepBetweenRetries", env: "RETRY_SLEEP_BETWEEN_RETRIES", flag: "sleep-between-retries", def: "2s", removal: true,
		value: value{kind: "duration", set: func(d *draft, s string) (err error) {
			d.Options.RetryDelay, err = parseDuration(s)
			return err
		}},
		meaning: "time between such tries",
	},
	{
		key: "iptablesExecutables", env: "IPTABLES_EXECUTABLES", flag: "iptables-executables", removal: true,
		value: executables(),
		meaning: "binaries to use instead of those found: name:path pairs separated by commas, with all three names of a family " +
			"(iptables, iptables-save, iptables-restore or ip6tables, ip6tables-save, ip6tables-restore)",
	},
	{
		key: "storeFirewalld", env: "STORE_FIREWALLD", flag: "store-firewalld", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.firewalld }),
		meaning: "not supported: an error says what to do instead",
	},
	{
		key: "cniMode", env: "CNI_MODE", flag: "cni-mode", def: "false",
		value:   boolean(func(d *draft) *bool { return &d.Options.Sandbox }),
		meaning: "work for the network namespace of a pod: take the user for a UID, and keep iptables from user database and lock of the host",
	},
	{
		key: "ebpf.enabled", env: "EBPF_ENABLED", flag: "ebpf-enabled", annotation: "kuma.io/transparent-proxying-ebpf", def: "false", removal: true,
		value: ebpf("bool"), meaning: noEBPF,
	},
	{key: "ebpf.instanceIP", env: "EBPF_INSTANCE_IP", flag: "ebpf-instance-ip", value: ebpf("string"), meaning: noEBPF},
	{key: "ebpf.instanceIPEnvVarName", env: "EBPF_INSTANCE_IP_ENV_VAR_NAME", value: ebpf("string"), meaning: noEBPF},
	{key: "ebpf.bpffsPath", env: "EBPF_BPFFS_PATH", flag: "ebpf-bpffs-path", removal: true, value: ebpf("string"), meaning: noEBPF},
	{key: "ebpf.cgroupPath", env: "EBPF_CGROUP_PATH", flag: "ebpf-cgroup-path", value: ebpf("string"), meaning: noEBPF},
	{key: "ebpf.programsSourcePath", env: "EBPF_PROGRAMS_SOURCE_PATH", flag: "ebpf-programs-source-path", value: ebpf("string"), meaning: noEBPF},
	{key: "ebpf.tcAttachIface", env: "EBPF_TC_ATTACH_IFACE", flag: "ebpf-tc-attach-iface", value: ebpf("string"), meaning: noEBPF},
}

const (
	flagDNS    = "redirect-dns"
	flagAllDNS = "redirect-all-dns-traffic"
	noEBPF     = "no effect but a warning: netfilter is used"
)

// Reference is a setting as documentation shows it. Names are empty where a source does not have the setting.
type Reference struct{ Flag, Env, Key, Annotation, Default, Meaning string }

// References lists all settings.
func References() []Reference {
	var out []Reference
	for _, s := range table {
		out = append(out, Reference{Flag: s.flag, Env: envPrefix + s.env, Key: s.key, Annotation: s.annotation, Default: s.def, Meaning: s.meaning})
	}
	return out
}
