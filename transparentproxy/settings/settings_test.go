package settings

import (
	"errors"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// parse reads a command line as kumactl does.
func parse(t testing.TB, line string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("install", pflag.ContinueOnError)
	f.SetOutput(t.Output())
	Bind(f)
	if err := f.Parse(strings.Fields(line)); err != nil {
		t.Fatal(err)
	}
	return f
}

// from makes sources of a command line, variables without their prefix, and files.
func from(t testing.TB, line string, env, files map[string]string, stdin string) Sources {
	t.Helper()
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Sources{
		Flags: parse(t, line),
		LookupEnv: func(name string) (string, bool) {
			v, ok := env[strings.TrimPrefix(name, envPrefix)]
			return v, ok
		},
		ReadFile: func(path string) ([]byte, error) { return fs.ReadFile(dir, path) },
		Stdin:    strings.NewReader(stdin),
	}
}

var equate = cmpopts.EquateComparable(netip.Prefix{})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestDefaults(t *testing.T) {
	got, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Config: tp.DefaultConfig(), Options: Options{Wait: 5 * time.Second, MaxRetries: 4, RetryDelay: 2 * time.Second}}
	if diff := cmp.Diff(want, got, equate); diff != "" {
		t.Error(diff)
	}
	for _, s := range table {
		d := newDraft()
		if s.def == "" {
			continue
		}
		if err := s.apply(d, s.def); err != nil {
			t.Errorf("%s: its default: %v", s.key, err)
		}
		if diff := cmp.Diff(want, d.Settings, equate); diff != "" {
			t.Errorf("%s: the default that help shows is another: %s", s.key, diff)
		}
	}
}

var (
	word     = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	acronyms = strings.NewReplacer("DPUser", "Dp_User", "IPEnv", "Ip_Env", "IPs", "_Ips", "UIDs", "_Uids")
)

// TestNames holds the names together: variables are keys in capitals, and no name is used twice.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range table {
		snake := word.ReplaceAllString(acronyms.Replace(s.key), "${1}_$2")
		if want := strings.ReplaceAll(strings.ToUpper(strings.ReplaceAll(snake, ".", "_")), "__", "_"); s.env != want {
			t.Errorf("%s: variable %s, want %s", s.key, s.env, want)
		}
		for _, name := range []string{"key " + s.key, "--" + s.flag, s.annotation} {
			if seen[name] && name != "--" && name != "" {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if s.meaning == "" || s.kind == "" {
			t.Errorf("%s is not explained", s.key)
		}
	}
}

