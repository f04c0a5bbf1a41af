package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// TestWrongFlags has the texts of contract transparentproxy.md §1.1.
func TestWrongFlags(t *testing.T) {
	for _, tc := range []struct{ name, flag, want string }{
		{"port", "--exclude-inbound-ports=22,0", `invalid argument "22,0" for "--exclude-inbound-ports" flag: value '0' is not a valid port (uint16 in the range [1, 65535])`},
		{"port too high", "--exclude-outbound-ports=65536", "value '65536' is not a valid port"},
		{"included port", "--include-inbound-ports=a", "value 'a' is not a valid port"},
		{"one port", "--redirect-dns-port=1-2", "value '1-2' is not one port"},
		{"address", "--exclude-inbound-ips=foo", "invalid exclusion rule: invalid IP address: 'foo'. Expected format: <ip> or <ip>/<cidr>"},
		{"vnet", "--vnet=foo", "invalid virtual network definition: foo"},
		{"uid", "--exclude-outbound-ports-for-uids=*", "invalid UID '*'"},
		{"protocol", "--exclude-outbound-ports-for-uids=icmp:1:1", "invalid protocol 'icmp'"},
		{"mode", "--ip-family-mode=ipv6", "must be one of 'dualstack' or 'ipv4'"},
		{"bool", "--verbose=maybe", "value 'maybe' is neither true nor false"},
		{"duration", "--sleep-between-retries=soon", "value 'soon' is not a duration: expected one as 500ms or 2s"},
		{"wait", "--wait=-1", "value '-1' is not a number from 0 to"},
		{"wait too long", "--wait=99999999999", "is not a number from 0 to"},
		{"executable", "--iptables-executables=iptables", "value 'iptables' is not name:path"},
		{"executable of another name", "--iptables-executables=nft:/usr/sbin/nft", "with an absolute path and a name of iptables,"},
		{"relative path", "--iptables-executables=iptables:iptables", "with an absolute path"},
		{"ebpf", "--ebpf-enabled=maybe", "neither true nor false"},
		{"unknown", "--nope", "unknown flag: --nope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := pflag.NewFlagSet("install", pflag.ContinueOnError)
			f.SetOutput(t.Output())
			Bind(f)
			if err := f.Parse([]string{tc.flag}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWrongSources(t *testing.T) {
	for _, tc := range []struct {
		name, flags string
		env         map[string]string
		file        string // --config f
		stdin       string
		annotations map[string]string
		want        string
	}{
		{name: "both DNS flags", flags: "--redirect-dns --redirect-all-dns-traffic", want: "only one of '--redirect-dns' or '--redirect-all-dns-traffic' should be specified"},
		{name: "variable", env: map[string]string{"REDIRECT_DNS_PORT": "x"}, want: "variable KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_PORT: value 'x' is not a valid port"},
		{name: "level", env: map[string]string{"LOG_LEVEL": "8"}, want: "variable KUMA_TRANSPARENT_PROXY_LOG_LEVEL: value '8' is not a number from 0 to 7"},
		{name: "no file", flags: "--config none", want: "read settings: open none: file does not exist"},
		{name: "no file of 2.9", flags: "--config-file none", want: "open none: file does not exist"},
		{name: "standard input twice", flags: "--config -,-", want: "the standard input can be read only once"},
		{name: "unknown key", file: "redirect:\n  inbound:\n    prot: 15006\n", want: "read settings of f: line 3: redirect.inbound.prot: unknown key; known here: enabled, port, includePorts,"},
		{name: "unknown key at the top", file: "ipFamilyMode: ipv4\nredirects: {}\n", want: "line 2: redirects: unknown key; known here: dryRun, verbose, ipFamilyMode, kumaDPUser, redirect,"},
		{name: "key in other letters", file: "dryrun: true", want: "line 1: dryrun: unknown key"},
		{name: "key twice", file: "verbose: true\nverbose: true\n", want: "line 2: verbose: the key is given twice"},
		{name: "value", file: "redirect:\n  dns:\n    port: [1]\n", want: "line 3: redirect.dns.port: want one value"},
		{name: "port", file: "redirect:\n  inbound:\n    excludePorts: [22, 0]\n", want: "line 3: redirect.inbound.excludePorts: value '0' is not a valid port"},
		{name: "list of lists", file: "redirect: {inbound: {excludePorts: [[22]]}}", want: "redirect.inbound.excludePorts: want a value in the list"},
		{name: "object for a list", file: "redirect: {inbound: {excludePorts: {a: 1}}}", want: "want a value or a list of values"},
		{name: "value for an object", file: "redirect: 1", want: "line 1: redirect: want keys and values"},
		{name: "text", file: "hello", want: "line 1: want keys and values"},
		{name: "list", file: "- 1", want: "line 1: want keys and values"},
		{name: "list as a key", file: "? [a]\n: 1\n", want: "a key must be a text"},
		{name: "broken", file: "a: b: c", want: "read settings of f: mapping values are not allowed"},
		{name: "two documents", file: "verbose: true\n---\nverbose: true\n", want: "more than one document"},
		{name: "bool of YAML 1.1", file: "verbose: yes", want: "verbose: value 'yes' is neither true nor false"},
		{name: "inbound uids", file: "redirect: {inbound: {excludePortsForUIDs: ['1000']}}", want: "use redirect.outbound.excludePortsForUIDs"},
		{name: "executables as a list", file: "iptablesExecutables: [iptables:/a]", want: "iptablesExecutables: want names and paths"},
		{name: "executable", file: "iptablesExecutables: {nft: /a}", want: "value 'nft:/a' is not name:path"},
		{name: "firewalld", flags: "--store-firewalld", want: "storeFirewalld (--store-firewalld) is not supported"},
		{name: "firewalld in a file", file: "storeFirewalld: true", want: "leave it out"},
		{name: "in and out", flags: "--include-inbound-ports 80-90 --exclude-inbound-ports 85", want: "check settings: redirect.inbound: port 85 is in includePorts and in excludePorts"},
		{name: "in and out of two sources", flags: "--exclude-outbound-ports 1-65535", env: map[string]string{"REDIRECT_OUTBOUND_INCLUDE_PORTS": "443"}, want: "port 443 is in includePorts and in excludePorts"},
		{name: "same ports", flags: "--redirect-inbound-port 15001", want: "two different ports"},
		{name: "annotation", annotations: map[string]string{"traffic.kuma.io/exclude-inbound-ports": "0"}, want: "annotation traffic.kuma.io/exclude-inbound-ports: value '0' is not a valid port"},
		{name: "mode of an annotation", annotations: map[string]string{"kuma.io/transparent-proxying-ip-family-mode": "ipv6"}, want: "must be one of 'dualstack' or 'ipv4'"},
		{name: "gateway", annotations: map[string]string{"kuma.io/gateway": "builtin"}, want: "annotation kuma.io/gateway: value 'builtin' must be one of enabled, true, disabled, false"},
		{name: "on", annotations: map[string]string{"traffic.kuma.io/iptables-logs": "yes"}, want: "annotation traffic.kuma.io/iptables-logs: value 'yes' must be one of"},
		{name: "port of probes", annotations: map[string]string{probeProxyPort: "1-2"}, want: "annotation kuma.io/application-probe-proxy-port: value '1-2' is not one port"},
		{name: "settings in an annotation", annotations: map[string]string{wholeConfig: "a: 1"}, want: "read settings of annotation traffic.kuma.io/transparent-proxy-config: line 1: a: unknown key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.file != "" {
				tc.flags += " --config f"
			}
			src := from(t, tc.flags, tc.env, map[string]string{"f": tc.file}, tc.stdin)
			src.Annotations = tc.annotations
			got, err := Load(src)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %+v, %v, want one line with %q", got, err, tc.want)
			}
		})
	}
}

// TestNothingIsIgnoredSilently has what is accepted and has no effect.
func TestNothingIsIgnoredSilently(t *testing.T) {
	for _, tc := range []struct {
		name, flags string
		env         map[string]string
		annotations map[string]string
		want        string
	}{
		{name: "ebpf", flags: "--ebpf-enabled --ebpf-instance-ip 10.77.0.2", want: "eBPF is not used"},
		{name: "one option of ebpf", flags: "--ebpf-cgroup-path /x", want: "eBPF is not used"},
		{name: "ebpf in the environment", env: map[string]string{"EBPF_ENABLED": "true"}, want: "eBPF is not used"},
		{name: "ebpf in an annotation", annotations: map[string]string{"kuma.io/transparent-proxying-ebpf": "enabled"}, want: "eBPF is not used"},
		{name: "ebpf off", flags: "--ebpf-enabled=false", annotations: map[string]string{"kuma.io/transparent-proxying-ebpf": "disabled"}},
		{name: "some executables", flags: "--iptables-executables ip6tables:/a", want: "names some of ip6tables, ip6tables-save and ip6tables-restore, and not all"},
		{name: "misspelt annotation", annotations: map[string]string{"traffic.kuma.io/exclude-inbound-port": "22"}, want: "annotation traffic.kuma.io/exclude-inbound-port is not known"},
		{name: "ConfigMap", annotations: map[string]string{configMapName: "tproxy"}, want: "names the ConfigMap tproxy, which is not read"},
		{name: "ConfigMap that is given", flags: "--config {}", annotations: map[string]string{configMapName: "tproxy"}},
		{name: "annotations of others", annotations: map[string]string{"kuma.io/mesh": "default", "app": "x", "kuma.io/builtin-dns-logging": "true"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := from(t, tc.flags, tc.env, nil, "")
			src.Annotations = tc.annotations
			got, err := Load(src)
			if err != nil {
				t.Fatal(err)
			}
			if w := strings.Join(got.Warnings, "\n"); (w == "") != (tc.want == "") || !strings.Contains(w, tc.want) || len(got.Warnings) > 1 {
				t.Errorf("got warnings %q, want %q", w, tc.want)
			}
		})
	}
}

// TestRemovalNeedsLittle uninstalls where installing would refuse.
func TestRemovalNeedsLittle(t *testing.T) {
	f := pflag.NewFlagSet("uninstall", pflag.ContinueOnError)
	BindRemoval(f)
	if err := f.Parse([]string{"--dry-run", "--max-retries=1", "--ebpf-bpffs-path=/x"}); err != nil {
		t.Fatal(err)
	}
	if f.Lookup("redirect-dns") != nil || f.Lookup("config") != nil {
		t.Error("uninstalling has flags of installing")
	}
	env := map[string]string{"WAIT": "7", "STORE_FIREWALLD": "true", "REDIRECT_DNS_PORT": "x", "KUMA_DP_USER": "nobody"}
	src := from(t, "", env, nil, "")
	src.Flags = f
	got, err := LoadRemoval(src)
	if o := got.Options; err != nil || !o.DryRun || o.MaxRetries != 1 || o.Wait != 7*time.Second || len(got.Warnings) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	env["WAIT"] = "long"
	if _, err := LoadRemoval(src); err == nil {
		t.Error("no error about a setting that counts")
	}
}

func TestAnnotations(t *testing.T) {
	for _, tc := range []struct {
		name  string
		in    map[string]string
		check func(tp.Config) bool
	}{
		{"none", nil, func(c tp.Config) bool { return len(c.Inbound.ExcludePorts) == 0 }},
		{"port of probes", map[string]string{}, func(c tp.Config) bool { return c.Inbound.ExcludePorts.String() == "9001" }},
		{"another port of probes", map[string]string{probeProxyPort: "9", "traffic.kuma.io/exclude-inbound-ports": "22"}, func(c tp.Config) bool { return c.Inbound.ExcludePorts.String() == "22,9" }},
		{"no port of probes", map[string]string{probeProxyPort: "0"}, func(c tp.Config) bool { return len(c.Inbound.ExcludePorts) == 0 }},
		{"gateway", map[string]string{"kuma.io/gateway": "enabled"}, func(c tp.Config) bool { return !c.Inbound.Enabled }},
		{"no gateway", map[string]string{"kuma.io/gateway": "false"}, func(c tp.Config) bool { return c.Inbound.Enabled }},
		{"dns", map[string]string{"kuma.io/builtin-dns": "true", "kuma.io/builtin-dns-port": "53"}, func(c tp.Config) bool {
			return c.DNS.CaptureAll && !c.DNS.SkipZoneSplit && c.DNS.Port == 53
		}},
		{"user", map[string]string{"kuma.io/sidecar-uid": "1234"}, func(c tp.Config) bool { return c.User == "1234" && c.UIDOnly }},
		{"uids", map[string]string{"traffic.kuma.io/exclude-outbound-ports-for-uids": "tcp:22:1000;7"}, func(c tp.Config) bool { return len(c.Outbound.ExcludeUIDs) == 2 }},
		{"whole", map[string]string{wholeConfig: "redirect: {dns: {enabled: true}}", "kuma.io/gateway": "enabled"}, func(c tp.Config) bool {
			return c.DNS.Enabled && !c.DNS.CaptureAll && c.Inbound.Enabled && len(c.Inbound.ExcludePorts) == 0
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Load(Sources{Annotations: tc.in})
			if err != nil || !tc.check(got.Config) {
				t.Errorf("got %+v, %v", got.Config, err)
			}
		})
	}
	// As the downward API writes them.
	src := from(t, "--annotations-file a --kuma-dp-user kuma-dp", nil, map[string]string{"a": "kuma.io/sidecar-uid=\"1\"\ntraffic.kuma.io/transparent-proxy-config=\"redirect:\\n  dns: {enabled: true}\\n\"\n"}, "")
	got, err := Load(src)
	if err != nil || !got.Config.DNS.Enabled || got.Config.User != "kuma-dp" || got.Config.UIDOnly {
		t.Errorf("got %+v, %v", got.Config, err)
	}
	for name, text := range map[string]string{"no quotes": "a=b", "raw": "a=`b`", "character": "a='b'", "no key": `="b"`, "rest": `a="b" c`} {
		if got, err := parseAnnotations("\n" + text + "\n"); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		"redirect: {inbound: {excludePorts: [22, '80-90']}}", `{"ipFamilyMode":"ipv4","retry":{"sleepBetweenRetries":"2s"}}`, "a: &a [*a]", "? {a: b}\n: c", "<<: {verbose: true}",
		"iptablesExecutables: {iptables: /a}", "- 1\n--- 2", "redirect:\n\tdns:", "verbose: !!bool true", "&a redirect: &b {dns: *b}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, src := range []Sources{{Files: []string{"f"}, ReadFile: func(string) ([]byte, error) { return []byte(s), nil }}, {Annotations: map[string]string{wholeConfig: s}}} {
			got, err := Load(src)
			if err != nil {
				continue
			}
			checkSettings(t, got)
		}
	})
}