// TestEverySourceSetsTheSame gives each setting in each source that has it.
func TestEverySourceSetsTheSame(t *testing.T) {
	texts := map[string]string{
		"ipFamilyMode": "ipv4", "kumaDPUser": "1234", "redirect.inbound.port": "25006", "redirect.outbound.port": "25001", "redirect.dns.port": "25053",
		"redirect.inbound.includePorts": "80,8000-8100", "redirect.outbound.includePorts": "443", "redirect.inbound.excludePorts": "22,3000-3010",
		"redirect.outbound.excludePorts": "25", "redirect.inbound.excludePortsForIPs": "10.0.0.1,fd00::/8", "redirect.outbound.excludePortsForIPs": "172.16.0.0/12",
		"redirect.outbound.excludePortsForUIDs": "tcp:22:100000;7", "redirect.dns.resolvConfigPath": "/r", "redirect.vnet.networks": "br+:172.18.0.0/16",
		"log.level": "4", "wait": "9", "waitInterval": "1000", "retry.maxRetries": "1", "retry.sleepBetweenRetries": "500ms",
		"iptablesExecutables": "iptables:/a,iptables-save:/b,iptables-restore:/c",
	}
	for i := range table {
		s := &table[i]
		if strings.HasPrefix(s.key, "ebpf.") || s.key == "storeFirewalld" || s.key == "redirect.inbound.excludePortsForUIDs" {
			continue // have no value
		}
		text := texts[s.key]
		if s.kind == "bool" {
			text = map[string]string{"false": "true", "true": "false"}[s.def]
		}
		if text == "" {
			t.Errorf("%s: the test has no value", s.key)
			continue
		}
		t.Run(s.key, func(t *testing.T) {
			d := newDraft()
			if err := s.apply(d, text); err != nil {
				t.Fatal(err)
			}
			l := loader{draft: d}
			if err := l.finish(); err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(newDraft().Settings, d.Settings, equate) {
				t.Fatal("nothing is set")
			}
			yaml := "x"
			for _, key := range slices.Backward(strings.Split(s.key, ".")) {
				if yaml == "x" {
					yaml = key + ": '" + text + "'\n"
				} else {
					yaml = key + ":\n  " + strings.ReplaceAll(strings.TrimSuffix(yaml, "\n"), "\n", "\n  ") + "\n"
				}
			}
			sources := map[string]Sources{
				"variable": from(t, "", map[string]string{s.env: text}, nil, ""),
				"file":     from(t, "--config f", nil, map[string]string{"f": yaml}, ""),
			}
			if s.pairs {
				yaml = s.key + ": {" + strings.ReplaceAll(text, ":", ": ") + "}"
				sources["file"] = from(t, "--config f", nil, map[string]string{"f": yaml}, "")
			}
			if s.flag != "" {
				sources["flag"] = from(t, "--"+s.flag+"="+text, nil, nil, "")
			}
			if s.annotation != "" && s.words == nil && s.annotation != sidecarUID {
				sources["annotation"] = Sources{Annotations: map[string]string{s.annotation: text, probeProxyPort: "0"}}
			}
			for name, src := range sources {
				got, err := Load(src)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if diff := cmp.Diff(d.Settings, got, equate); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	files := map[string]string{
		"a": "redirect: {outbound: {port: 1}, inbound: {port: 2, excludePorts: [1, 2]}, dns: {enabled: true}}",
		"b": "redirect: {outbound: {port: 3}, inbound: {excludePorts: '3'}}",
	}
	outbound := func(s Settings) uint16 { return s.Config.Outbound.Port }
	for _, tc := range []struct {
		name, flags string
		env         map[string]string
		annotations map[string]string
		want        uint16
	}{
		{name: "file", flags: "--config a", want: 1},
		{name: "later file", flags: "--config a,b", want: 3},
		{name: "later flag of a file", flags: "--config b --config a", want: 1},
		{name: "annotation over file", flags: "--config a", annotations: map[string]string{"kuma.io/transparent-proxying-outbound-port": "4"}, want: 4},
		{
			name: "variable over annotation", flags: "--config a", env: map[string]string{"REDIRECT_OUTBOUND_PORT": "5"},
			annotations: map[string]string{"kuma.io/transparent-proxying-outbound-port": "4"}, want: 5,
		},
		{name: "flag over variable", flags: "--redirect-outbound-port 6 --config a", env: map[string]string{"REDIRECT_OUTBOUND_PORT": "5"}, want: 6},
		{name: "an empty variable is none", flags: "--config a", env: map[string]string{"REDIRECT_OUTBOUND_PORT": ""}, want: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := from(t, tc.flags, tc.env, files, "")
			src.Annotations = tc.annotations
			got, err := Load(src)
			if err != nil || outbound(got) != tc.want {
				t.Errorf("got %d, %v, want %d", outbound(got), err, tc.want)
			}
		})
	}

	// Objects are merged, lists are replaced.
	got := must(Load(from(t, "--config a --config b", nil, files, "")))
	if c := got.Config; c.Inbound.Port != 2 || !c.DNS.Enabled || c.Inbound.ExcludePorts.String() != "3" {
		t.Errorf("merged: %+v", c)
	}
	// A flag that may be repeated adds to itself and replaces the rest.
	got = must(Load(from(t, "--config a --exclude-inbound-ports 7 --exclude-inbound-ports 8,9", map[string]string{"REDIRECT_INBOUND_EXCLUDE_PORTS": "6"}, files, "")))
	if p := got.Config.Inbound.ExcludePorts.String(); p != "7,8,9" {
		t.Errorf("flags: %s", p)
	}
	got = must(Load(from(t, "--config a --exclude-inbound-ports=", nil, files, "")))
	if p := got.Config.Inbound.ExcludePorts; len(p) != 0 {
		t.Errorf("emptied: %v", p)
	}
}

// TestConfigForms has the forms of 2.9 and of its successor.
func TestConfigForms(t *testing.T) {
	const yaml = "redirect:\n  inbound:\n    port: 25006\n"
	files := map[string]string{"a.yaml": yaml, "b.json": `{"redirect":{"outbound":{"port":"25001"}}}`, "tab.json": "{\n\t\"redirect\": {\n\t\t\"inbound\": {\"port\": 25006}\n\t}\n}\n", "empty": "", "comment": "# none\n", "null": "redirect:\n  inbound:\n"}
	for _, tc := range []struct {
		name              string
		args              []string
		stdin             string
		inbound, outbound uint16
		warning           string
	}{
		{name: "path", args: []string{"--config", "a.yaml"}, inbound: 25006, outbound: 15001},
		{name: "paths", args: []string{"--config", "a.yaml, b.json"}, inbound: 25006, outbound: 25001},
		{name: "repeated", args: []string{"--config", "a.yaml", "--config", "b.json"}, inbound: 25006, outbound: 25001},
		{name: "standard input", args: []string{"--config", "-"}, stdin: yaml, inbound: 25006, outbound: 15001},
		{name: "standard input among files", args: []string{"--config", "b.json,-"}, stdin: yaml, inbound: 25006, outbound: 25001},
		{name: "inline JSON", args: []string{"--config", `{"redirect":{"inbound":{"port":25006}}}`}, inbound: 25006, outbound: 15001},
		{name: "inline YAML", args: []string{"--config", yaml}, inbound: 25006, outbound: 15001},
		{name: "inline YAML of one line", args: []string{"--config", "redirect: {inbound: {port: 25006}}"}, inbound: 25006, outbound: 15001},
		{name: "file of 2.9", args: []string{"--config-file", "a.yaml"}, inbound: 25006, outbound: 15001},
		{name: "standard input of 2.9", args: []string{"--config-file", "-"}, stdin: yaml, inbound: 25006, outbound: 15001},
		{name: "file over inline", args: []string{"--config-file", "a.yaml", "--config", `{"redirect":{"outbound":{"port":1}}}`}, inbound: 25006, outbound: 15001, warning: "--config is ignored"},
		{name: "tabs in JSON", args: []string{"--config", "tab.json"}, inbound: 25006, outbound: 15001},
		{name: "empty", args: []string{"--config", "empty,comment,null"}, inbound: 15006, outbound: 15001},
		{name: "nothing", args: []string{"--config", ""}, inbound: 15006, outbound: 15001},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := from(t, "", nil, files, tc.stdin)
			src.Flags = pflag.NewFlagSet("install", pflag.ContinueOnError)
			Bind(src.Flags)
			if err := src.Flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			got, err := Load(src)
			if err != nil || got.Config.Inbound.Port != tc.inbound || got.Config.Outbound.Port != tc.outbound {
				t.Errorf("got %d, %d, %v", got.Config.Inbound.Port, got.Config.Outbound.Port, err)
			}
			if w := strings.Join(got.Warnings, "\n"); (w == "") != (tc.warning == "") || !strings.Contains(w, tc.warning) {
				t.Errorf("got warnings %q, want %q", w, tc.warning)
			}
		})
	}
}

// TestKumasSerialisedConfig reads what Kuma writes.
func TestKumasSerialisedConfig(t *testing.T) {
	const text = `{"kumaDPUser":"5678","redirect":{"inbound":{"enabled":true,"port":15006,"includePorts":[],"excludePorts":[22,"80"],` +
		`"excludePortsForIPs":["10.0.0.1"],"excludePortsForUIDs":[],"insertRedirectInsteadOfAppend":false},"outbound":{"enabled":true,"port":15001,` +
		`"includePorts":[],"excludePorts":"443,8080","excludePortsForIPs":[],"excludePortsForUIDs":["tcp:53:1000"],"insertRedirectInsteadOfAppend":true},` +
		`"dns":{"enabled":true,"captureAll":false,"port":15053,"skipConntrackZoneSplit":false,"resolvConfigPath":"/etc/resolv.conf"}},` +
		`"ipFamilyMode":"dualstack","verbose":false,"dryRun":false,"wait":5,"waitInterval":0,"retry":{"maxRetries":4,"sleepBetweenRetries":"2s"},` +
		`"dropInvalidPackets":false,"storeFirewalld":false,"cniMode":false,"ebpf":{"enabled":false},"comments":{"disabled":false},"log":{"enabled":false,"level":7}}`
	got, err := Load(Sources{Files: []string{text}})
	if err != nil {
		t.Fatal(err)
	}
	want := newDraft().Settings
	want.Config.User, want.Config.DNS.Enabled, want.Config.Outbound.Insert = "5678", true, true
	want.Config.Inbound.ExcludePorts, want.Config.Outbound.ExcludePorts = must(tp.ParsePorts("22,80")), must(tp.ParsePorts("443,8080"))
	want.Config.Inbound.ExcludeIPs = must(tp.ParseIPs("10.0.0.1"))
	want.Config.Outbound.ExcludeUIDs = must(tp.ParseUIDExclusions("tcp:53:1000"))
	if diff := cmp.Diff(want, got, equate); diff != "" {
		t.Error(diff)
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, `"500ms"`: 500 * time.Millisecond, "2s": 2 * time.Second, "1000000": time.Millisecond, "0": 0, "1h": time.Hour,
	} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "soon", "-1s", "-1", `"5`, `"5"`, `""`} {
		if got, err := parseDuration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func TestDeadline(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		want time.Duration
	}{
		{Options{}, leastTime},
		{Options{Wait: 5 * time.Second, MaxRetries: 4, RetryDelay: 2 * time.Second}, leastTime + 33*time.Second},
		{Options{Wait: time.Hour}, mostTime},
		{Options{MaxRetries: 1 << 30, RetryDelay: 1 << 60, Wait: 1 << 60}, mostTime},
	} {
		if got := tc.o.Deadline(); got != tc.want {
			t.Errorf("%+v: got %v, want %v", tc.o, got, tc.want)
		}
	}
}

func TestReadErrorIsTold(t *testing.T) {
	src := Sources{Files: []string{"-"}, Stdin: brokenReader{}}
	if _, err := Load(src); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("got %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("out of luck") }