// FuzzTexts gives every flag and every annotation the same text.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"true", "22,80-90", "tcp:22:1000;7", "10.0.0.1,fd00::/8", "br+:10.0.0.0/8", `"5s"`, "iptables:/a,iptables-save:/b,iptables-restore:/c", "enabled", "ipv4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		flags := pflag.NewFlagSet("install", pflag.ContinueOnError)
		Bind(flags)
		annotations := map[string]string{}
		env := map[string]string{}
		for i := range table {
			one := &table[i]
			if one.flag != "" && one.flag != flagDNS && one.flag != "store-firewalld" {
				_ = flags.Set(one.flag, s) // what it refuses is not given
			}
			alone := map[string]string{one.annotation: s}
			if _, err := Load(Sources{Annotations: alone}); err == nil && one.annotation != "" {
				annotations[one.annotation] = s
			}
			env[envPrefix+one.env] = s
			_, _ = Load(Sources{LookupEnv: func(name string) (string, bool) { return s, name == envPrefix+one.env }})
		}
		if got, err := Load(Sources{Flags: flags, Annotations: annotations}); err == nil {
			checkSettings(t, got)
		}
		_, _ = Load(Sources{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	})
}

func FuzzAnnotationsFile(f *testing.F) {
	f.Add("a=\"b\"\nkuma.io/gateway=\"enabled\"\n")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parseAnnotations(s)
		if err != nil {
			return
		}
		if got, err := Load(Sources{Annotations: all}); err == nil {
			checkSettings(t, got)
		}
	})
}

// checkSettings wants a plan of what was accepted.
func checkSettings(t *testing.T, s Settings) {
	t.Helper()
	plan, err := tp.NewPlan(s.Config, tp.Host{UID: tp.DefaultUID, IPv6: true, ConntrackZones: true})
	if err != nil {
		t.Fatalf("accepted, and then: %v", err)
	}
	if err := plan.Check(); err != nil {
		t.Fatal(err)
	}
	if d := s.Options.Deadline(); d < leastTime || d > mostTime {
		t.Fatalf("deadline %v", d)
	}
}
